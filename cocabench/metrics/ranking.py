"""Ranks of the correct answers among all candidates, and recall.

Ties are real: ImageNet has classes of equal name, Flickr8k captions of equal words. An identical item (the same text
belonging to another image, or to another class) gets the expected value over tie-breaking; any other tie counts
against the model, so that a collapsed model scores at the bottom and not at the top.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy
from numpy.typing import NDArray

from cocabench.core.errors import NumericsError

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Scores = NDArray[np.float32]
Mask = NDArray[np.bool_]

SCORES_PER_CHUNK = 1 << 26
"""Scores held at a time (256 MiB of float32)."""
ROWS_PER_CHECK = 1 << 14
"""Rows checked for NaN at a time, so that a memory-mapped matrix is not read into memory as a whole."""


class Ranks(NamedTuple):
    """Per query (q,): where its best positive stands.

    n_above: negatives that score higher. tied_negatives: negatives of the same score, identical ones among them.
    identical: negatives that are the same item as the best positive. tied_positives: positives of that score, >= 1.
    """

    n_above: Ints
    tied_negatives: Ints
    identical: Ints
    tied_positives: Ints


def positive_ranks(scores: Scores | Floats, positive: Mask, items: Ints | None = None) -> Ranks:
    """Return where each query's best positive stands.

    scores:   (q, n) float, finite, higher is better, any sign. NaN or infinity raises NumericsError.
    positive: (q, n) bool, at least one True per row.
    items:    (n,) equal numbers for identical candidates; None: all differ.

    >>> positive_ranks(np.array([[0.9, 0.1, 0.5]], np.float32), np.array([[False, False, True]])).n_above
    array([1])
    """
    check_finite(scores, "scores")
    masked = np.where(positive, scores, -np.inf)
    best = masked.argmax(axis=1)
    top = scores[np.arange(len(scores)), best][:, None]
    tied = scores == top
    tied_negatives = (tied & ~positive).sum(axis=1)
    same = np.zeros_like(positive) if items is None else items[None, :] == items[best][:, None]
    return Ranks(
        ((scores > top) & ~positive).sum(axis=1),
        tied_negatives,
        (tied & same & ~positive).sum(axis=1),
        (tied & positive).sum(axis=1),
    )


def check_finite(values: NDArray[np.floating], what: str) -> None:
    """NumericsError where a NaN or infinity is: unchecked, a NaN would rank every positive first."""
    for start in range(0, len(values), ROWS_PER_CHECK):
        bad = np.flatnonzero(~np.isfinite(values[start : start + ROWS_PER_CHECK]).all(axis=1))
        if len(bad):
            fix = "the weights or the precision are broken; try --precision fp32"
            raise NumericsError(what, f"NaN or infinity in row {start + bad[0]}", wanted="finite numbers", fix=fix)


def pessimistic(ranks: Ranks) -> Ints:
    """Return how many negatives count as above: all ties but those of identical items."""
    return ranks.n_above + ranks.tied_negatives - ranks.identical


def hits_at(ranks: Ranks, k: int) -> Floats:
    """Return per query 1.0 where a positive is among the top k, else 0.0; between them for ties of identical items.

    CLIP convention ("recall@K"): any positive counts, once. With m places left for a tied block of p positives and
    i identical negatives in random order, the expected value is 1 - C(i, m) / C(i + p, m).
    """
    places = np.maximum(k - pessimistic(ranks), 0)
    if not ranks.identical.any():
        return (places > 0).astype(np.float64)
    block, few = ranks.identical + ranks.tied_positives, np.minimum(places, ranks.identical)
    misses = np.where(
        places > ranks.identical, 0.0, np.exp(_log_choose(ranks.identical, few) - _log_choose(block, few))
    )
    return np.asarray(np.where(places > 0, 1.0 - misses, 0.0), np.float64)


def _log_choose(n: Ints, k: Ints) -> Floats:
    log_factorial = [scipy.special.gammaln(x + 1.0) for x in (n, k, n - k)]
    return np.asarray(log_factorial[0] - log_factorial[1] - log_factorial[2], np.float64)


def expected_rank(ranks: Ranks) -> Floats:
    """Return per query the 1-based rank of its best positive, with identical items in random order."""
    return np.asarray(1.0 + pessimistic(ranks) + ranks.identical / (ranks.tied_positives + 1.0), np.float64)


class Neighbours(NamedTuple):
    """The highest wrong candidates per query: indices (q, k), -1 where there are fewer, and their scores (q, k)."""

    indices: Ints
    scores: Scores


def highest(scores: Scores, allowed: Mask, k: int) -> Neighbours:
    """Return the k highest allowed candidates per row of scores (q, n), best first; -1 and NaN where fewer are.

    Of equal scores the first candidates count, on every machine.
    """
    masked = np.where(allowed, scores, -np.inf).astype(np.float32)
    k = min(k, masked.shape[1])
    least = -np.partition(-masked, k - 1, axis=1)[:, k - 1]
    rows, indices = np.nonzero(masked >= least[:, None])
    order = np.lexsort((-masked[rows, indices], rows))
    firsts = np.searchsorted(rows, np.arange(len(masked)))
    indices = indices[order[firsts[:, None] + np.arange(k)]]
    values = np.take_along_axis(masked, indices, axis=1)
    indices = np.where(np.isfinite(values), indices, -1)
    return Neighbours(indices, np.where(np.isfinite(values), values, np.nan).astype(np.float32))
