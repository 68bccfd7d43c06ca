"""Models of a run that prepare images alike read each image once."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image

from cocabench.core.cache import MemoryCache
from cocabench.data.images import FileImage, NeutralImage
from cocabench.models import loading
from cocabench.models.loading import Batch, batches
from cocabench.models.shelf import Shelf, shelf
from cocabench.run.engines import _together
from cocabench.run.plan import Cell, Plan, State, Step
from cocabench.run.prepare import Settings

TRANSFORM = image_transform_v2(PreprocessCfg(size=16), is_train=False)


@pytest.fixture
def files(tmp_path: Path) -> list[FileImage]:
    """Return seven images, the third of which is broken."""
    for k in range(7):
        noise = np.random.default_rng(k).integers(0, 256, (20, 30, 3), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / f"{k}.png")
    (tmp_path / "2.png").write_bytes(b"no image")
    return [FileImage(tmp_path / f"{k}.png") for k in range(7)]


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the images that are decoded from now on."""
    found: list[str] = []
    shown = loading.shown

    def watched(source: Any) -> Any:
        found.append(Path(str(source)).stem)
        return shown(source)

    monkeypatch.setattr(loading, "shown", watched)
    return found


@pytest.fixture
def kept() -> Iterator[Shelf]:
    with shelf(MemoryCache()) as empty:
        yield empty


def read(reader: Callable[..., Iterator[Batch]], images: Any, transform: Any = TRANSFORM) -> list[Batch]:
    return list(reader(images, transform, batch_size=2, workers=0, skip_bad=True))


def assert_equal(found: list[Batch], wanted: list[Batch]) -> None:
    assert [batch.done for batch in found] == [batch.done for batch in wanted]
    for one, other in zip(found, wanted, strict=True):
        assert torch.equal(one.pixels, other.pixels)
        assert one.positions.tolist() == other.positions.tolist()
        assert one.hashes == other.hashes


def test_the_second_model_gets_the_same_batches_without_decoding(
    files: list[FileImage], kept: Shelf, decoded: list[str]
) -> None:
    wanted = read(batches, files)
    assert_equal(read(kept.batches, files), wanted)
    decoded.clear()
    assert_equal(read(kept.batches, files), wanted)
    assert decoded == ["2", "3"], "a batch with a broken image is read again"


def test_images_that_the_first_model_did_not_need_are_read(
    files: list[FileImage], kept: Shelf, decoded: list[str]
) -> None:
    read(kept.batches, files[4:6])
    wanted = read(batches, files)
    decoded.clear()
    assert_equal(read(kept.batches, files), wanted)
    assert "4" not in decoded
    assert "6" in decoded


def test_a_batch_of_broken_images_alone_is_left_out(files: list[FileImage], kept: Shelf) -> None:
    images = [files[0], files[1], files[2], files[2], files[3]]
    for _ in range(2):
        assert_equal(read(kept.batches, images), read(batches, images))


def test_another_transform_or_another_content_is_read(files: list[FileImage], kept: Shelf, decoded: list[str]) -> None:
    read(kept.batches, files[:2])
    other = image_transform_v2(PreprocessCfg(size=16, mean=(0.5,) * 3), is_train=False)
    assert_equal(read(kept.batches, files[:2], other), read(batches, files[:2], other))
    Image.new("RGB", (20, 30), "red").save(files[0].path)
    assert_equal(read(kept.batches, files[:2]), read(batches, files[:2]))


def test_transforms_that_are_not_split_and_neutral_images_are_not_kept(files: list[FileImage], kept: Shelf) -> None:
    def whole(image: Image.Image) -> torch.Tensor:
        return TRANSFORM(image)

    assert_equal(read(kept.batches, files, whole), read(batches, files, whole))
    assert_equal(read(kept.batches, [files[0], NeutralImage()]), read(batches, [files[0], NeutralImage()]))
    assert not kept.held


@pytest.mark.parametrize("room", [0, 3 * 16 * 16 * 3])
def test_what_does_not_fit_is_read_again(
    files: list[FileImage], kept: Shelf, room: int, decoded: list[str], tmp_path: Path
) -> None:
    kept.room = room
    read(kept.batches, files[3:])
    assert kept.size == room
    decoded.clear()
    assert_equal(read(kept.batches, files[3:]), read(batches, files[3:]))
    if room == 0:  # nor does a disk that is full end the run
        (tmp_path / "pixels").touch()
        with FileIO(tmp_path / "pixels", "r") as file:
            full = replace(kept, room=1 << 30, file=file)
            assert_equal(read(full.batches, files), read(batches, files))
            assert full.room == 0


def cells(*made: tuple[str, str, State]) -> Plan:
    return Plan(
        Settings(),
        tuple(
            Cell(model, (Step("t", state),), {"preprocess": preprocess} if preprocess else {})
            for model, preprocess, state in made
        ),
    )


def ready(model: str, preprocess: str = "", state: State = State.READY) -> tuple[str, str, State]:
    return model, preprocess, state


@pytest.mark.parametrize(
    ("plan", "models"),
    [
        (cells(ready("a", "x")), set()),
        (cells(ready("a", "x"), ready("b", "y")), set()),
        (cells(ready("a", "x"), ready("b", "y"), ready("c", "x")), {"a", "c"}),
        (cells(ready("a", "x"), ready("b", "x", State.DONE)), set()),
        (cells(ready("a", "x"), ready("b")), {"a", "b"}),
        (cells(ready("a"), ready("b")), {"a", "b"}),
        (cells(ready("a")), set()),
    ],
)
def test_pixels_are_kept_only_for_models_that_prepare_images_alike(plan: Plan, models: set[str]) -> None:
    assert _together(plan) == models
