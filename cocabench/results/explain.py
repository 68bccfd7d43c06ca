"""A signature in words: what each part is, and what of a Record is compared, what names it, and what is only kept."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import NamedTuple

from pydantic import JsonValue

from cocabench.core.types import Record
from cocabench.kinds import find
from cocabench.kinds.base import Kind

PARTS: Mapping[str, str] = {
    "task": "the task",
    "version": "version of the task file, raised when a published number would change",
    "evaluator": "the kind of task",
    "metrics": "version of the metrics' definitions",
    "data.images": "images measured on",
    "data.texts": "captions of these images",
    "data.classes": "class names that the data bring",
    "data.hash": "ids, texts, labels, domains and negatives, in order",
    "standard": "whether the counts are those of the standard protocol",
    "limit": "a random subset of so many images (--limit)",
    "pixels": "what is done to images that are not RGB",
    "published": "read from a publication: its protocol is not recorded",
    "imported": "read from another program's file: only a part of the protocol is known",
    "id": "the model as it was named",
    "weights": "the weights file, or the seed of random ones",
    "architecture": "open_clip's model configuration, tokenizer and context length among it",
    "quick_gelu": "QuickGELU in the place of GELU",
    "preprocess": "resolution, resize mode, mean and std of the images",
    "vocabulary": "the tokenizer's own files",
    "precision": "of the computation",
    "compile": "the image tower ran through torch.compile",
    "packages.open_clip_torch": "builds the network",
    "packages.pillow": "decodes and resizes images",
    "packages.torch": "computes",
    "packages.torchvision": "transforms images",
}
"""What each leaf of a signature is that any kind of task may have; a kind says what its own are."""

_ENVIRONMENT = {"interval_seed": "--seed, of the resampling behind some intervals; it moves no value"}


class Part(NamedTuple):
    """A leaf of a signature: its name, its value as text, and what it is, '' where that is not known."""

    name: str
    value: str
    words: str


class Explanation(NamedTuple):
    """A Record's signature, part by part. environment is kept with the Record and never compared."""

    protocol: tuple[Part, ...]
    model: tuple[Part, ...]
    environment: tuple[Part, ...]


def explain(record: Record) -> Explanation:
    """Return every leaf of a Record's signature in words."""
    environment = tuple(Part(name, value, _ENVIRONMENT.get(name, "")) for name, value in record.environment.items())
    kind, signature = find(record.evaluator), record.signature
    return Explanation(_parts(signature.protocol, kind), _parts(signature.model, kind), environment)


def _parts(tree: Mapping[str, JsonValue], kind: type[Kind], prefix: str = "") -> tuple[Part, ...]:
    found: list[Part] = []
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            found += _parts(value, kind, f"{name}.")
        else:
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            own = kind.part(name)
            found.append(Part(name, text or "none", PARTS.get(name) or (own.words if own else "")))
    return tuple(found)
