"""Ranks by dual softmax: a score counts for more where its candidate fits no other query as well.

Source: Cheng et al. 2021, arXiv:2109.04290 (CAMoE): the similarity times a prior, its softmax over the queries.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cocabench.core.types import Features
from cocabench.metrics.grid import Grid, product
from cocabench.metrics.ranking import Floats, Ints, Ranks, positive_ranks

SCORES_PER_CHUNK = 1 << 22
"""Exact scores held at a time (32 MiB of float64)."""


def weights(scores: Floats, temperature: float) -> Floats:
    """Return exp(temperature · (score - 1)) of cosines (q, n), in (0, 1]: the softmax's terms, without overflow."""
    return np.asarray(np.exp(temperature * (scores - 1)))


def dual_ranks(
    queries: Features,
    candidates: Features,
    positives: Sequence[Ints],
    temperature: float,
    items: Ints | None = None,
) -> Ranks:
    """Rank candidates (n, d) for queries (q, d), unit rows, by cosine times the softmax over the queries.

    positives: for each query the indices of its positives, one at least. temperature: the factor of the cosines in the
    softmax, up to 300. items: (n,) as in ``positive_ranks``. A rank depends on all queries of the set, so that it says
    nothing about a query alone, and is never to be compared with a plain rank.
    """
    left, right = Grid(queries, "query features"), Grid(candidates, "candidate features")
    every, scale = right[slice(None)], left.step * right.step
    size = max(1, SCORES_PER_CHUNK // max(1, len(candidates)))
    chunks = [slice(start, start + size) for start in range(0, len(queries), size)]
    sums = np.zeros(len(candidates))
    for chunk in chunks:
        sums += weights(scale * product(left[chunk], every), temperature).sum(axis=0)
    found = []
    for chunk in chunks:
        scores = scale * product(left[chunk], every)
        mask = np.zeros(scores.shape, bool)
        for row, indices in zip(mask, positives[chunk], strict=True):
            row[indices] = True
        found.append(positive_ranks(scores * (weights(scores, temperature) / sums), mask, items))
    return Ranks(*(np.concatenate(some) for some in zip(*found, strict=True)))
