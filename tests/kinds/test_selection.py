"""Image-caption selection with tiny models: clip-benchmark's numbers, open_clip's likelihoods, and wrong data."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from clip_benchmark.datasets.builder import image_captions_collate_fn
from clip_benchmark.datasets.sugar_crepe import SugarCrepe as TheirCrepe
from clip_benchmark.metrics import image_caption_selection
from PIL import Image

import cocabench
from cocabench.core.errors import DataError, NumericsError
from cocabench.core.types import Context, Dataset, Example, Features, ImageFeatures, Likelihoods, Machine
from cocabench.data.composition import SugarCrepe
from cocabench.data.foils import GROUPS
from cocabench.data.images import BytesImage
from cocabench.kinds.base import notes_of
from cocabench.kinds.captioning import Captioning
from cocabench.kinds.retrieval import Retrieval
from cocabench.kinds.selection import ImageCaptionSelection
from cocabench.metrics.base import Samples, estimate, stack
from cocabench.models.hardware import hardware
from cocabench.models.open_clip.model import OpenClip
from cocabench.results.compare import compare_models
from cocabench.run import thumbnails
from cocabench.specs.registry import model_sources
from cocabench.specs.spec import parse_models
from tests.conftest import Command
from tests.data.drawing import encoded

COLOURS = ("red", "lime", "blue", "yellow", "cyan", "magenta", "white", "black")


def picture(colour: str) -> BytesImage:
    return BytesImage(encoded(colour, size=(16, 12)), colour)


def crepe(items: int = 24) -> Dataset:
    """One image, its caption and a negative; every third image has two captions."""
    examples = []
    for i in range(items):
        texts = tuple(f"thing {i} in {COLOURS[i % 8]}, {k}" for k in range(2 if i % 3 == 0 else 1))
        wrong = tuple((text.replace(COLOURS[i % 8], COLOURS[(i + 3) % 8]),) for text in texts)
        examples.append(Example(f"{i}", picture(COLOURS[i % 8]), texts, negatives=wrong))
    return Dataset("crepe", "test", examples)


def winoground(items: int = 24) -> Dataset:
    examples = []
    for i in range(items):
        first, second = COLOURS[i % 8], COLOURS[(i + 1 + i // 8) % 8]
        texts = (f"{first} before {second}", f"{second} before {first}")
        examples.append(Example(f"{i}", picture(first), texts, others=(picture(second),)))
    return Dataset("winoground", "test", examples)


DATA = {"one image": crepe(), "two images": winoground()}


@pytest.fixture(scope="module", params=["clip", "coca"])
def model(request: pytest.FixtureRequest, models: Path) -> OpenClip:
    return load(models, request.param)


@pytest.fixture(scope="module")
def coca(models: Path) -> OpenClip:
    return load(models, "coca")


def load(models: Path, name: str) -> OpenClip:
    (source,) = model_sources(parse_models(str(models / name)))
    return cast(OpenClip, source.load(hardware(device="cpu", batch_size=5)))


def measured(model: Any, data: Dataset, scoring: str = "cosine") -> tuple[dict[str, float | None], Samples]:
    evaluator = ImageCaptionSelection.model_validate({"scoring": scoring})
    samples = stack(evaluator.score(model, data, Context()))
    return {metric.name: estimate(metric, samples).value for metric in evaluator.metrics(data)}, samples


def near(data: Dataset, samples: Samples) -> list[str]:
    kind = ImageCaptionSelection()
    notes = notes_of(kind, data, samples, kind.metrics(data))
    return [note.text for note in notes if note.code == "near_chance"]


def clip_benchmark(model: OpenClip, data: Dataset) -> dict[str, float]:
    """Return what clip-benchmark's own function says, fed as its own loaders feed it: one item a row."""
    rows = []
    for example in data.examples:
        pixels = [model.transform(image.open()) for image in example.images]
        if example.others:
            rows.append((torch.stack(pixels), list(example.texts)))
        rows += [(pixels[0], [text, *w]) for text, w in zip(example.texts, example.negatives, strict=False)]
    loader = torch.utils.data.DataLoader(rows, batch_size=7, collate_fn=image_captions_collate_fn)  # type: ignore[arg-type]
    return dict(image_caption_selection.evaluate(model.net, loader, model.tokenizer, "cpu", amp=False))


