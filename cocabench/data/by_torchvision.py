"""What torchvision reads and clip-benchmark does not, with that package's class names and templates."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from cocabench.data.prompts import class_names, templates

SVHN = "vtab/svhn"
FACES = ("fer2013.csv", "icml_face_data.csv")
FACE_LABELS = (0, 1, 2, 3, 5, 6, 4)
"""FER2013's table counts angry, disgust, fear, happy, sad, surprise, neutral; class names are sorted, as folders."""


def reader(dataset: str, root: Path) -> Callable[..., Any] | None:
    """Return what builds the data set in clip-benchmark's place; None where that package does."""
    if dataset == SVHN:
        return svhn
    if dataset == "fer2013" and any((root / "fer2013" / name).is_file() for name in FACES):
        return fer2013
    return None


def svhn(*, root: str, split: str, download: bool, **_: object) -> Any:
    """Return SVHN, which clip-benchmark has from TFDS only."""
    from torchvision import datasets

    return _named(datasets.SVHN(root, split=split, download=download), "svhn")


def fer2013(*, root: str, split: str, **_: object) -> Any:
    """Return FER2013 from the table of its challenge; clip-benchmark reads Kaggle's folders of the same faces."""
    from torchvision import datasets

    items = datasets.FER2013(root, split=split)
    items._samples = [(image, FACE_LABELS[label]) for image, label in items._samples]
    return _named(items, "fer2013")


def _named(items: Any, name: str) -> Any:
    items.classes, items.templates = class_names(name), templates(name)
    return items
