"""Random subsets for --limit."""

from __future__ import annotations

import hashlib
from dataclasses import replace

from cocabench.core.errors import UsageError
from cocabench.core.types import Dataset, Note


def limited(dataset: Dataset, limit: int | None, seed: int) -> Dataset:
    """Return limit random examples in their original order, or the data set itself where it has no more.

    The examples with the smallest hash of seed and id are taken: the same everywhere, and a smaller limit gives a
    subset of a larger one. Classes stay as they are.
    """
    if limit is not None and limit < 1:
        raise UsageError("--limit", f"got {limit}", wanted="1 or more")
    if limit is None or limit >= len(dataset):
        return dataset
    hashes = [hashlib.sha256(f"{seed}:{example.id}".encode()).digest() for example in dataset.examples]
    chosen = sorted(sorted(range(len(hashes)), key=hashes.__getitem__)[:limit])
    what = "items" if any(example.others for example in dataset.examples) else "images"
    note = Note("limited", f"limited to {limit} of {len(dataset)} {what}, chosen at random with seed {seed}")
    examples = [dataset.examples[k] for k in chosen]
    return replace(dataset, examples=examples, notes=(*dataset.notes, note), whole=dataset.examples)
