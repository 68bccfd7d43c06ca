"""A model behind a cache computes what is new and nothing else, and what moves a feature makes it new."""

import io
import os
import tarfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import JsonValue

from cocabench.core.cache import Cache, DiskCache, MemoryCache
from cocabench.core.errors import DataError, ModelError
from cocabench.core.types import Captions, Features, ImageFeatures, ImageSource, Note, Progress, silent
from cocabench.data.images import BytesImage, CroppedImage, FileImage, ItemImage, OnWhiteImage, TarImage
from cocabench.models import base, cached
from cocabench.models.cached import Cached
from cocabench.models.contents import known_images
from cocabench.models.hardware import hardware

MADE: dict[str, JsonValue] = {
    "id": "toy",
    "weights": "w",
    "architecture": "a",
    "quick_gelu": False,
    "preprocess": "p",
    "vocabulary": "",
    "precision": "fp32",
    "packages": {"torch": "2", "pillow": "11"},
}


@dataclass
class Toy:
    """A model whose features are the mean colour, or a text's length; it notes what it was asked for."""

    seen: list[Any] = field(default_factory=list)
    id: str = "toy"
    abilities: frozenset[str] = frozenset({"encode", "caption"})
    parameters: Mapping[str, int] = field(default_factory=dict)
    notes: Sequence[Note] = ()

    def encode_images(self, images: Sequence[ImageSource], *, progress: Progress = silent) -> ImageFeatures:
        rows, kept = [], []
        for i, source in enumerate(images):
            self.seen.append(source)
            progress("images", i + 1, len(images))
            try:
                rows.append(np.asarray(source.open().convert("RGB"), np.float32).mean((0, 1)))
                kept.append(i)
            except DataError:
                continue
        found = np.array(rows, np.float32) if rows else np.empty((0, 0), np.float32)
        return ImageFeatures(found, np.array(kept, np.int64))

    def encode_texts(self, texts: Sequence[str], *, progress: Progress = silent) -> Features:
        self.seen += texts
        return np.array([[len(text), 1, 0] for text in texts], np.float32)

    def caption(
        self,
        images: Sequence[ImageSource],
        options: Mapping[str, Any],
        *,
        prompts: str | Sequence[str] | None = None,
        progress: Progress = silent,
    ) -> Captions:
        rows, kept = self.encode_images(images, progress=progress)
        rows[rows == options.get("broken")] = np.nan
        made = rows if options.get("gives", True) else None
        return Captions(["a"] * len(kept), [0.0] * len(kept), kept, features=made)


class Batched(base.Model):
    """A model of batches of two. A caption tells its image and its whole batch, as sampled captions do."""

    abilities = frozenset({"encode", "caption"})

    def __init__(self, *, stop_at: int = 10**9) -> None:
        machine = hardware(device="cpu", precision="fp32", batch_size=2, workers=0, skip_bad_images=True)
        super().__init__("batched", _colours, machine)
        self.batches: list[list[float]] = []
        self.stop_at = stop_at

    def _batch(self, pixels: torch.Tensor) -> torch.Tensor:
        if len(self.batches) == self.stop_at:
            raise KeyboardInterrupt
        self.batches.append(pixels[:, 0].tolist())
        return pixels

    def encode_image_batch(self, pixels: torch.Tensor) -> torch.Tensor:
        return self._batch(pixels) + 1

    def pooled_image_batch(self, pixels: torch.Tensor) -> torch.Tensor:
        return self._batch(pixels) + 2

    def captioner(self, options: Mapping[str, Any], prompts: Sequence[str]) -> base.WriteCaptions:
        def write(pixels: torch.Tensor, numbers: torch.Tensor) -> base.CaptionBatch:
            colours = self._batch(pixels)[:, 0].tolist()
            texts = [f"{prompts[n]}{c:g} of {colours}" for n, c in zip(numbers.tolist(), colours, strict=True)]
            scores = [colour / 3 + options["scale"] for colour in colours]
            return base.CaptionBatch(texts, scores, [c > 20 for c in colours], base.unit(pixels + 1))

        return write


def _colours(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.asarray(image.convert("RGB"), np.float32).mean((0, 1)))


