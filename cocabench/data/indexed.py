"""Images and targets of indexed data sets (torchvision's and the like), if possible without decoding every image."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from cocabench.core.errors import BadImageError, MissingDataError
from cocabench.core.files import PIXELS, ROWS
from cocabench.core.types import ImageSource
from cocabench.data.images import FileImage, ItemImage, opened, these_formats_alone

Target = int | tuple[int, ...] | list[str]
"""A label, the classes of a multi-label item, or captions."""

_UNREADABLE = (OSError, SyntaxError, ValueError, BadImageError)
"""What an item raises whose image is broken; the error is reported when the image is asked for."""


def targets(items: Any) -> list[Target | None]:
    """Return the target of every item; None for what is neither label, 0/1 vector nor captions.

    Data sets keep their targets under different names. The first attribute that agrees with the items themselves at
    the first, middle and last item is taken; if none does, every item is read, which decodes every image.
    """
    n = len(items)
    expected = {k: _read_target(items, k) for k in sorted({0, n // 2, n - 1})} if n else {}
    for stored in _stored_targets(items):
        if len(stored) == n and all(target in (None, target_of(stored[k])) for k, target in expected.items()):
            return [target_of(target) for target in stored]
    return [_read_target(items, k) for k in range(n)]


def target_of(value: Any) -> Target | None:
    """Return a target in our form; None for what is neither a label, a 0/1 vector nor captions."""
    if isinstance(value, (list, tuple)) and value and all(isinstance(text, str) for text in value):
        return list(value)
    plain = value.tolist() if hasattr(value, "tolist") else value
    if isinstance(plain, list):
        return tuple(k for k, present in enumerate(plain) if present)
    return int(plain) if isinstance(plain, int) else None


def _read_target(items: Any, index: int) -> Target | None:
    """Return an item's target; None if its image is broken."""
    try:
        with these_formats_alone():
            image, target = items[index]
        if isinstance(image, Image.Image):
            image.close()  # Caltech-101 leaves its file open
        return target_of(target)
    except _UNREADABLE:
        return None


def _stored_targets(items: Any) -> Iterator[Sequence[Any]]:
    """Yield the attributes that may hold the targets, in the order of the items."""
    for name in ("targets", "_labels", "labels", "y"):
        if hasattr(items, name):
            yield getattr(items, name)
    for name in ("samples", "_samples", "bndboxes", "data"):
        if isinstance(pairs := getattr(items, name, None), list):
            yield [pair[-1] for pair in pairs]
    if hasattr(items, "h5py"):
        yield _pcam_labels(items)
    if hasattr(items, "_load_target"):
        yield [items._load_target(key) for key in items.ids]


def located(items: Any, where: str) -> list[tuple[str, ImageSource]]:
    """Return an id and the image of every item.

    A file that holds what its item shows is named by its path, without ending, below the folder that all share; so its
    id does not depend on the order in which a machine lists files. Other items (in memory, cropped) are numbered.
    """
    n = len(items)
    for paths in _stored_paths(items):
        if len(paths) == n and all(_shows(items, k, Path(paths[k])) for k in {0, n // 2, n - 1}):
            return _named_by_path([os.fspath(path) for path in paths])
    numbers = [f"{k:06d}" for k in range(n)]
    if hasattr(items, "h5py"):
        file = _pcam_file(items, "images")
        return [(number, RowImage(file, k)) for k, number in enumerate(numbers)]
    return [(number, ItemImage(items, k, where)) for k, number in enumerate(numbers)]


def _stored_paths(items: Any) -> Iterator[Sequence[Any]]:
    """Yield the attributes that may hold the files' paths, in the order of the items."""
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
    """Tell whether the file holds what the item shows; True for an item that cannot be read."""
    try:
        with these_formats_alone():
            shown = items[index][0].convert("RGB")
    except _UNREADABLE:
        return True
    try:
        with opened(path) as image:
            return bool(image.convert("RGB").tobytes() == shown.tobytes())
    except _UNREADABLE:
        return False


def _named_by_path(paths: Sequence[str]) -> list[tuple[str, ImageSource]]:
    shared = os.path.commonpath({os.path.dirname(path) for path in paths})
    return [(Path(os.path.splitext(path[len(shared) + 1 :])[0]).as_posix(), FileImage(Path(path))) for path in paths]


@dataclass(frozen=True, slots=True)
class RowImage:
    """Row index of x (n, height, width, 3) in an HDF5 file, as PatchCamelyon has them.

    The file is opened for each image: a handle survives neither fork nor pickle.
    """

    path: Path
    index: int

    def open(self) -> Image.Image:
        """Read and return the image; MissingDataError if the file is gone, BadImageError if it is broken."""
        with _opened(self.path, str(self)) as file:
            PIXELS.check(math.prod(file["x"].shape[1:3]), self, BadImageError)
            return Image.fromarray(file["x"][self.index])

    def identity(self) -> bytes:
        image = self.open()
        return repr((image.mode, image.size)).encode() + image.tobytes()

    def stamp(self) -> str:
        whole = FileImage(self.path).stamp()
        return f"{whole} {self.index}" if whole else ""

    def __str__(self) -> str:
        return f"{self.path}[{self.index}]"


@contextmanager
def _opened(path: Path, where: str) -> Iterator[Any]:
    import h5py

    try:
        with h5py.File(path) as file:
            yield file
    except FileNotFoundError:
        raise MissingDataError(str(path), "no such file") from None
    except (OSError, KeyError, IndexError, ValueError, TypeError) as error:
        raise BadImageError(where, str(error).splitlines()[0]) from None


def _pcam_labels(pcam: Any) -> list[int]:
    """Return the labels of torchvision's PCAM, y (n, 1, 1, 1), at once; item by item it opens two files for each."""
    path = _pcam_file(pcam, "targets")
    with _opened(path, str(path)) as file:
        ROWS.check(len(file["y"]), path)
        return [int(label) for label in file["y"][:, 0, 0, 0]]


def _pcam_file(pcam: Any, kind: str) -> Path:
    return Path(pcam._base_folder, pcam._FILES[pcam._split][kind][0])
