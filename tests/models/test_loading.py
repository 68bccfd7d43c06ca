"""Batches of images: order, bad files, and the same from a worker as from this process."""

import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cocabench.core.errors import BadImageError
from cocabench.data.images import FileImage
from cocabench.models.loading import Batch, batches

BAD = {2, 3, 7}


@dataclass(frozen=True)
class Source:
    shade: int

    def open(self) -> Image.Image:
        if self.shade in BAD:
            raise BadImageError(str(self.shade), "no image")
        return Image.new("L", (2, 2), self.shade)


def transform(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(image))[None]


def loaded(n: int, *, skip_bad: bool = True, workers: int = 0) -> Iterator[Batch]:
    return batches([Source(i) for i in range(n)], transform, batch_size=2, workers=workers, skip_bad=skip_bad)


def test_a_palette_with_transparency_is_read_as_its_colours_without_a_warning(tmp_path: Path) -> None:
    picture = Image.new("P", (2, 2), 1)
    picture.putpalette([9, 8, 7, 30, 20, 10])
    picture.save(tmp_path / "a.png", transparency=bytes([255, 128]))
    file = FileImage(tmp_path / "a.png")
    assert isinstance(file.open().info["transparency"], bytes)

    def rgb(image: Image.Image) -> torch.Tensor:
        return transform(image.convert("RGB"))

    (batch,) = batches([file], rgb, batch_size=1, workers=0, skip_bad=False)
    assert batch.pixels[0, 0, 0, 0].tolist() == [30, 20, 10]


@pytest.mark.parametrize("workers", [0, 2])
def test_images_come_in_order_without_the_bad_ones(workers: int) -> None:
    found = list(loaded(9, workers=workers))
    assert [batch.positions.tolist() for batch in found] == [[0, 1], [4, 5], [6], [8]]
    assert [batch.pixels[:, 0, 0, 0, 0].tolist() for batch in found] == [[0, 1], [4, 5], [6], [8]]
    assert [batch.done for batch in found] == [2, 6, 8, 9]


def test_the_first_bad_one_is_an_error_that_names_it() -> None:
    found = loaded(9, skip_bad=False)
    assert next(found).done == 2
    with pytest.raises(BadImageError, match="2"):
        next(found)


def test_images_that_cannot_be_sent_to_a_worker_are_read_here() -> None:
    found = list(batches([Source(9)], lambda image: transform(image), batch_size=2, workers=1, skip_bad=False))
    assert [batch.pixels[:, 0, 0, 0, 0].tolist() for batch in found] == [[9]]


class Named(Source):
    """A source that says what it is."""

    def identity(self) -> bytes:
        return b"%d" % self.shade

    def stamp(self) -> str:
        return ""


LOCK = threading.Lock()


def locking(image: Image.Image) -> torch.Tensor:
    """Return the process that reads, which needs a lock for it."""
    assert LOCK.acquire(timeout=1), "held by a thread of another process, for ever"
    LOCK.release()
    return torch.tensor([os.getpid()])


@pytest.mark.parametrize("kind", [Source, Named])
def test_workers_are_no_copies_of_a_process_in_which_a_thread_holds_a_lock(kind: type[Source]) -> None:
    sources = [kind(shade) for shade in (0, 1, 4, 5, 6)]
    with LOCK:
        found = list(batches(sources, locking, batch_size=2, workers=2, skip_bad=False))
    assert os.getpid() not in torch.cat([batch.pixels[:, 0] for batch in found]).tolist()
    assert [batch.positions.tolist() for batch in found] == [[0, 1], [2, 3], [4]]
