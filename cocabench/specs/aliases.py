"""What CLIP_benchmark calls the tasks of cocabench."""

from __future__ import annotations

import re
from types import MappingProxyType

SAME_IMAGES = MappingProxyType(
    {f"vtab/{name}": name for name in ("cifar10", "cifar100", "dtd", "flowers", "pcam", "pets", "svhn")}
)
"""VTAB's test splits that are the sets' own, under one name here. Of other sets VTAB tests a part: vtab/eurosat is a
task beside eurosat."""


def task_name(dataset: str) -> str:
    """Return our name of a data set of CLIP_benchmark's: without wds/ or tfds/, and one name for the same images."""
    name = re.sub(r"^(wds|tfds)[/_]", "", dataset)
    return SAME_IMAGES.get(name, name)
