"""Probes: CLIP_benchmark's own loop as referee, few-shot draws, errors, and what two models' probes are compared by."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from cocabench.core.errors import CocabenchError, DataError, ModelError
from cocabench.core.types import (
    Context,
    Dataset,
    Example,
    Features,
    ImageFeatures,
    ImageSource,
    Machine,
    Note,
    Schedule,
)
from cocabench.kinds.probe import Probe
from cocabench.kinds.testing import check_kind
from cocabench.metrics.base import Samples, estimate, stack
from cocabench.metrics.statistics import compare
from cocabench.models.probes import AdamW

CLASSES = ("ant", "bee", "cow", "dog", "emu", "fox")
WIDTH = 12


@dataclass(frozen=True)
class Picture:
    """An image that is its own feature, drawn by its seed about the centre of its class."""

    label: int
    seed: int

    def open(self) -> Any:
        raise AssertionError("not decoded")

    def row(self, noise: float) -> Features:
        centres = np.random.default_rng(0).normal(size=(len(CLASSES), WIDTH))
        return (centres[self.label] + noise * np.random.default_rng(self.seed).normal(size=WIDTH)).astype(np.float32)


@dataclass
class Clear:
    """A model that sees classes through noise; rows are pooled ones, of length 1 if asked."""

    noise: float = 1.0
    pooled: bool = True
    texts: bool = True
    unreadable: frozenset[int] = frozenset()
    collapsed: bool = False
    id: str = "clear"

    def encode_images(
        self, images: Sequence[ImageSource], *, output: str = "projected", normalize: bool = True, progress: Any = None
    ) -> ImageFeatures:
        if output == "pooled" and not self.pooled:
            raise ModelError(self.id, "a model without features before the projection", wanted="projected ones")
        kept = [i for i, image in enumerate(images) if image.seed not in self.unreadable]
        rows = np.stack([images[0 if self.collapsed else i].row(self.noise) for i in kept])
        return ImageFeatures(rows / np.linalg.norm(rows, axis=1, keepdims=True) if normalize else rows, np.array(kept))

    def encode_texts(self, texts: Sequence[str], **_: Any) -> Features:
        if not self.texts:
            raise ModelError(self.id, "a model that cannot encode texts")
        rows = np.stack([Picture(CLASSES.index(text), 0).row(0.0) for text in texts])
        return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


def split(name: str, each: int, first: int, classes: Sequence[str] = CLASSES) -> Dataset:
    examples = [Example(f"{name}{i:03d}", Picture(i % len(CLASSES), first + i), label=i % 6) for i in range(6 * each)]
    return Dataset("animals", name, examples, tuple(classes), ("{c}",))


TEST, TRAIN, VAL = split("test", 20, 1), split("train", 30, 1001), split("val", 10, 2001)
CPU = AdamW("cpu")


def context(further: Mapping[str, Dataset] | None = None, notes: list[Note] | None = None) -> Context:
    note = (notes if notes is not None else []).append
    return Context(note=note, data=further or {"train": TRAIN, "val": VAL}, solve=CPU)


def samples(kind: Probe, model: Clear | None = None, data: Dataset = TEST, **more: Any) -> Samples:
    return stack(kind.score(model or Clear(), data, context(**more)))  # type: ignore[arg-type]


def values(kind: Probe, frame: Samples) -> dict[str, float | None]:
    return {metric.name: estimate(metric, frame).value for metric in kind.metrics(TEST)}


# The referee


class Cpu(str):
    """A device that clip_benchmark takes for cuda and torch for the CPU."""

    def __eq__(self, other: object) -> bool:
        return other in ("cuda", "cpu")

    __hash__ = str.__hash__


@pytest.fixture
def their_loop(monkeypatch: pytest.MonkeyPatch) -> Any:
    """clip_benchmark's linear_probe, with what calls CUDA replaced, and its accuracy, which numpy 2.4 refuses."""
    from clip_benchmark.metrics import linear_probe

    monkeypatch.setattr(torch.nn.Module, "cuda", lambda self: self)
    monkeypatch.setattr(torch.Tensor, "cuda", lambda self: self)
    monkeypatch.setattr(linear_probe, "DataLoader", lambda *a, pin_memory, **k: torch.utils.data.DataLoader(*a, **k))
    monkeypatch.setattr(linear_probe, "accuracy", top_k)
    return linear_probe.evaluate


