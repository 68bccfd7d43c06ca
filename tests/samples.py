"""Results folders made of literal outcomes, for the tests of compare and gate."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cocabench.core.types import Record, Signature
from cocabench.kinds.classification import ACC1
from cocabench.metrics.base import estimate
from cocabench.results.store import Store

NAMES = ("cat", "dog")
_SECONDS = itertools.count()


def outcomes(hits: Sequence[bool] | np.ndarray, ids: str = "") -> pd.DataFrame:
    """Return the samples of a two-class task: image i is a cat, and is taken for a dog where it is no hit.

    ids: what their names begin with.
    """
    hits = np.asarray(hits, bool)
    names = [f"{ids}{i:05}" for i in range(len(hits))]
    return pd.DataFrame(
        {
            "id": names,
            "image_id": names,
            "label": 0,
            "n_above": (~hits).astype(int),
            "tied_negatives": 0,
            "identical": 0,
            "tied_positives": 1,
            "label_name": NAMES[0],
            "top5_names": [[NAMES[int(not hit)], NAMES[int(hit)]] for hit in hits],
        }
    )


def classified(
    root: Path,
    model: str,
    hits: Sequence[bool] | np.ndarray,
    task: str = "pets",
    *,
    protocol: dict[str, Any] | None = None,
    samples: bool = True,
    ids: str = "",
    **fields: Any,
) -> Record:
    """Write the Record of a classification, with its samples, to a results folder and return it."""
    frame = outcomes(hits, ids)
    metric = ACC1
    record = Record(
        task=task,
        model=model,
        evaluator="classification",
        primary="acc1",
        signature=Signature(protocol=protocol or {"task": task, "data": {"images": len(frame)}}, model={"id": model}),
        metrics={"acc1": estimate(metric, frame)},
        definitions={"acc1": metric.info},
        created=f"2025-01-01T00:00:{next(_SECONDS):06}Z",
        **fields,
    )
    store = Store(root)
    if samples:
        return store.put(record, frame)
    store.put_record(record)
    return record


def right(n_right: int, n: int) -> np.ndarray:
    """The first n_right of n images are hits."""
    return np.arange(n) < n_right
