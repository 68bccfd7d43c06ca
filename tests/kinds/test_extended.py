"""Retrieval with all positives and in folds: the loader on files as published, numbers by hand and by eccv-caption."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cocabench.core.errors import DataError, MissingDataError, SpecError
from cocabench.core.types import Context, Dataset, Example, Features, ImageFeatures, Machine
from cocabench.data import eccv
from cocabench.data.eccv import EccvCaption
from cocabench.kinds.extended import ExtendedRetrieval
from cocabench.kinds.retrieval import Retrieval
from cocabench.kinds.testing import check_kind
from cocabench.metrics.base import Samples, estimate, stack
from cocabench.specs.registry import read_tasks, task_folders
from tests.data.drawing import draw, encoded, write, write_json

IMAGES = (391895, 60623, 483108)
CAPTIONS = {391895: (770337, 771687), 60623: (47, 49), 483108: (93, 99)}


def tables(folder: Path) -> Path:
    """Write eccv-caption's tables small: three images of two captions; caption 47 also fits the first image."""
    order = [93, 99, 770337, 771687, 47, 49]
    folder.mkdir()
    np.save(folder / "coco_test_ids.npy", np.array(order))
    own = {str(c): [image] for image, captions in CAPTIONS.items() for c in captions}
    write_json(folder / "original_caption_to_image.json", own)
    write_json(folder / "original_image_to_caption.json", {str(i): list(c) for i, c in CAPTIONS.items()})
    write_json(folder / "eccv_caption_to_image.json", {"47": [391895, 60623], "93": [483108]})
    write_json(folder / "eccv_image_to_caption.json", {"391895": [770337, 47, 771687]})
    return folder


def coco(root: Path, *, extra: bool = True, lost: int = 0) -> None:
    items = []
    for image in IMAGES:
        ids = [c for c in (*CAPTIONS[image], *((5 if extra else 0),) * (image == 60623)) if c not in (0, lost)]
        name = f"COCO_val2014_{image:012}.jpg"
        sentences = [{"raw": f" caption {c} ", "sentid": c} for c in ids]
        item = {"filepath": "val2014", "filename": name, "cocoid": image, "split": "test", "sentences": sentences}
        items.append({**item, "sentids": ids})
        draw(root / "coco/val2014" / name)
    write_json(root / "coco/dataset_coco.json", {"dataset": "coco", "images": items})


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tables(tmp_path / "tables")
    monkeypatch.setattr(eccv, "package_data", lambda: folder)
    coco(tmp_path)
    return tmp_path


def loader(**fields: Any) -> EccvCaption:
    return EccvCaption(path="coco", **fields)


def test_the_loader_takes_the_captions_that_are_ranked_and_their_positives(small: Path) -> None:
    data = loader().build(small)
    assert [e.id for e in data.examples] == ["391895", "60623", "483108"]
    first, second, third = data.examples
    assert first.texts == ("caption 770337", "caption 771687")
    assert second.texts == ("caption 47", "caption 49"), "caption 5 is the 25,010th and not ranked"
    assert first.metadata["positives"] == ["770337", "47", "771687"]
    assert second.metadata["image_positives"] == [["391895", "60623"], []]
    assert third.metadata["positives"] == []
    assert [e.metadata["fold"] for e in data.examples] == [1, 3, 0]
    kind = ExtendedRetrieval()
    assert kind.counts(data) == {"t2i_queries": 2, "i2t_queries": 1}
    assert ExtendedRetrieval().counts(loader(positives="original").build(small)) == {"t2i_queries": 6, "i2t_queries": 3}


def test_what_is_wrong_is_said_in_a_line(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    coco(small, lost=99)
    with pytest.raises(DataError, match=r"1 of the 6 captions of eccv-caption missing: 99; wanted Karpathy's"):
        loader().build(small)
    file = small / "coco/dataset_coco.json"
    file.write_text(file.read_text().replace('"cocoid": 60623, ', ""))
    with pytest.raises(DataError, match=r"1 of 3 images without cocoid: COCO_val2014_000000060623\.jpg"):
        loader().build(small)
    coco(small)
    write(small / "tables/coco_test_ids.npy", "no numbers")
    with pytest.raises(DataError, match=r"coco_test_ids\.npy: not readable"):
        loader().build(small)
    monkeypatch.undo()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingDataError, match=r"eccv-caption: not installed; pip install 'cocabench\[eccv\]'"):
        eccv.package_data()
    with pytest.raises(DataError, match=r'd: no positives; loader = "eccv_caption" brings them'):
        ExtendedRetrieval().check(Dataset("d", "test", [Example("1", None, ("a",))]), {})  # type: ignore[arg-type]
    with pytest.raises(DataError, match="d: images without a fold"):
        Retrieval(folds=True).check(Dataset("d", "test", [Example("1", None, ("a",))]), {})  # type: ignore[arg-type]


