"""CLIP_benchmark's names of cocabench's tasks."""

from __future__ import annotations

import re
from types import MappingProxyType

SAME_IMAGES = MappingProxyType(
    {f"vtab/{name}": name for name in ("cifar10", "cifar100", "dtd", "flowers", "pcam", "pets", "svhn")}
)
"""VTAB test splits that equal the data set's own; they have one name here. VTAB uses a part of other sets:
vtab/eurosat and eurosat are two tasks."""


def task_name(dataset: str) -> str:
    """Return our name of a CLIP_benchmark data set: without wds/ or tfds/, and one name for the same images."""
    name = re.sub(r"^(wds|tfds)[/_]", "", dataset)
    return SAME_IMAGES.get(name, name)
