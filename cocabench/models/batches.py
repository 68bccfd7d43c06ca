"""Images in batches: decoded and transformed in workers, a bad file reported by name or left out."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from cocabench.errors import BadImageError, DataError
from cocabench.models.build import Transform
from cocabench.types import ImageSource


class Batch(NamedTuple):
    """pixels (k, 3, h, w) and the positions (k,) of these images among those asked for; done: images seen so far."""

    pixels: torch.Tensor
    positions: NDArray[np.int64]
    done: int


class _Images(Dataset[torch.Tensor | DataError]):
    def __init__(self, sources: Sequence[ImageSource], transform: Transform) -> None:
        self.sources, self.transform = sources, transform

    def __len__(self) -> int:
        return len(self.sources)

    def __getitem__(self, index: int) -> torch.Tensor | DataError:
        try:
            return self.transform(self.sources[index].open())
        except DataError as error:  # told, not raised: a worker's exception would lose its class on the way
            return error


def batches(
    sources: Sequence[ImageSource], transform: Transform, *, batch_size: int, workers: int | None, skip_bad: bool
) -> Iterator[Batch]:
    """Yield the images that can be read, in order. The first bad one raises BadImageError unless skip_bad."""
    loader = DataLoader(
        _Images(sources, transform),
        batch_size=batch_size,
        num_workers=default_workers(len(sources)) if workers is None else workers,
        collate_fn=list,
        pin_memory=False,
    )
    start = 0
    for items in loader:
        for item in items:
            if isinstance(item, DataError) and not (skip_bad and isinstance(item, BadImageError)):
                raise item
        good = [(i, item) for i, item in enumerate(items, start) if isinstance(item, torch.Tensor)]
        start += len(items)
        if good:
            yield Batch(torch.stack([item for _, item in good]), np.array([i for i, _ in good], np.int64), start)


def default_workers(n_images: int) -> int:
    """Return 0 for few images (a worker's start costs more), else one process per two cores, 8 at most."""
    return 0 if n_images < 512 else max(1, min(8, (os.cpu_count() or 1) // 2))