@pytest.mark.parametrize("key", ["folds", "lengths", "dual_softmax"])
def test_options_of_plain_retrieval_are_unknown_keys(key: str, tmp_path: Path) -> None:
    text = (task_folders()[0] / "retrieval/coco_positives.toml").read_text()
    write(tmp_path / "a.toml", text.replace("ks = [1, 5, 10]", f"{key} = true"))
    with pytest.raises(SpecError, match=rf"params\.{key}: unknown key"):
        read_tasks(tmp_path / "a.toml")


class Table:
    """Features by name: of an image by its number, of a caption by its number."""

    def __init__(
        self, images: dict[str, Sequence[float]], texts: dict[str, Sequence[float]], unread: str = "?"
    ) -> None:
        self.images, self.texts, self.unread = images, texts, unread

    def encode_images(self, images: Sequence[Any], **_: Any) -> ImageFeatures:
        names = [str(int(Path(str(image)).stem.rpartition("_")[2])) for image in images]
        kept = [i for i, name in enumerate(names) if name != self.unread]
        return ImageFeatures(_unit([self.images[names[i]] for i in kept]), np.array(kept))

    def encode_texts(self, texts: Sequence[str], **_: Any) -> Features:
        return _unit([self.texts[text.split()[-1]] for text in texts])


def _unit(rows: Sequence[Sequence[float]]) -> Features:
    found = np.array(rows, np.float32)
    return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True), np.float32)


def by_hand() -> Table:
    """The first image ranks the captions 770337, 93, 47, …; caption 47 the images 391895, 483108, 60623."""
    texts = {"770337": (1, 0), "93": (9, 1), "47": (9, 2), "771687": (0, 1), "49": (0, 1), "99": (1, 9)}
    return Table({"391895": (1, 0), "483108": (1, 1), "60623": (0, 1)}, texts)


def measured(kind: Retrieval, model: Any, data: Dataset) -> tuple[dict[str, float | None], Samples]:
    samples = stack(kind.score(model, data, Context()))
    return {metric.name: estimate(metric, samples).value for metric in kind.metrics(data)}, samples


def test_numbers_by_hand(small: Path) -> None:
    data = loader().build(small)
    found, samples = measured(ExtendedRetrieval(ks=(1, 2)), by_hand(), data)
    assert not check_kind(ExtendedRetrieval(), samples)
    # i2t, R = 3: 770337 is a positive, 93 none, 47 one: (1 + 0 + 2/3) / 3
    assert found["i2t_map@r"] == pytest.approx(5 / 9)
    assert found["i2t_r_precision"] == pytest.approx(2 / 3)
    # t2i: caption 47 with R = 2 finds 391895, then 483108: (1 + 0) / 2; caption 93 with R = 1 finds 391895: 0
    assert found["t2i_map@r"] == pytest.approx(1 / 4)
    assert (found["t2i_recall@1"], found["i2t_recall@1"], found["t2i_recall@2"]) == (0.5, 1, 1)
    assert samples["image_id"].tolist() == ["60623", "483108", "391895"]


def test_a_positive_that_is_not_ranked_counts_in_r(small: Path) -> None:
    """Two images of ECCV Caption have a caption beyond the 25,000; its own package counts them."""
    data = loader().build(small)
    own, others = data.examples[0], data.examples[1:]
    names = [*own.metadata["positives"], "5"]
    data = replace(data, examples=[replace(own, metadata={**own.metadata, "positives": names}), *others])
    found, _ = measured(ExtendedRetrieval(ks=(1,)), by_hand(), data)
    assert found["i2t_map@r"] == pytest.approx((1 + 0 + 2 / 3 + 0) / 4)
    assert found["i2t_r_precision"] == 2 / 4
    few = replace(data, examples=[data.examples[0], *others[1:]], whole=data.examples)
    found, _ = measured(ExtendedRetrieval(ks=(1,)), by_hand(), few)
    assert found["i2t_r_precision"] == 1 / 3, "a limit took the image of caption 47 away, and caption 5 was never there"


