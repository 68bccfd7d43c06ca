"""Pixels that several models of a run read: the first model's are kept in a temporary file, the others take them there.

Kept are uint8 pixels (``pixels.Split``) by the content of the image and by the transform, up to a limit.
"""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from io import FileIO
from typing import Any, NamedTuple

import numpy as np
import torch

from cocabench.core.cache import Cache
from cocabench.core.temporary import temporary_folder
from cocabench.core.types import ImageSource
from cocabench.models import contents
from cocabench.models.loading import Batch, batches
from cocabench.models.pixels import Split, Transform, split

MAX_BYTES = 16 << 30
"""Of a run's pixels, and at most a quarter of the free disk: about 100,000 images of 224 x 224."""


class _Place(NamedTuple):
    """Where an image's pixels begin in the file, their shape, and their hash."""

    offset: int
    shape: tuple[int, ...]
    hash: bytes


@dataclass
class Shelf:
    """The pixels of a run. file: open for reading and writing, unbuffered. room: its largest size in bytes."""

    cache: Cache
    file: FileIO
    room: int
    size: int = 0
    held: dict[tuple[bytes, bytes | None], _Place] = field(default_factory=dict)

    def batches(
        self, sources: Sequence[ImageSource], transform: Transform, *, batch_size: int, pin: bool = False, **how: Any
    ) -> Iterator[Batch]:
        """Yield what ``loading.batches`` yields; batches of which all images are kept are not read again."""
        made = _made(transform)
        found = contents.of_images(sources, self.cache) if made else contents.Contents((), [None] * len(sources))
        keys = [(made, key) for key in found.keys]
        spans = [slice(at, min(at + batch_size, len(sources))) for at in range(0, len(sources), batch_size)]
        kept = [all(key in self.held for key in keys[span]) for span in spans]
        rest = [i for span, there in zip(spans, kept, strict=True) if not there for i in range(span.start, span.stop)]
        new = batches([sources[i] for i in rest], transform, batch_size=batch_size, pin=pin, **how)
        upcoming, read = next(new, None), 0
        for span, there in zip(spans, kept, strict=True):
            if there:
                yield self._taken(keys[span], span, pin=pin)
                continue
            read += span.stop - span.start
            if upcoming is None or upcoming.done > read:  # of this one no image could be read
                continue
            at = [rest[k] for k in upcoming.positions]
            before = contents.Contents([found.stamps[i] for i in at], [found.keys[i] for i in at]) if made else None
            if before is not None and torch.is_tensor(upcoming.pixels) and upcoming.pixels.dtype == torch.uint8:
                same = contents.unchanged([sources[i] for i in at], before)
                self._keep([keys[i] for i in at], upcoming, same.tolist())
            yield upcoming._replace(positions=np.array(at, np.int64), done=span.stop)
            upcoming = next(new, None)

    def _keep(self, keys: Sequence[tuple[bytes, bytes | None]], batch: Batch, same: Sequence[bool]) -> None:
        """Add a batch's pixels, except those of images that changed meanwhile; stop where the file may grow no more."""
        for key, pixels, name, unchanged in zip(keys, batch.pixels, batch.hashes, same, strict=True):
            size = pixels.numel()
            if key[1] is None or key in self.held or not unchanged or self.size + size > self.room:
                continue
            try:
                self.file.seek(self.size)
                written = self.file.write(pixels.contiguous().numpy().data)
            except OSError:
                written = 0
            if written < size:  # the disk is full: nothing further is kept
                self.room = 0
                return
            self.held[key] = _Place(self.size, tuple(pixels.shape), name)
            self.size += size

    def _taken(self, keys: Sequence[tuple[bytes, bytes | None]], span: slice, *, pin: bool) -> Batch:
        places = [self.held[key] for key in keys]
        pixels = torch.empty((len(places), *places[0].shape), dtype=torch.uint8, pin_memory=pin)
        for row, place in zip(pixels.numpy(), places, strict=True):
            self.file.seek(place.offset)
            self.file.readinto(row.data)
        return Batch(pixels, np.arange(span.start, span.stop), span.stop, [place.hash for place in places])


def _made(transform: Transform) -> bytes:
    """Return what identifies a transform, b'' for one whose pixels cannot be kept."""
    if isinstance(split(transform), Split):
        with suppress(pickle.PicklingError, AttributeError, TypeError):
            return contents.of_bytes(pickle.dumps(transform))
    return b""


@contextmanager
def shelf(cache: Cache) -> Iterator[Shelf]:
    """Yield an empty Shelf; its file is removed at the end."""
    with temporary_folder("cocabench-pixels-") as folder, FileIO(folder / "pixels", "x+") as file:
        yield Shelf(cache, file, min(MAX_BYTES, shutil.disk_usage(folder).free // 4))
