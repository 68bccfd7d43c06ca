"""Explanations of a Record's signature and environment, part by part."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import NamedTuple

from pydantic import JsonValue

from cocabench.core.types import Record
from cocabench.kinds import find
from cocabench.kinds.base import Kind
from cocabench.results.records import GIVEN_PARAMS

PARTS: Mapping[str, str] = {
    "task": "the task",
    "version": "version of the task file, raised when a published number would change",
    "evaluator": "the kind of task",
    "metrics": "version of the metrics' definitions",
    "data.images": "number of images",
    "data.texts": "number of captions",
    "data.classes": "number of class names in the data",
    "data.hash": "hash of ids, texts, labels, domains and negatives, in order",
    "language": "the language of the texts, of a set in several",
    "standard": "whether the counts are those of the standard protocol",
    "limit": "number of images in the random subset (--limit)",
    "pixels": "conversion of images that are not RGB",
    "published": "published; its protocol is not recorded",
    "imported": "imported from another program's file; only part of the protocol is known",
    "id": "the model's name as given",
    "weights": "hash of the weights, or the seed of random ones",
    "mixture": "hashes of the mixed weights, and the share of each",
    "architecture": "open_clip's model configuration, including tokenizer and context length",
    "quick_gelu": "QuickGELU instead of GELU",
    "preprocess": "resolution, resize mode, mean and std of the images",
    "resize": "--resize fast: torch's resize of uint8 instead of Pillow's; few pixels differ by 1",
    "text_language": "the language that the tokenizer begins texts with (NLLB)",
    "vocabulary": "the tokenizer's own files",
    "precision": "numeric precision; in fp32 a feature moves by up to 1e-6 with the others of its batch",
    "compile": "whether the image tower was compiled with torch.compile",
    "packages.open_clip_torch": "network code",
    "packages.pillow": "image decoding and resizing",
    "packages.torch": "computation",
    "packages.torchvision": "image transforms",
}
"""Explanations of parts that any kind of task may have; kinds explain their own parts."""

_ENVIRONMENT = {
    "interval_seed": "--seed for the resampling of some intervals; changes no value",
    GIVEN_PARAMS: "params that replaced those of the task file; what they change stands in the protocol",
}


class Part(NamedTuple):
    """A leaf of a signature: its name, its value as text, and an explanation, '' if there is none."""

    name: str
    value: str
    words: str


class Explanation(NamedTuple):
    """The parts of a Record's signature, and its environment, which is stored and not compared."""

    protocol: tuple[Part, ...]
    model: tuple[Part, ...]
    environment: tuple[Part, ...]


def explain(record: Record) -> Explanation:
    """Return the explanation of every leaf of a Record's signature."""
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