def test_a_constant_model_finds_nothing_and_an_image_that_cannot_be_read_is_no_positive(small: Path) -> None:
    data = loader().build(small)
    same = Table(
        dict.fromkeys(map(str, IMAGES), (1, 0)), dict.fromkeys(map(str, (770337, 771687, 47, 49, 93, 99)), (1, 0))
    )
    found, _ = measured(ExtendedRetrieval(ks=(1,)), same, data)
    assert [found[f"{way}_recall@1"] for way in ("t2i", "i2t", "mean")] == [0, 0, 0]
    # caption 47, R = 2 of 3 images: the wrong one first, then a positive; the image, R = 3 of 6: three wrong ones first
    assert (found["t2i_map@r"], found["i2t_map@r"]) == ((1 / 4 + 0) / 2, 0)
    model = by_hand()
    model.unread = "391895"
    found, samples = measured(ExtendedRetrieval(ks=(1,)), model, data)
    assert found["i2t_map@r"] is None, "its only query image could not be read"
    assert samples["t2i_average"].tolist() == [0.0, 1.0], "caption 47 still has its own image, which is last"


def test_folds_are_ranked_apart(small: Path) -> None:
    data = loader(positives="original").build(small)
    whole, _ = measured(Retrieval(ks=(1,)), by_hand(), data)
    found, samples = measured(Retrieval(ks=(1,), folds=True), by_hand(), data)
    assert found["t2i_recall@1"] == 1, "each image is alone in its fold"
    assert whole["t2i_recall@1"] is not None
    assert whole["t2i_recall@1"] < 1
    assert len(samples) == 9
    assert Retrieval(folds=True).protocol(data, Machine()) == {"folds": 3}
    assert Retrieval().protocol(data, Machine()) == {}, "signatures of 0.1 stay"
    assert Retrieval(folds=True).chance(data) == {}


def test_dual_softmax_stands_beside_plain_recall(small: Path) -> None:
    data = loader(positives="original").build(small)
    kind = Retrieval(ks=(1, 2), dual_softmax=100)
    plain, _ = measured(Retrieval(ks=(1, 2)), by_hand(), data)
    found, samples = measured(kind, by_hand(), data)
    assert not check_kind(kind, samples)
    assert {name: found[name] for name in plain} == plain, "and never instead of it"
    # Texts at 6, 84, 0, 90, 13, 90 degrees, their images at 45, 45, 0, 0, 90, 90: the third and the last are right.
    assert (found["t2i_dual_recall@1"], plain["t2i_recall@1"]) == (1 / 3, 1 / 3)
    assert kind.protocol(data, Machine()) == {"dual_softmax": 100}
    assert kind.concerns("dual_softmax", "t2i_dual_recall@1")
    assert not kind.concerns("dual_softmax", "t2i_recall@1")
    folds, _ = measured(Retrieval(ks=(1,), folds=True, dual_softmax=100), by_hand(), data)
    assert folds["t2i_dual_recall@1"] == 1, "each image is alone in its fold"


def test_chance_is_that_of_a_random_order(small: Path) -> None:
    data = loader().build(small)
    rates = {name: chance.rate for name, chance in ExtendedRetrieval(ks=(1,)).chance(data).items()}
    assert rates == {"t2i_recall@1": pytest.approx((2 / 3 + 1 / 3) / 2), "i2t_recall@1": pytest.approx(3 / 6)}