def top_k(logits: torch.Tensor, target: torch.Tensor, topk: Sequence[int]) -> list[float]:
    best = logits.topk(max(topk), 1).indices == target[:, None]
    return [float(best[:, :k].any(dim=1).double().mean()) for k in topk]


def theirs(
    evaluate: Any, folder: Path, shots: int, seed: int, val: Dataset | None, *, device: str = Cpu("cpu")
) -> dict[str, float]:
    """Return the result of clip_benchmark on our features, its permutation seeded as ours."""
    model = Clear()
    (folder / "model").mkdir()
    for name, data in (("train", TRAIN), ("val", val), ("test", TEST)):
        if data is not None:
            rows = torch.from_numpy(model.encode_images([e.image for e in data.examples]).rows)
            torch.save(rows, folder / f"model/features_{name}.pt")
            torch.save(torch.tensor([e.label for e in data.examples]), folder / f"model/targets_{name}.pt")
    torch.manual_seed(seed)
    found: dict[str, float] = evaluate(
        None, None, None, shots, 64, 0, 0.1, 10, "model", seed, str(folder), device, val_dataloader=val, amp=False
    )
    return found


@pytest.mark.slow
@pytest.mark.parametrize("val", [VAL, None], ids=["with validation images", "without"])
@pytest.mark.parametrize(("shots", "seed"), [(-1, 0), (-1, 3), (5, 3)])
def test_clip_benchmark_itself_gives_the_same(
    their_loop: Any, tmp_path: Path, shots: int, seed: int, val: Dataset | None
) -> None:
    ours: int | str = "all" if shots < 0 else shots
    kind = Probe(probe="clip_benchmark", shots=(ours,), seeds=(seed,), val="val" if val else "", val_share=0.0)
    further = {"train": TRAIN, **({"val": VAL} if val else {})}
    found = values(kind, samples(kind, further=further))
    state = torch.random.get_rng_state()
    expected = theirs(their_loop, tmp_path, shots, seed, val)
    suffix = "" if shots < 0 else f"@{shots}shot"
    for name in ("acc1", "acc5", "mean_per_class_recall"):
        assert found[f"{name}{suffix}"] == pytest.approx(expected[f"lp_{name}"], abs=1e-12)
    assert 0.5 < expected["lp_acc1"] < 1
    torch.random.set_rng_state(state)


def test_a_training_is_clip_benchmarks_to_the_bit_and_leaves_torchs_random_state(their_loop: Any) -> None:
    from clip_benchmark.metrics import linear_probe

    rows = Clear().encode_images([e.image for e in TRAIN.examples]).rows
    labels = np.array([e.label for e in TRAIN.examples])
    torch.manual_seed(11)
    before = torch.random.get_rng_state()
    weights, bias = CPU(rows, labels, 0.01, Schedule(0.1, 3, 64, 5))
    assert torch.equal(torch.random.get_rng_state(), before)
    items = linear_probe.FeatureDataset(torch.from_numpy(rows), torch.from_numpy(labels))
    loader = torch.utils.data.DataLoader(items, batch_size=64, shuffle=True)
    module = linear_probe.train(loader, WIDTH, 6, 0.01, 0.1, 3, False, Cpu("cpu"), 5).module
    np.testing.assert_array_equal(module.weight.detach().numpy(), weights)
    np.testing.assert_array_equal(module.bias.detach().numpy(), bias)


# Scores


