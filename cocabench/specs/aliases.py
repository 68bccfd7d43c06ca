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


def spellings(task: str) -> tuple[str, ...]:
    """Return a task's names, as sets write its language: ``ja`` or ``jp``, in small letters or capitals.

    >>> spellings("xtd10/ja"), spellings("babel_imagenet/de"), spellings("cifar10")
    (('xtd10/ja', 'xtd10/jp', 'xtd10/JA', 'xtd10/JP'), ('babel_imagenet/de', 'babel_imagenet/DE'), ('cifar10',))
    """
    name, slash, code = task.rpartition("/")
    codes = (code, {"ja": "jp", "jp": "ja"}.get(code.lower(), code))
    return tuple(dict.fromkeys(f"{name}/{way}" for way in (*codes, *(c.upper() for c in codes)))) if slash else (task,)


_CAPTIONERS = {
    "": (77,),
    "dci-complete_s12m_": (77, 128, 256),
    "dci-extended_s12m_": (77, 128, 256),
    "dci-short_s12m_": (77, 128, 256),
    "docci_s12m_": (77, 128, 256),
    "gbc10m-long_": (256,),
    "gbc10m-short-relation_": (256,),
    "gbc1m-long_": (256,),
    "gbc1m-short_": (77,),
    "mscoco38k_s12m_": (77,),
    "recap-coco-30k_s12m_": (77, 128, 256),
}
"""The data of MobileCLIP2's captioners, and the contexts that each was trained at (README of apple/ml-mobileclip)."""

CAPTIONERS = tuple(
    f"mobileclip2_coca_dfn2b_s13b_{data}context{context}"
    for data, contexts in _CAPTIONERS.items()
    for context in contexts
)
"""CoCas on the hub whose config.json is a model config of open_clip, and which open_clip does not list."""


def hub_name(name: str) -> str:
    """Return the hub repository of a captioner's name, with or without its organization; '' for other names.

    >>> hub_name("mobileclip2_coca_dfn2b_s13b_context77")
    'apple/mobileclip2_coca_dfn2b_s13b_context77'
    """
    name = name.removeprefix("apple/")
    return f"apple/{name}" if name in CAPTIONERS else ""