@pytest.fixture
def cache(tmp_path: Path) -> DiskCache:
    return DiskCache(tmp_path / "cache", 10**9, lambda note: pytest.fail(note.text))


def model(cache: Cache, device: str = "cpu", **made: JsonValue) -> Cached:
    return Cached(Toy(), cache, MADE | made, device)


def batched(cache: Cache, **options: int) -> Cached:
    return Cached(Batched(**options), cache, MADE, "cpu")


def seen(model: Cached) -> list[Any]:
    assert isinstance(model.model, Toy)
    return model.model.seen


def test_texts_that_are_not_kept_are_all_asked_for_each_time(cache: DiskCache) -> None:
    """A cache that holds some of them would change with which others a text is encoded, and so its last bits."""
    for _ in range(2):
        scorer = Cached(Toy(), cache, MADE, "cpu", keep_texts=False)
        scorer.encode_texts(["a", "bb"])
        scorer.encode_texts(["bb", "ccc"])
        assert seen(scorer) == ["a", "bb", "bb", "ccc"]
    kept = model(cache)
    kept.encode_texts(["a"])
    assert seen(kept) == ["a"], "nothing of the others was kept"


def paint(path: Path, colour: int) -> FileImage:
    Image.new("RGB", (4, 4), (colour, 0, 0)).save(path, "BMP")
    return FileImage(path)


@pytest.fixture
def images(tmp_path: Path) -> list[FileImage]:
    return [paint(tmp_path / f"{i}.png", 10 * i) for i in range(5)]


def test_a_second_pass_computes_nothing_and_gives_the_same_bits(cache: Cache, images: list[FileImage]) -> None:
    first, second = model(cache), model(cache)
    before = first.encode_images(images)
    after = second.encode_images(images)
    assert seen(first) == images
    assert seen(second) == []
    assert after.rows.tobytes() == before.rows.tobytes()
    assert after.rows.dtype == np.float32
    assert after.kept.tolist() == [0, 1, 2, 3, 4]
    third = model(cache)
    assert third.encode_images(images[::-1]).rows.tobytes() == before.rows[::-1].tobytes()
    assert seen(third) == []


def test_only_what_is_new_is_computed_each_once(cache: Cache, images: list[FileImage], tmp_path: Path) -> None:
    model(cache).encode_images(images[:2])
    (tmp_path / "copy.png").write_bytes(images[3].path.read_bytes())
    more = model(cache)
    rows = more.encode_images([*images, FileImage(tmp_path / "copy.png"), images[4]]).rows
    assert seen(more) == images[2:]
    assert rows[:, 0].tolist() == [0, 10, 20, 30, 40, 30, 40]
    texts = model(cache)
    assert texts.encode_texts(["ab", "a", "ab"])[:, 0].tolist() == [2, 1, 2]
    assert texts.encode_texts(["abc", "a"])[:, 0].tolist() == [3, 1]
    assert seen(texts) == ["ab", "a", "abc"]


def test_empty_and_non_ascii_texts_are_cached(cache: Cache) -> None:
    texts = ["", "\ud800", "é", "e\u0301"]
    assert model(cache).encode_texts(texts)[:, 0].tolist() == [0, 1, 1, 2]
    again = model(cache)
    assert again.encode_texts(texts)[:, 0].tolist() == [0, 1, 1, 2]
    assert seen(again) == []


@pytest.mark.parametrize(
    "changed",
    [
        {"weights": "other"},
        {"preprocess": "other"},
        {"precision": "bf16"},
        {"architecture": "other"},
        {"quick_gelu": True},
        {"vocabulary": "other"},
        {"packages": {"torch": "3", "pillow": "11"}},
        {"packages": {"torch": "2", "pillow": "12"}},
        {"features_version": 2},
        {"device": "cuda"},
    ],
)
def test_changing_what_moves_a_feature_recomputes_it(
    cache: Cache, images: list[FileImage], changed: dict[str, Any]
) -> None:
    model(cache).encode_images(images)
    other = model(cache, **changed)
    other.encode_images(images)
    assert seen(other) == images