@pytest.mark.parametrize("kind", DATA)
def test_it_is_clip_benchmarks(model: OpenClip, kind: str) -> None:
    ours, samples = measured(model, DATA[kind])
    theirs = clip_benchmark(model, DATA[kind])
    if kind == "one image":
        assert theirs.pop("image_acc") == 1, "there is no choice among one image: not measured here"
        assert samples["image_id"].nunique() == 24 < len(samples) == 32
    assert ours == pytest.approx(theirs, abs=1e-6)
    assert len(set(samples["text_right"])) == 2, "an exam that some items pass and others do not"


@pytest.mark.parametrize("scoring", ["likelihood", "likelihood_per_token"])
@pytest.mark.parametrize("kind", DATA)
def test_likelihoods_equal_open_clips_full_forward_pass(coca: OpenClip, kind: str, scoring: str) -> None:
    _, samples = measured(coca, DATA[kind], scoring)
    by_id = {example.id: example for example in DATA[kind].examples}
    for row in samples.iloc[:6].to_dict("records"):
        images = by_id[row["image_id"]].images
        for image, scores in zip(images, np.split(np.array(row["scores"]), len(images)), strict=True):
            tokens = coca.tokenizer(row["texts"])
            with torch.no_grad():
                out = coca.net(coca.transform(image.open()).expand(2, -1, -1, -1), tokens)
            full = out["logits"].log_softmax(-1).gather(-1, out["labels"][..., None])[..., 0]
            counted = torch.arange(full.shape[1]) < (tokens != 0).sum(1, keepdim=True) - 1
            wanted = (full * counted).sum(1) / (counted.sum(1) if scoring.endswith("token") else 1)
            assert scores == pytest.approx(wanted.numpy(), rel=1e-4)


def test_a_gain_is_the_likelihood_less_that_of_pixels_that_are_zero(coca: OpenClip) -> None:
    data = replace(DATA["one image"], examples=DATA["one image"].examples[:4])
    gained, plain = (measured(coca, data, kind)[1] for kind in ("likelihood_gain", "likelihood"))
    zeros = torch.zeros_like(coca.transform(data.examples[0].image.open()))
    for row, before in zip(gained.to_dict("records"), plain.to_dict("records"), strict=True):
        with torch.no_grad():
            tokens = coca.tokenizer(row["texts"])
            out = coca.net(zeros.expand(2, -1, -1, -1), tokens)
        full = out["logits"].log_softmax(-1).gather(-1, out["labels"][..., None])[..., 0]
        counted = torch.arange(full.shape[1]) < (tokens != 0).sum(1, keepdim=True) - 1
        prior = np.array(before["scores"]) - np.array(row["scores"])
        assert prior == pytest.approx((full * counted).sum(1).numpy(), rel=1e-4)


def test_a_model_that_does_not_look_gains_nothing_and_is_never_right() -> None:
    class Blind(Known):
        """The likelihood of a text is its length, whatever the image."""

        def score_captions(
            self, images: Sequence[Any], texts: Sequence[Sequence[str]], *, progress: Any
        ) -> Likelihoods:
            rows = np.array([[-float(len(text)) for text in row] for row in texts], np.float32)
            return Likelihoods(rows, np.ones_like(rows, int), np.arange(len(images)))

    long, short = "a thing in red, 0", "a thing"
    data = Dataset("d", "test", [Example("0", picture("red"), (short,), negatives=((long,),))])
    assert measured(Blind(), data, "likelihood")[0]["acc"] == 1, "the short caption is right by its length alone"
    values, samples = measured(Blind(), data, "likelihood_gain")
    assert (values["acc"], samples["scores"][0]) == (0, [0.0, 0.0])


