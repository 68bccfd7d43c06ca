"""A data set's fingerprint: what was measured on, independent of where it lies."""

from __future__ import annotations

import json
from collections.abc import Iterator

from pydantic import JsonValue

from cocabench.core.signature import digest_lines
from cocabench.core.types import Dataset


def fingerprint(dataset: Dataset) -> dict[str, JsonValue]:
    """Return counts, and a hash of ids, texts, labels, domains, negatives and metadata in order.

    The same data gives the same anywhere.
    """
    return {
        "images": sum(len(example.images) for example in dataset.examples),
        "texts": sum(len(example.texts) for example in dataset.examples),
        "classes": len(dataset.classes),
        "hash": digest_lines(_lines(dataset)),
    }


def _lines(dataset: Dataset) -> Iterator[str]:
    """Yield what is hashed, each line with a letter that says what it is."""
    for example in dataset.examples:
        yield f"i{example.id}"
        yield from (f"t{text}" for text in example.texts)
        yield f"l{example.label}"
        yield f"d{example.domain}"
        yield from (f"n{k} {text}" for k, group in enumerate(example.negatives) for text in group)
        if example.metadata:  # only where there is any, so that the hashes of other data stay
            yield f"m{json.dumps(example.metadata, sort_keys=True, ensure_ascii=False)}"