def test_another_version_of_ours_makes_features_new(
    cache: Cache, images: list[FileImage], monkeypatch: pytest.MonkeyPatch
) -> None:
    model(cache).encode_images(images)
    monkeypatch.setattr(cached, "VERSION", cached.VERSION + 1)
    other = model(cache)
    other.encode_images(images)
    assert seen(other) == images


def test_renaming_a_model_keeps_its_cached_features(cache: Cache, images: list[FileImage]) -> None:
    model(cache).encode_images(images)
    other = model(cache, id="the same weights elsewhere")
    other.encode_images(images)
    assert seen(other) == []


def test_an_image_and_a_text_of_the_same_bytes_are_two_things(cache: Cache) -> None:
    picture = io.BytesIO()
    Image.new("RGB", (2, 2)).save(picture, "PPM")
    model(cache).encode_texts([picture.getvalue().decode("latin1")])
    images = model(cache)
    images.encode_images([BytesImage(picture.getvalue(), "x")])
    assert len(seen(images)) == 1


def count(cache: Cache, images: Sequence[ImageSource]) -> int:
    return cached.count_images(cache, MADE, "cpu", known_images(images, cache))


def old(path: Path) -> None:
    """Let a file look as if it were written long ago, its change time too (which no call can set)."""
    os.utime(path, (1e9, 1e9))


def test_a_file_that_was_read_before_is_not_read_again_until_it_changes(
    cache: Cache, images: list[FileImage], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cocabench.core.signature.SETTLED_S", -10.0)
    model(cache).encode_images(images)
    monkeypatch.setattr(FileImage, "identity", lambda self: pytest.fail("read"))
    again = model(cache)
    again.encode_images(images)
    assert seen(again) == []
    assert count(cache, images) == 5
    monkeypatch.undo()


@pytest.mark.parametrize("settled", [2.0, -10.0])
def test_changed_bytes_at_the_same_path_are_new_though_size_and_time_are_kept(
    cache: Cache, images: list[FileImage], settled: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cocabench.core.signature.SETTLED_S", settled)
    old(images[0].path)
    model(cache).encode_images(images)
    content = images[0].path.read_bytes()
    paint(images[0].path, 90)
    assert images[0].path.stat().st_size == len(content)
    old(images[0].path)
    other = model(cache)
    assert other.encode_images(images).rows[0, 0] == 90
    assert seen(other) == images[:1]


def test_every_source_is_known_by_its_content_and_what_is_done_to_it(cache: Cache, tmp_path: Path) -> None:
    file = paint(tmp_path / "a.png", 50)
    content = file.path.read_bytes()
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        info = tarfile.TarInfo("a.png")
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))
    member = TarImage(tmp_path / "a.tar", "a.png", 512, len(content))
    same = [file, member, BytesImage(content, "memory")]
    first = model(cache)
    first.encode_images(same)
    assert seen(first) == [file]
    others = [
        OnWhiteImage(file),
        CroppedImage(file, 1),
        CroppedImage(file, 0),
        ItemImage([(file.open(), 0)], 0, "items"),
        ItemImage([(file.open().convert("L"), 0)], 0, "items"),
    ]
    second = model(cache)
    second.encode_images(others)
    assert seen(second) == others
    third = model(cache)
    third.encode_images([*others, ItemImage([(file.open(), 0)], 0, "elsewhere")])
    assert seen(third) == []


def test_unreadable_images_are_reported_by_the_model(cache: Cache, images: list[FileImage], tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"no image")
    sources = [FileImage(tmp_path / "gone.png"), images[0], FileImage(tmp_path / "bad.png"), images[1]]
    found = model(cache).encode_images(sources)
    assert found.kept.tolist() == [1, 3]
    assert found.rows[:, 0].tolist() == [0, 10]
    again = model(cache)
    assert again.encode_images(sources).kept.tolist() == [1, 3]
    assert seen(again) == [sources[0], sources[2]]
    with pytest.raises(DataError, match="no image could be read"):
        model(cache).encode_images([sources[0]])