@pytest.mark.parametrize("name", ["ridge", "clip", "clip_benchmark", "knn"])
def test_each_probe_scores_and_its_samples_are_as_declared(name: str) -> None:
    kind = Probe(probe=name, shots=(5, "all"), seeds=(0, 1))  # type: ignore[arg-type]
    frame = samples(kind)
    check_kind(kind, frame)
    found = values(kind, frame)
    assert 0.5 < (found["acc1@5shot"] or 0) < 1
    assert (found["acc1"] or 0) > (found["acc1@5shot"] or 0)
    assert found["zeroshot_acc1"] == values(Probe(), samples(Probe()))["zeroshot_acc1"]
    assert len(frame) == len(TEST) * (1 + 2 + 1), "zero-shot, two draws, all"


def test_features_of_another_class_score_chance_or_less() -> None:
    """Must fail: training labels that say nothing of the images."""
    mixed = [replace(e, label=(e.label + i // 6) % 6) for i, e in enumerate(TRAIN.examples)]  # type: ignore[operator]
    kind = Probe(shots=("all",), zero_shot=False)
    found = values(kind, samples(kind, further={"train": replace(TRAIN, examples=mixed)}))
    assert (found["acc1"] or 0) < 0.35
    assert found.keys() == {"acc1", "acc5", "mean_per_class_recall"}


def test_shots_and_seeds_choose_the_training_images() -> None:
    kind = Probe(shots=(2,), seeds=(4,), zero_shot=False)
    labels = np.array([e.label for e in TRAIN.examples])
    rng = np.random.default_rng(4)
    taken = np.concatenate([rng.permutation(np.flatnonzero(labels == k))[:2] for k in range(6)])
    alone = replace(TRAIN, examples=[TRAIN.examples[i] for i in taken])
    whole = Probe(shots=("all",), zero_shot=False)
    few, every = samples(kind), samples(whole, further={"train": alone})
    assert list(few["n_above"]) == list(every["n_above"])
    assert next(iter(few["id"])) == "test000 2-shot 4"


def test_the_order_of_the_training_images_draws_no_others() -> None:
    for kind in (Probe(shots=(2, "all")), Probe(probe="clip_benchmark", shots=(2,)), Probe(l2="auto", shots=("all",))):
        turned = replace(TRAIN, examples=TRAIN.examples[::-1])
        one, other = (samples(kind, further={"train": data}) for data in (TRAIN, turned))
        assert list(one["n_above"]) == list(other["n_above"])


def test_validation_images_train_the_final_classifier_of_all_images_only(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    solve = AdamW.__call__

    def counted(self: AdamW, rows: Features, *rest: Any) -> Any:
        seen.append(len(rows))
        return solve(self, rows, *rest)

    monkeypatch.setattr(AdamW, "__call__", counted)
    for shots, last in (("all", 180 + 60), (5, 30)):
        samples(Probe(probe="clip_benchmark", shots=(shots,), seeds=(0,), val="val", zero_shot=False))  # type: ignore[arg-type]
        assert seen[-1] == last
    samples(Probe(probe="clip_benchmark", shots=("all",), zero_shot=False), further={"train": TRAIN})
    assert (seen[-2], seen[-1]) == (144, 180), "a fifth of the training images is held out"


def test_a_model_without_texts_has_no_zero_shot_score_and_a_note_says_why() -> None:
    notes: list[Note] = []
    kind = Probe(shots=("all",))
    found = values(kind, samples(kind, Clear(texts=False), notes=notes))
    assert (found["zeroshot_acc1"], notes) == (
        None,
        [Note("model", "no zero-shot accuracy: clear: a model that cannot encode texts")],
    )
    assert (found["acc1"] or 0) > 0.5


def test_a_probe_that_gives_one_answer_is_noted() -> None:
    most = [*TRAIN.examples[:6], *(replace(e, label=2) for e in TRAIN.examples[6:])]
    kind = Probe(shots=("all",), l2=1e6, zero_shot=False)
    frame = samples(kind, Clear(noise=5.0), further={"train": replace(TRAIN, examples=most)})
    assert [note.text for note in kind.sample_notes(TEST, frame)] == ["the probe classifies 120 of 120 images as 'cow'"]
    assert not list(kind.sample_notes(TEST, samples(kind)))


def test_a_search_that_does_not_converge_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cocabench.kinds.probing.ITERATIONS", 1)
    notes: list[Note] = []
    samples(Probe(probe="clip", zero_shot=False), notes=notes)
    assert {note.code for note in notes} == {"not_converged"}


def test_test_images_among_the_training_images_are_noted_whatever_their_names() -> None:
    """Copies under other names, as in two archives of one data set."""
    copies = [replace(example, id=f"copy of {example.id}") for example in TEST.examples[:3]]
    leaking = replace(TRAIN, examples=[*TRAIN.examples, *copies])
    kind = Probe(probe="knn", zero_shot=False)
    notes: list[Note] = []
    samples(kind, further={"train": leaking, "val": VAL}, notes=notes)
    assert [(note.code, note.text.partition(" have")[0]) for note in notes] == [
        ("leaked_images", "3 of 120 test images")
    ]
    notes.clear()
    samples(kind, notes=notes)
    samples(kind, Clear(noise=0.0, collapsed=True), notes=notes)
    assert notes == []


def test_images_that_cannot_be_read_train_nothing() -> None:
    model = Clear(unreadable=frozenset({1001, 1}))
    assert len(samples(Probe(shots=("all",), zero_shot=False), model)) == len(TEST) - 1
    with pytest.raises(DataError, match="30 shots: 1 of the 180 training images drawn could not be read"):
        samples(Probe(shots=(30,), zero_shot=False), model)


# Differences


def test_two_models_probes_are_compared_paired_and_draws_widen_the_difference() -> None:
    kind = Probe(shots=(1, "all"), zero_shot=False)
    one, other = samples(kind, Clear(0.8)), samples(kind, Clear(1.6))
    metrics = {metric.name: metric for metric in kind.metrics(TEST)}
    for name in ("acc1", "acc1@1shot", "mean_per_class_recall@1shot"):
        found = compare(metrics[name], one, other)
        assert found.value == pytest.approx((values(kind, one)[name] or 0) - (values(kind, other)[name] or 0))
        assert found.low < found.value < found.high
    assert compare(metrics["acc1"], one, other).p_value < 0.001
    few = metrics["acc1@1shot"]
    same = one.assign(n_above=np.where(one["seed"] == 0, one["n_above"], 0))
    single = compare(few, one[one["seed"] == 0], other[other["seed"] == 0])
    assert compare(few, same, other).error > single.error, "draws that disagree"


def test_the_interval_of_few_shots_covers_images_and_draws_by_hand() -> None:
    """100 images, three draws of 0.6, 0.7, 0.8: s²/3 = 0.01/3 between draws, beside the images' variance."""
    kind = Probe(shots=(1,), zero_shot=False)
    rows = [
        {"id": f"{i} {seed}", "image_id": f"{i}", "label": i % 2, "shots": 1, "seed": seed, "n_above": int(i >= hits)}
        for seed, hits in enumerate((60, 70, 80))
        for i in range(100)
    ]
    frame = stack([]).from_records(rows).assign(tied_negatives=0, identical=0, tied_positives=1)
    metric = kind.metrics(TEST)[0]
    found = estimate(metric, frame)
    assert (found.value, found.n) == (pytest.approx(0.7), 100)
    alone = estimate(metric, frame[frame["seed"] == 1])
    assert found.low is not None
    assert found.high is not None
    assert alone.low is not None
    assert alone.high is not None
    assert found.high - found.low > 1.2 * (alone.high - alone.low)
    assert found.high - found.low > 2 * 1.96 * math.sqrt(0.01 / 3)


# What is wrong


def one_class(data: Dataset) -> Dataset:
    return replace(data, examples=[e for e in data.examples if e.label == 2])


@pytest.mark.parametrize(
    ("params", "further", "said"),
    [
        ({}, {"train": TEST}, "animals: train = 'train': no such split: the images are those of the test data; set"),
        ({}, {"train": one_class(TRAIN)}, "train = 'train': all 30 training images are of class 'cow'; wanted two"),
        ({}, {"train": split("t", 3, 1)}, "5 shots: 3 training images of class 0 (6 classes have too few); wanted 5"),
        ({}, {"train": split("t", 30, 1, CLASSES[::-1])}, "6 classes, not the 6 of the test images in their order"),
        ({"probe": "knn"}, {"train": split("t", 3, 1)}, "knn: 18 training images; wanted 20 or more, as k"),
        ({"probe": "clip", "val": "val"}, {"train": TRAIN, "val": TRAIN}, "val = 'val': no such split"),
    ],
)
def test_data_that_do_not_suit_are_one_line(params: Any, further: dict[str, Dataset], said: str) -> None:
    with pytest.raises(CocabenchError) as error:
        Probe(**params).check(TEST, further)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"probe": "lasso"}, "'ridge', 'clip', 'clip_benchmark' or 'knn'"),
        ({"shots": (5, 5)}, "shots: got [5, 5]; wanted each once"),
        ({"shots": (0,)}, "greater than or equal to 1"),
        ({"shots": (1, 5), "l2": "auto"}, "wanted 2 shots or more"),
        ({"probe": "clip", "val_share": 0}, "the clip probe needs validation images"),
        ({"seeds": ()}, "at least 1 item"),
    ],
)
def test_params_that_do_not_suit_are_named(params: Any, said: str) -> None:
    with pytest.raises(ValidationError) as error:
        Probe(**params)
    assert said in str(error.value)


