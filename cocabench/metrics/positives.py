"""Retrieval with several positives a query: R-precision and mAP@R, and the rank of the best positive."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from cocabench.core.types import Features
from cocabench.metrics.grid import Grid, product
from cocabench.metrics.ranking import Floats, Ints, Mask, Neighbours, Ranks, Scores, highest, positive_ranks

SCORES_PER_CHUNK = 1 << 23
"""Exact scores held at a time (64 MiB of float64)."""


class Precisions(NamedTuple):
    """Per query (q,), 0-1: mAP@R's average precision, and R-precision, R being the query's number of positives."""

    average: Floats
    r_precision: Floats


def precisions(scores: Floats | Scores, positive: Mask, missing: Ints | None = None) -> Precisions:
    """Return the precisions of queries (q,) among their first R candidates.

    scores: (q, n) finite, higher is better; below 2^52 in steps, so that a number stands between any two of them.
    positive: (q, n), one True per row at least. missing: (q,) how many more positives a query has that are no
    candidates; R is the number of both, as eccv-caption counts them. average: the mean over r = 1 … R of the precision
    at r where candidate r is a positive, else 0; r_precision: the share of positives among the first R (Musgrave et al.
    2020, section 3.2). Ties count against the model: negatives first.

    >>> precisions(np.array([[0.9, 0.8, 0.7, 0.1]]), np.array([[True, False, True, False]]))
    Precisions(average=array([0.5]), r_precision=array([0.5]))
    """
    sizes = positive.sum(axis=1) + (0 if missing is None else missing)
    most = min(int(sizes.max()), positive.shape[1]) if len(sizes) else 0
    keys = np.where(positive, np.nextafter(scores, scores.dtype.type(-np.inf)), scores)
    first = np.argpartition(-keys, min(most, keys.shape[1] - 1), axis=1)[:, :most]
    order = np.argsort(-np.take_along_axis(keys, first, axis=1), axis=1, kind="stable")
    places = np.arange(1, most + 1)
    hits = np.take_along_axis(positive, np.take_along_axis(first, order, axis=1), axis=1) & (places <= sizes[:, None])
    found = (hits * hits.cumsum(axis=1) / places).sum(axis=1)
    return Precisions(np.asarray(found / sizes, np.float64), np.asarray(hits.sum(axis=1) / sizes, np.float64))


class Found(NamedTuple):
    """Of queries (q,): where the best positive stands, the precisions, and the highest wrong candidates."""

    ranks: Ranks
    precisions: Precisions
    wrong: Neighbours


def search(
    queries: Features,
    candidates: Features,
    positives: Sequence[Ints],
    *,
    missing: Ints | None = None,
    items: Ints | None = None,
    wrong: int = 5,
) -> Found:
    """Rank candidates (n, d) for queries (q, d) by exact cosines, so that equal features tie.

    positives: for each query the indices of its positives, one at least. missing: as in ``precisions``. items: (n,) as
    in ``positive_ranks``.
    """
    left, right = Grid(queries, "query features"), Grid(candidates, "candidate features")
    every = right[slice(None)]
    parts = []
    for start in range(0, len(queries), size := max(1, SCORES_PER_CHUNK // max(1, len(candidates)))):
        own = positives[start : start + size]
        lost = None if missing is None else missing[start : start + size]
        mask = np.zeros((len(own), len(candidates)), bool)
        for row, indices in zip(mask, own, strict=True):
            row[indices] = True
        scores = product(left[slice(start, start + size)], every)
        near = highest(np.asarray(scores * (left.step * right.step), np.float32), ~mask, wrong)
        parts.append(Found(positive_ranks(scores, mask, items), precisions(scores, mask, lost), near))
    return Found(
        Ranks(*(np.concatenate(some) for some in zip(*(part.ranks for part in parts), strict=True))),
        Precisions(*(np.concatenate(some) for some in zip(*(part.precisions for part in parts), strict=True))),
        Neighbours(*(np.concatenate(some) for some in zip(*(part.wrong for part in parts), strict=True))),
    )