def test_what_was_computed_before_an_interruption_is_kept(cache: Cache, images: list[FileImage]) -> None:
    with pytest.raises(KeyboardInterrupt):
        batched(cache, stop_at=2).encode_images(images)
    again = batched(cache)
    again.encode_images(images)
    assert again.batches == [[40.0]]


def test_rows_are_written_while_more_are_computed(
    cache: Cache, images: list[FileImage], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cached, "WRITE_EVERY_S", 0.0)
    counts: list[int] = []
    batched(cache).encode_images(images, progress=lambda *step: counts.append(count(cache, images)))
    assert counts == [0, 2, 4, 5], "a batch is read back once the next one is asked for"


def test_pooled_and_plain_features_are_spaces_of_their_own(cache: Cache, images: list[FileImage]) -> None:
    first = batched(cache)
    kinds: list[dict[str, Any]] = [
        {},
        {"output": "pooled"},
        {"normalize": False},
        {"output": "pooled", "normalize": False},
    ]
    rows = [first.encode_images(images[:2], **kind).rows for kind in kinds]
    assert len({row.tobytes() for row in rows}) == 4
    again = batched(cache)
    assert [again.encode_images(images[:2], **kind).rows.tobytes() for kind in kinds] == [r.tobytes() for r in rows]
    assert again.batches == []


def test_progress_counts_distinct_inputs_and_ends_at_their_number(cache: Cache, images: list[FileImage]) -> None:
    model(cache).encode_images(images[:1])
    steps: list[tuple[str, int, int]] = []
    model(cache).encode_images([*images, images[0]], progress=lambda *step: steps.append(step))
    assert steps == [("images", n, 5) for n in (2, 3, 4, 5, 5)]


def test_a_disabled_cache_changes_no_feature(cache: DiskCache, images: list[FileImage]) -> None:
    expected = model(cache).encode_images(images)
    cache.readable = cache.writable = False
    other = model(cache)
    found = other.encode_images(images)
    assert seen(other) == images
    assert found.rows.tobytes() == expected.rows.tobytes()


def test_what_captioning_encodes_is_kept_where_it_is_new(cache: Cache, images: list[FileImage], tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"no image")
    (tmp_path / "copy.png").write_bytes(images[3].path.read_bytes())
    bad, copy = FileImage(tmp_path / "bad.png"), FileImage(tmp_path / "copy.png")
    model(cache).encode_images(images[:2])
    captioner = model(cache)
    assert captioner.caption([bad, *images, copy], {"broken": 20.0}).kept.tolist() == [1, 2, 3, 4, 5, 6]
    after = model(cache)
    assert after.encode_images([*images, copy]).rows[:, 0].tolist() == [0, 10, 20, 30, 40, 30]
    assert seen(after) == images[2:3]  # the one that was not finite


@pytest.mark.parametrize("options", [{"gives": False}, {}])
def test_captions_without_features_keep_none(cache: Cache, images: list[FileImage], options: dict[str, Any]) -> None:
    sources = images if options else [FileImage(Path("gone.png"))]
    model(cache).caption(sources, options)
    assert count(cache, sources) == 0