def grouped(*groups: list[str]) -> Dataset:
    examples = [
        Example(
            f"{i}",
            picture(COLOURS[i]),
            tuple(f"{k} {COLOURS[i]}" for k in range(len(own))),
            negatives=tuple((f"{k} {COLOURS[i + 1 if group != 'bad' else i]}",) for k, group in enumerate(own)),
            metadata={"groups": own},
        )
        for i, own in enumerate(groups)
    ]
    return Dataset("grouped", "test", examples)


def test_macro_acc_counts_groups_that_are_large_enough_in_the_whole_data_set() -> None:
    data = grouped(["good", "bad"], ["good", "rare"], ["bad", "both ways"], ["both ways", ""])
    kind = ImageCaptionSelection(fewest=2, left_out=("both ways",))
    samples = stack(kind.score(Known(), data, Context()))  # type: ignore[arg-type]
    found = {metric.name: estimate(metric, samples).value for metric in kind.metrics(data)}
    assert found["macro_acc"] == 0.5, "good is right twice, bad is a tie twice; rare and both ways do not count"
    assert found["acc"] == 6 / 8
    assert samples["group_name"].tolist()[:2] == ["good", "bad"]
    part = replace(data, examples=data.examples[:1], whole=data.examples)
    assert kind._groups(part) == kind._groups(data) == {"bad": 0, "good": 1}
    assert "macro_acc" not in [metric.name for metric in kind.metrics(DATA["one image"])]
    assert kind.chance(data)["macro_acc"].rate == 0.5
    assert kind.protocol(data, Machine())["fewest"] == 2
    assert ImageCaptionSelection().protocol(data, Machine()) == {"scoring": "cosine"}, "signatures of 0.1 stay"


def test_the_primary_may_be_any_metric_of_the_data(tmp_path: Path, data: Path, command: Command) -> None:
    """Before data are read all metrics are possible; image_acc is none of theirs where there is one image an item."""
    path = tmp_path / "other.toml"
    path.write_text((data / "choose.toml").read_text().replace('"acc"', '"image_acc"'))
    result = command("run", "--model", "demo/clip", "--tasks", path, "--data-root", tmp_path, "--output", tmp_path)
    assert "pairs.tsv" in result.err
    assert "not among the metrics" not in result.err
    result = command("run", "--model", "demo/clip", "--tasks", path, "--data-root", data, "--output", tmp_path)
    assert "'image_acc' is not among the metrics" in result.err
    assert [m.name for m in ImageCaptionSelection().metrics(DATA["two images"])] == ["acc", "text_acc", "image_acc"]


def test_summed_likelihood_prefers_short_captions_but_the_mean_does_not(coca: OpenClip) -> None:
    long, short = "a thing that is red and round and on a table", "a thing"
    data = Dataset("d", "test", [Example("0", picture("red"), (long,), negatives=((short,),))])
    total, mean = (measured(coca, data, kind)[1]["scores"][0] for kind in ("likelihood", "likelihood_per_token"))
    assert total[0] < total[1]
    assert total[0] / mean[0] > total[1] / mean[1] > 1


class Known:
    """Encodes an image as its colour's number and a text as the first colour in it: knows all, or nothing."""

    notes = ()
    parameters: Mapping[str, int] = {}

    def __init__(self, knows: bool = True, unread: Sequence[str] = ()) -> None:
        self.knows, self.unread = knows, unread

    def _rows(self, colours: Sequence[str]) -> Features:
        return np.eye(8, dtype=np.float32)[[COLOURS.index(c) if self.knows else 0 for c in colours]]

    def encode_images(self, images: Sequence[Any], *, progress: Any) -> ImageFeatures:
        kept = [i for i, image in enumerate(images) if str(image) not in self.unread]
        return ImageFeatures(self._rows([str(images[i]) for i in kept]), np.array(kept))

    def encode_texts(self, texts: Sequence[str], *, progress: Any) -> Features:
        return self._rows([min(COLOURS, key=lambda c: text.index(c) if c in text else 999) for text in texts])

    def score_captions(self, images: Sequence[Any], texts: Sequence[Sequence[str]], *, progress: Any) -> Likelihoods:
        return Likelihoods(
            np.full((len(images), len(texts[0])), np.nan, np.float32),
            np.ones((len(images), 2), int),
            np.arange(len(images)),
        )