@pytest.mark.slow
def test_the_whole_tables_give_eccv_captions_own_numbers(tmp_path: Path) -> None:
    """All images and captions, features at random: our tasks against its Metrics, which get the lists of our scores."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = pytest.importorskip("eccv_caption").Metrics()
    rng, png = np.random.default_rng(0), encoded()
    order = theirs.coco_ids.tolist()
    owner = {c: theirs.coco_gts["t2i"][c][0] for c in order}
    items: dict[int, list[int]] = {}
    for c in order:
        items.setdefault(owner[c], []).append(c)
    images = {str(i): rng.normal(size=16) for i in items}
    texts = {str(c): images[str(owner[c])] + 0.8 * rng.normal(size=16) for c in order}
    rows = []
    for i, captions in items.items():
        name = f"COCO_val2014_{i:012}.png"
        write(tmp_path / "coco" / name, png)
        sentences = [{"raw": f"caption {c}", "sentid": c} for c in captions]
        rows.append({"filename": name, "cocoid": i, "split": "test", "sentences": sentences})
    write_json(tmp_path / "coco/dataset_coco.json", {"images": rows})
    model, ours = Table(images, texts), {}
    kinds = {"eccv": ExtendedRetrieval(ks=(1, 5)), "cxc": ExtendedRetrieval(ks=(1, 5))}
    for positives, kind in {**kinds, "original": Retrieval(ks=(1,), folds=True)}.items():
        data = loader(positives=positives).build(tmp_path)
        ours[positives], _ = measured(kind, model, data)
        if positives == "eccv":
            assert kind.counts(data) == {"t2i_queries": 1332, "i2t_queries": 1261}
    names = np.array(list(items))
    # Scores as ours: of features rounded to 2^-26, exact, so that rounding swaps none.
    left, right = (
        np.rint(2.0**26 * _unit(found).astype(np.float64))
        for found in ([images[str(n)] for n in names], [texts[str(c)] for c in order])
    )
    i2t = _highest(left, right, names, np.array(order), 2000)
    t2i = _highest(right, left, np.array(order), names, 400)
    targets = ("eccv_r1", "eccv_map_at_r", "eccv_rprecision", "cxc_recalls", "coco_1k_recalls")
    wanted = theirs.compute_all_metrics(i2t, t2i, target_metrics=targets, Ks=(1, 5))
    for way in ("i2t", "t2i"):
        assert ours["eccv"][f"{way}_map@r"] == pytest.approx(wanted["eccv_map_at_r"][way], abs=1e-9)
        assert ours["eccv"][f"{way}_r_precision"] == pytest.approx(wanted["eccv_rprecision"][way], abs=1e-9)
        assert ours["eccv"][f"{way}_recall@1"] == pytest.approx(wanted["eccv_r1"][way], abs=1e-9)
        for k in (1, 5):
            assert ours["cxc"][f"{way}_recall@{k}"] == pytest.approx(wanted[f"cxc_r{k}"][way], abs=1e-9)
        assert ours["original"][f"{way}_recall@1"] == pytest.approx(wanted["coco_1k_r1"][way], abs=1e-9)


def _highest(
    queries: np.ndarray, candidates: np.ndarray, ids: np.ndarray, names: np.ndarray, n: int
) -> dict[int, list[int]]:
    """Return each query's n highest candidates by name, best first."""
    found = {}
    for start in range(0, len(queries), 1000):
        scores = -(queries[start : start + 1000] @ candidates.T)
        first = np.argpartition(scores, n, axis=1)[:, :n]
        ranked = np.take_along_axis(first, np.take_along_axis(scores, first, axis=1).argsort(axis=1), axis=1)
        found |= dict(zip(ids[start : start + 1000].tolist(), names[ranked].tolist(), strict=True))
    return found


def test_lengths_are_kept_and_cut_captions_counted(small: Path) -> None:
    class Short(Table):
        def count_tokens(self, texts: Sequence[str]) -> Any:
            return type("Cut", (), {"context": 5, "cut": [text.endswith("9") for text in texts]})

    data, notes = loader(positives="original").build(small), []
    model = Short(by_hand().images, by_hand().texts)
    samples = stack(Retrieval(lengths=True).score(model, data, Context(note=notes.append)))  # type: ignore[arg-type]
    texts = samples[samples["text"].notna()]
    assert texts["text_words"].tolist() == [2] * 6
    assert texts["text_cut"].sum() == 2, "captions 49 and 99"
    assert samples["text_words"].isna().sum() == 3, "images are no captions"
    said = "2 of 6 distinct captions (33.3 %) are longer than the context of 5 tokens and are cut"
    assert notes == [("cut_texts", said)]
    assert "text_words" not in stack(Retrieval().score(model, data, Context()))  # type: ignore[arg-type]