def test_a_model_without_pooled_features_is_one_line_that_names_the_probe_without_them() -> None:
    with pytest.raises(ModelError, match="wanted features before the projection; probe = "):
        samples(Probe(), Clear(pooled=False))
    assert len(samples(Probe(probe="clip_benchmark", val_share=0, zero_shot=False), Clear(pooled=False)))


def test_labels_that_are_several_are_one_line() -> None:
    several = replace(TEST, examples=[replace(TEST.examples[0], label=(1, 2))])
    with pytest.raises(DataError, match=r"animals: label \(1, 2\) of test000; wanted one class for each image"):
        Probe().protocol(several, Machine())


def test_the_clip_probe_without_scikit_learn_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cocabench.kinds.probe.find_spec", lambda name: None)
    with pytest.raises(CocabenchError, match=r"scikit-learn is not installed; pip install 'cocabench\[probe\]'"):
        Probe(probe="clip").protocol(TEST, Machine())
    Probe().protocol(TEST, Machine())


# The signature


def changed(**params: Any) -> Iterator[str]:
    base, other = (Probe(**some).protocol(TEST, Machine()) for some in ({}, params))
    yield from (key for key in base.keys() | other.keys() if base.get(key) != other.get(key))


@pytest.mark.parametrize(
    ("params", "parts"),
    [
        ({"l2": 1.0}, {"l2"}),
        ({"shots": (1,)}, {"shots"}),
        ({"seeds": (5,)}, {"seeds"}),
        ({"probe": "knn"}, {"probe", "features", "shots", "l2", "k", "temperature"}),
        ({"templates": "cifar10"}, {"prompts"}),
        ({"zero_shot": False}, {"prompts"}),
    ],
)
def test_what_moves_a_number_is_in_the_protocol(params: Any, parts: set[str]) -> None:
    assert set(changed(**params)) == parts
    assert all(Probe.part(part) for part in parts)


def test_parts_concern_the_metrics_that_they_can_change() -> None:
    assert not Probe.concerns("shots", "acc1")
    assert Probe.concerns("seeds", "acc1@5shot")
    assert not Probe.concerns("seeds", "acc1")
    assert Probe.concerns("prompts", "zeroshot_acc1")
    assert not Probe.concerns("prompts", "acc1")
    assert not Probe.concerns("probe", "zeroshot_acc1")
    assert Probe.concerns("probe", "acc1")
    assert Probe.concerns("data.hash", "zeroshot_acc1")