@pytest.mark.parametrize("kind", DATA)
def test_an_oracle_scores_one_and_a_constant_model_zero(kind: str) -> None:
    data = DATA[kind]
    assert set(measured(Known(), data)[0].values()) == {1.0}
    result, samples = measured(Known(knows=False), data)
    assert set(result.values()) == {0.0}
    assert all(row["selected"] != row["text"] for row in samples.to_dict("records"))
    said = near(data, samples)
    wanted = "(50 %): check" if kind == "one image" else "(16.7 %): pub"
    assert said[0].startswith(f"acc of 0.0 % is near chance {wanted}")
    assert len(said) == (1 if kind == "one image" else 3)
    assert near(data, measured(Known(), data)[1]) == []


def test_an_item_with_an_image_that_cannot_be_read_is_left_out() -> None:
    _, samples = measured(Known(unread=["lime"]), DATA["two images"])
    left = [e.id for e in DATA["two images"].examples if "lime" not in {str(image) for image in e.images}]
    assert samples["image_id"].tolist() == left
    assert 0 < len(left) < 24


def test_nan_likelihoods_are_an_error() -> None:
    with pytest.raises(NumericsError, match="NaN"):
        measured(Known(), DATA["one image"], "likelihood")


def test_items_without_a_choice_are_errors_and_equal_captions_give_a_note() -> None:
    data, evaluator = DATA["one image"], ImageCaptionSelection()
    bare = replace(data, examples=[*data.examples[:3], Example("bare", picture("red"), ("a red thing",))])
    with pytest.raises(DataError, match="bare#0 has only one candidate; wanted captions with negatives"):
        measured(Known(), bare)
    with pytest.raises(DataError, match="bare has only one candidate"):
        list(evaluator.data_notes(replace(data, examples=[Example("bare", picture("red"))])))
    same = replace(data, examples=[Example("same", picture("red"), ("red",), negatives=(("red",),))])
    assert [note.code for note in evaluator.data_notes(same)] == ["equal_captions"]
    assert measured(Known(), same)[0]["acc"] == 0
    assert not list(evaluator.data_notes(data))


@pytest.mark.parametrize("evaluator", [Retrieval(), Captioning(metrics=())])  # type: ignore[call-arg]
def test_retrieval_and_captioning_refuse_selection_data(evaluator: Retrieval | Captioning) -> None:
    with pytest.raises(DataError, match='several images in 0; wanted one; evaluator = "image_caption_selection"'):
        list(evaluator.score(Known(), DATA["two images"], Context()))  # type: ignore[arg-type]