@pytest.mark.parametrize("settled_s", [2, -2])
@pytest.mark.parametrize("way", ["encode_images", "caption"])
def test_a_file_overwritten_between_its_hash_and_its_decoding_is_kept_under_no_key(
    cache: Cache, tmp_path: Path, settled_s: float, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.png"
    Image.new("RGB", (4, 4), "red").save(path)
    before = path.read_bytes()
    monkeypatch.setattr("cocabench.core.signature.SETTLED_S", settled_s)  # known by its content, or by its stamp

    class Overwritten(Toy):
        def encode_images(self, images: Sequence[ImageSource], *, progress: Progress = silent) -> ImageFeatures:
            time.sleep(0.02)  # the clock of file systems is a coarse one
            Image.new("RGB", (4, 4), "lime").save(path)
            return super().encode_images(images, progress=progress)

    Image.new("RGB", (4, 4), "blue").save(buffer := io.BytesIO(), "PNG")
    other = BytesImage(buffer.getvalue(), "other")
    torn = Cached(Overwritten(), cache, MADE, "cpu")
    sources = [FileImage(path), other]
    rows = torn.encode_images(sources).rows if way == "encode_images" else torn.caption(sources, {}).features
    assert rows is not None
    assert rows.tolist() == [[0, 255, 0], [0, 0, 255]]
    said = f"1 image changed while being read, so that features are not cached; for example {path}"
    assert torn.notes == [Note("changed_images", said)]
    path.write_bytes(before)
    again = model(cache)
    assert again.encode_images(sources).rows.tolist() == [[255, 0, 0], [0, 0, 255]]
    assert seen(again) == [FileImage(path)]
    assert again.notes == []


def test_interrupted_captions_resume_with_whole_batches_and_the_same_bits(
    cache: Cache, images: list[FileImage]
) -> None:
    options = {"scale": 0.1}
    expected = batched(MemoryCache()).caption(images, options, prompts="a ")
    with pytest.raises(KeyboardInterrupt):
        batched(cache, stop_at=2).caption(images, options, prompts="a ")
    again = batched(cache)
    steps: list[tuple[str, int, int]] = []
    found = again.caption(images, options, prompts="a ", progress=lambda *step: steps.append(step))
    assert again.batches == [[40.0]]
    assert steps == [("captions", 5, 5), ("captions", 5, 5)]
    assert found.texts == expected.texts == ["a 0 of [0.0, 10.0]", "a 10 of [0.0, 10.0]", *found.texts[2:]]
    assert found.scores == expected.scores
    assert found.truncated == expected.truncated
    assert found.kept.tolist() == [0, 1, 2, 3, 4]
    features = batched(cache)
    assert features.encode_images(images).rows.tobytes() == expected.features.tobytes()
    assert features.batches == []


@pytest.mark.parametrize("changed", ["order", "options", "prompts", "prompt of a neighbour", "neighbour"])
def test_what_a_caption_depends_on_makes_its_batch_new(cache: Cache, images: list[FileImage], changed: str) -> None:
    batched(cache).caption(images[:2], {"scale": 1}, prompts=["a ", "b "])
    some = {"order": images[1::-1], "neighbour": images[:1] + images[2:3]}.get(changed, images[:2])
    prompts = {"prompts": ["b ", "a "], "prompt of a neighbour": ["a ", "c "]}.get(changed, ["a ", "b "])
    other = batched(cache)
    other.caption(some, {"scale": 2 if changed == "options" else 1}, prompts=prompts)
    assert len(other.batches) == 1
    same = batched(cache)
    same.caption(images[:2], {"scale": 1}, prompts=["a ", "b "])
    assert same.batches == []


def test_a_batch_with_an_unreadable_image_is_captioned_again(
    cache: Cache, images: list[FileImage], tmp_path: Path
) -> None:
    (tmp_path / "bad.png").write_bytes(b"no image")
    sources = [images[0], FileImage(tmp_path / "bad.png"), *images[1:3]]
    found = batched(cache).caption(sources, {"scale": 1})
    assert found.kept.tolist() == [0, 2, 3]
    again = batched(cache)
    assert again.caption(sources, {"scale": 1}).texts == found.texts
    assert again.batches == [[0.0]]


def test_cached_forwards_all_attributes_of_the_model(cache: Cache) -> None:
    wrapped = batched(cache)
    assert wrapped.batches is wrapped.model.batches
    assert wrapped.transform is _colours
    assert (wrapped.id, wrapped.abilities) == ("batched", frozenset({"encode", "caption"}))
    with pytest.raises(AttributeError, match="nowhere"):
        _ = wrapped.nowhere


class Drifting(Batched):
    """A model whose rows depend a little on the batch in which they are made, as those of real networks do."""

    def _batch(self, pixels: torch.Tensor) -> torch.Tensor:
        return super()._batch(pixels) * (1 + 1e-3 * len(self.batches))


@pytest.fixture
def twins(tmp_path: Path, images: list[FileImage]) -> list[FileImage]:
    """Return images of which the first two have further files of other bytes and equal pixels."""
    more = []
    for k in (0, 1):
        Image.open(images[k].path).save(tmp_path / f"twin{k}.png", "PNG")
        more.append(FileImage(tmp_path / f"twin{k}.png"))
    return [*images, *more]


def drifting(cache: Cache) -> Cached:
    return Cached(Drifting(), cache, MADE, "cpu")


@pytest.mark.parametrize("way", ["encode", "caption", "caption then encode", "encode then caption", "apart"])
def test_equal_pixels_share_one_feature_on_every_path(cache: Cache, twins: list[FileImage], way: str) -> None:
    if way == "apart":  # by two runs, neither of which reads both
        drifting(cache).encode_images(twins[:5])
        drifting(cache).encode_images(twins[5:])
    elif way == "encode then caption":
        drifting(cache).encode_images(twins[:5])
    if "caption" in way:
        drifting(cache).caption(twins, {"scale": 0.0})
    last = drifting(cache)
    rows = last.encode_images(twins).rows
    if way != "encode":
        assert last.model.batches == []  # type: ignore[attr-defined]
    for own, other in ((0, 5), (1, 6)):
        assert rows[own].tobytes() == rows[other].tobytes()
    assert len({row.tobytes() for row in rows}) == 5
    without = Drifting().encode_images(twins).rows
    assert without[1].tobytes() != without[6].tobytes(), "what the batch does to a row"


@pytest.mark.parametrize("normalize", [True, False])
def test_the_first_of_equal_pixels_may_have_gone_from_the_cache(
    cache: DiskCache, twins: list[FileImage], normalize: bool
) -> None:
    drifting(cache).encode_images(twins[:5], normalize=normalize)
    how: dict[str, Any] = {} if normalize else {"output": "projected", "normalize": False}
    cache.path(cached.space("images", MADE, "cpu", how)).unlink()
    rows = drifting(cache).encode_images(twins, normalize=normalize).rows
    assert rows[0].tobytes() == rows[5].tobytes()


def test_features_of_equal_pixels_differ_where_the_transform_or_mode_does(cache: Cache, tmp_path: Path) -> None:
    """Red and its grey have other pixels, and so have two sizes of one colour."""
    sources = []
    for k, (mode, size, colour) in enumerate((("RGB", 4, "red"), ("L", 4, "red"), ("RGB", 5, "red"))):
        Image.new(mode, (size, size), colour).save(tmp_path / f"m{k}.png")
        sources.append(FileImage(tmp_path / f"m{k}.png"))
    rows = batched(cache).encode_images(sources, normalize=False).rows
    assert rows[0].tolist() != rows[1].tolist()
    assert rows[0].tolist() == rows[2].tolist(), "the transform takes the mean"


def test_a_partly_filled_cache_moves_a_feature_within_the_precision_only(models: Path, images: list[FileImage]) -> None:
    """The signature's precision says so (``results/explain.py``); whoever wants the same bits takes --no-cache."""
    from cocabench.specs.registry import one_model

    rng = np.random.default_rng(0)
    for image in images:
        Image.fromarray(rng.integers(0, 255, (24, 24, 3), np.uint8)).save(image.path, "BMP")
    source, machine = one_model(str(models / "clip")), hardware(device="cpu", precision="fp32", workers=0)

    def rows(cache: Cache) -> Features:
        return Cached(source.load(machine), cache, MADE, "cpu").encode_images(images).rows

    partly = MemoryCache()
    Cached(source.load(machine), partly, MADE, "cpu").encode_images(images[1:3])
    empty, filled = rows(MemoryCache()), rows(partly)
    assert np.abs(filled - empty).max() <= 1e-6
    assert rows(partly).tobytes() == filled.tobytes(), "a full one gives what it holds"


def test_images_and_texts_of_other_widths_are_one_line() -> None:
    class Narrow(Toy):
        def encode_texts(self, texts: Sequence[str], *, progress: Progress = silent) -> Features:
            return np.ones((len(texts), 2), np.float32)

    model, picture = Cached(Narrow(), MemoryCache(), MADE, "cpu"), io.BytesIO()
    Image.new("RGB", (2, 2)).save(picture, "png")
    model.encode_texts(["a"])
    with pytest.raises(ModelError, match="toy: image features of 3 numbers and text features of 2; wanted one space"):
        model.encode_images([BytesImage(picture.getvalue(), "a")])
