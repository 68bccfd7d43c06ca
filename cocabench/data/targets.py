"""The targets of an indexed data set (torchvision's and alike), read without decoding its images where possible."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from PIL import Image

from cocabench.data import hdf5

Target = int | tuple[int, ...] | list[str]
"""A label, the classes of a multi-label item, or captions."""


def targets(items: Any) -> list[Target | None]:
    """Return the target of every item; None for what is neither label, 0/1 vector nor captions.

    Data sets keep their targets under different names. One that agrees with the items themselves at the first, middle
    and last item is taken; where none does, every item is read, which decodes every image.
    """
    n = len(items)
    expected = {k: _read(items, k) for k in sorted({0, n // 2, n - 1})} if n else {}
    for kept in _kept(items):
        if len(kept) == n and all(target in (None, target_of(kept[k])) for k, target in expected.items()):
            return [target_of(target) for target in kept]
    return [_read(items, k) for k in range(n)]


def _read(items: Any, index: int) -> Target | None:
    """Return an item's target; None where its image is broken, which is told when the image is asked for."""
    try:
        image, target = items[index]
        if isinstance(image, Image.Image):
            image.close()  # Caltech-101 leaves its file open
        return target_of(target)
    except (OSError, SyntaxError, ValueError):
        return None


def _kept(items: Any) -> Iterator[Sequence[Any]]:
    """Yield what a data set may keep its targets in, in the order of its items."""
    for name in ("targets", "_labels", "labels", "y"):
        if hasattr(items, name):
            yield getattr(items, name)
    for name in ("samples", "_samples", "bndboxes", "data"):
        if isinstance(pairs := getattr(items, name, None), list):
            yield [pair[-1] for pair in pairs]
    if hasattr(items, "h5py"):
        yield hdf5.labels(items)
    if hasattr(items, "_load_target"):
        yield [items._load_target(key) for key in items.ids]


def target_of(value: Any) -> Target | None:
    """Return a target in our form; None for what is neither a label, a 0/1 vector nor captions."""
    if isinstance(value, (list, tuple)) and value and all(isinstance(text, str) for text in value):
        return list(value)
    plain = value.tolist() if hasattr(value, "tolist") else value
    if isinstance(plain, list):
        return tuple(k for k, present in enumerate(plain) if present)
    return int(plain) if isinstance(plain, int) else None