def test_the_thumbnail_of_an_item_shows_all_its_images() -> None:
    import io

    found = thumbnails.jpeg(DATA["two images"].examples[0])
    assert found
    image = Image.open(io.BytesIO(found))
    assert image.size == (16 + thumbnails.GAP_PIXELS + 16, 12)
    left, right = (image.getpixel((x, 6)) for x in (4, 36))
    assert left[0] > 200 > 60 > left[1]  # type: ignore[index]
    assert right[1] > 200 > 60 > right[0]  # type: ignore[index]


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
def test_sugar_crepes_files_give_what_clip_benchmarks_own_loader_gives(model: OpenClip, tmp_path: Path) -> None:
    """From the files on: clip-benchmark reads them with its class, cocabench with its loader."""
    folder, rows = tmp_path / "sugar_crepe", {}
    for i, example in enumerate(DATA["one image"].examples):
        image = folder / "val2017" / f"{i:012}.png"
        image.parent.mkdir(parents=True, exist_ok=True)
        image.write_bytes(example.image.content)  # type: ignore[attr-defined]
        for k, (text, (wrong,)) in enumerate(zip(example.texts, example.negatives, strict=True)):
            rows[f"{3 * i + k}"] = {"filename": image.name, "caption": text, "negative_caption": wrong}
    (folder / "swap_obj.json").write_text(json.dumps(rows))
    theirs = TheirCrepe(str(folder / "val2017"), str(folder / "swap_obj.json"), transform=model.transform)
    loader = torch.utils.data.DataLoader(theirs, batch_size=7, collate_fn=image_captions_collate_fn)
    wanted = image_caption_selection.evaluate(model.net, loader, model.tokenizer, "cpu", amp=False)
    found, samples = measured(model, SugarCrepe(path="sugar_crepe", subset="swap_obj").build(tmp_path))
    assert found == pytest.approx({name: wanted[name] for name in ("acc", "text_acc")}, abs=1e-6)
    assert len(samples) == len(theirs) == 32


def test_a_run_from_task_file_to_comparison(command: Command, models: Path, data: Path, tmp_path: Path) -> None:
    tasks = f"{data / 'choose.toml'},{data / 'prefer.toml'}"
    result = command(
        "run",
        "--model",
        f"{models / 'clip'},{models / 'coca'}",
        "--tasks",
        tasks,
        "--data-root",
        data,
        "--output",
        tmp_path,
    )
    assert result.code == 0, result.err
    results = cocabench.load(tmp_path)
    assert [(r.task, Path(r.model).name) for r in sorted(results, key=lambda r: (r.task, r.model))] == [
        ("choose", "clip"), ("choose", "coca"), ("prefer", "coca"),
    ]  # fmt: skip
    chosen, preferred = (next(r for r in results if r.task == name) for name in ("choose", "prefer"))
    assert (chosen.metrics["acc"].n, len(results.samples(chosen))) == (12, 24)
    assert chosen.signature.protocol["data"] | {"hash": ""} == {"images": 12, "texts": 24, "classes": 0, "hash": ""}  # type: ignore[operator]
    assert [r.signature.protocol["scoring"] for r in (chosen, preferred)] == ["cosine", "likelihood"]
    row = next(row for row in compare_models(results).rows if row.task == "choose")
    assert (row.metric, row.difference is not None and row.difference.paired) == ("acc", True)
    changed = command("compare", tmp_path, "--models", f"{models / 'clip'},{models / 'coca'}", "--samples", "choose")
    assert changed.code == 0, changed.err
    samples = [results.samples(r) for r in sorted(results, key=lambda r: r.model) if r.task == "choose"]
    one, other = (frame.set_index("id") for frame in samples)
    differ = one[one["selected"] != other["selected"]].drop_duplicates("image_id")
    assert not differ.index.str.endswith("#0").all(), "of an image the item that differs is result, not the first one"
    right = [frame.groupby("image_id")["text_right"].sum() for frame in (one, other)]
    told_of = differ[differ["image_id"].isin(right[0].index[right[0] != right[1]])]
    assert len(told_of)
    assert all(said in changed.out for said in told_of["selected"])


@pytest.mark.parametrize("params", [{"fewest": 2}, {"left_out": ("on",)}])
def test_groups_are_not_chosen_where_the_data_have_none(params: dict[str, Any]) -> None:
    kind = ImageCaptionSelection(**params)
    bare = Example("1", picture("red"), ("a",), negatives=(("b",),))
    with pytest.raises(DataError, match="set: no groups of items"):
        kind.check(Dataset("set", "test", [bare]), {})
    kind.check(Dataset("set", "test", [replace(bare, metadata={GROUPS: ["on"]})]), {})
