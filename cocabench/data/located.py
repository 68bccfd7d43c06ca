"""Where the images of an indexed data set (torchvision's and alike) lie: in files, as rows of one, or in memory."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from cocabench.core.types import ImageSource
from cocabench.data import hdf5
from cocabench.data.images import FileImage, ItemImage

_UNREADABLE = (OSError, SyntaxError, ValueError)


def located(items: Any, where: str) -> list[tuple[str, ImageSource]]:
    """Return an id and the image of every item.

    A file that holds what its item shows is named by its path, without ending, below the folder that all share; so its
    id does not depend on the order in which a machine lists files. Other items (in memory, cropped) are numbered.
    """
    n = len(items)
    for paths in _kept(items):
        if len(paths) == n and all(_shows(items, k, Path(paths[k])) for k in {0, n // 2, n - 1}):
            return _named([os.fspath(path) for path in paths])
    numbers = [f"{k:06d}" for k in range(n)]
    if hasattr(items, "h5py"):
        return list(zip(numbers, hdf5.rows(items), strict=True))
    return [(number, ItemImage(items, k, where)) for k, number in enumerate(numbers)]


def _kept(items: Any) -> Iterator[Sequence[Any]]:
    """Yield what a data set may keep its files in, in the order of its items."""
    for name in ("_image_files", "_images"):
        if isinstance(paths := getattr(items, name, None), list) and paths:
            yield paths
    for name in ("samples", "_samples"):
        if isinstance(pairs := getattr(items, name, None), list) and pairs and isinstance(pairs[0][0], (str, Path)):
            yield [pair[0] for pair in pairs]
    if hasattr(items, "categories") and hasattr(items, "index"):  # Caltech-101
        folder = Path(items.root, "101_ObjectCategories")
        pairs = zip(items.y, items.index, strict=True)
        yield [folder / items.categories[label] / f"image_{number:04d}.jpg" for label, number in pairs]


def _shows(items: Any, index: int, path: Path) -> bool:
    """Tell whether the file holds what the item shows; an item that cannot be read is told when it is asked for."""
    try:
        shown = items[index][0].convert("RGB")
    except _UNREADABLE:
        return True
    try:
        with Image.open(path) as image:
            return bool(image.convert("RGB").tobytes() == shown.tobytes())
    except _UNREADABLE:
        return False


def _named(paths: Sequence[str]) -> list[tuple[str, ImageSource]]:
    shared = os.path.commonpath({os.path.dirname(path) for path in paths})
    return [(Path(os.path.splitext(path[len(shared) + 1 :])[0]).as_posix(), FileImage(Path(path))) for path in paths]
