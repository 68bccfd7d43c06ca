"""Where the right answer stands among the others, and the recall that follows from it.

Ties are real: ImageNet has classes of equal name, Flickr8k captions of equal words. An identical item (the same text
belonging to another image, or to another class) gets the expected value over tie-breaking; any other tie counts
against the model, so that a collapsed model scores at the bottom and not at the top.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

from cocabench.errors import NumericsError
from cocabench.types import Features

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Scores = NDArray[np.float32]
Mask = NDArray[np.bool_]

CHUNK_SCORES = 1 << 26
"""Scores held at a time (256 MiB of float32)."""


class Ranks(NamedTuple):
    """Per query (q,): where its best positive stands.

    n_above: negatives that score higher. tied_negatives: negatives of the same score, identical ones among them.
    identical: negatives that are the same item as the best positive. tied_positives: positives of that score, >= 1.
    """

    n_above: Ints
    tied_negatives: Ints
    identical: Ints
    tied_positives: Ints


def positive_ranks(scores: Scores, positive: Mask, items: Ints | None = None) -> Ranks:
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
    if not np.isfinite(values).all():
        row = int(np.argwhere(~np.isfinite(values))[0][0])
        fix = "the weights or the precision are broken; try --precision fp32"
        raise NumericsError(what, f"NaN or infinity in row {row}", wanted="finite numbers", fix=fix)


def pessimistic(ranks: Ranks) -> Ints:
    """Return how many negatives count as above: all ties but those of identical items."""
    return ranks.n_above + ranks.tied_negatives - ranks.identical


def hits_at(ranks: Ranks, k: int) -> Floats:
    """Return per query 1.0 where a positive is among the top k, else 0.0; between them for ties of identical items.

    CLIP convention ("recall@K"): any positive counts, once. With m places left for a tied block of p positives and
    i identical negatives in random order, the expected value is 1 - C(i, m) / C(i + p, m).
    """
    places = np.maximum(k - pessimistic(ranks), 0)
    block, few = ranks.identical + ranks.tied_positives, np.minimum(places, ranks.identical)
    misses = np.where(
        places > ranks.identical, 0.0, np.exp(_log_choose(ranks.identical, few) - _log_choose(block, few))
    )
    return np.asarray(np.where(places > 0, 1.0 - misses, 0.0), np.float64)


def _log_choose(n: Ints, k: Ints) -> Floats:
    return np.asarray(gammaln(n + 1.0) - gammaln(k + 1.0) - gammaln(n - k + 1.0), np.float64)


def expected_rank(ranks: Ranks) -> Floats:
    """Return per query the 1-based rank of its best positive, with identical items in random order."""
    return np.asarray(1.0 + pessimistic(ranks) + ranks.identical / (ranks.tied_positives + 1.0), np.float64)


class Neighbours(NamedTuple):
    """The highest wrong candidates per query: indices (q, k), -1 where there are fewer, and their scores (q, k)."""

    indices: Ints
    scores: Scores


def highest(scores: Scores, allowed: Mask, k: int) -> Neighbours:
    """Return the k highest allowed candidates per row of scores (q, n), best first; -1 and NaN where fewer are."""
    masked = np.where(allowed, scores, -np.inf).astype(np.float32)
    k = min(k, masked.shape[1])
    part = np.argpartition(-masked, k - 1, axis=1)[:, :k]
    values = np.take_along_axis(masked, part, axis=1)
    order = np.argsort(-values, axis=1, kind="stable")
    values = np.take_along_axis(values, order, axis=1)
    indices = np.where(np.isfinite(values), np.take_along_axis(part, order, axis=1), -1)
    return Neighbours(indices, np.where(np.isfinite(values), values, np.nan).astype(np.float32))


class Retrieval(NamedTuple):
    """Both directions of a retrieval: a row per text (t) of t2i, and per image (i) of i2t."""

    t2i: Ranks
    t2i_wrong: Neighbours
    i2t: Ranks
    i2t_wrong: Neighbours


def rank_both_ways(images: Features, texts: Features, owner: Ints, items: Ints, *, wrong: int = 5) -> Retrieval:
    """Rank images for each text and texts for each image, over chunks of images: never the whole matrix at once.

    images: (i, d). texts: (t, d) features of the *distinct* texts. owner: (n,) the image of each caption, every image
    owned at least once. items: (n,) the distinct text of each caption. Scores are float32 inner products.
    """
    check_finite(images, "image features")
    check_finite(texts, "text features")
    n, (own, chunks) = len(owner), _own_scores(images, texts, owner, items)
    above, tied = np.zeros(n, np.int64), np.zeros(n, np.int64)
    wrong_images = Neighbours(np.full((n, wrong), -1), np.full((n, wrong), np.nan, np.float32))
    i2t, i2t_wrong = [], []
    for first, scores in chunks:
        ids = np.arange(first, first + scores.shape[1])
        positive = owner[:, None] == ids[None, :]
        above += ((scores > own[:, None]) & ~positive).sum(axis=1)
        tied += ((scores == own[:, None]) & ~positive).sum(axis=1)
        wrong_images = _merged(wrong_images, highest(scores, ~positive, wrong), first, wrong)
        i2t.append(positive_ranks(scores.T, positive.T, items))
        i2t_wrong.append(highest(scores.T, ~positive.T, wrong))
    zeros = np.zeros(n, np.int64)
    return Retrieval(
        Ranks(above, tied, zeros, zeros + 1),
        wrong_images,
        Ranks(*(np.concatenate(parts) for parts in zip(*i2t, strict=True))),
        Neighbours(*(np.concatenate(parts) for parts in zip(*_padded(i2t_wrong), strict=True))),
    )


def _own_scores(
    images: Features, texts: Features, owner: Ints, items: Ints
) -> tuple[Scores, Iterator[tuple[int, Scores]]]:
    """Return each caption's score with its own image, and the chunks of scores (n, c) it was read from.

    The chunks are computed a second time unless one holds everything; the same shapes give the same bits, and equal
    texts share a row, so that ties stay exact.
    """
    size = max(1, CHUNK_SCORES // max(1, len(owner)))
    starts = range(0, len(images), size)

    def chunks() -> Iterator[tuple[int, Scores]]:
        return ((start, (texts @ images[start : start + size].T)[items]) for start in starts)

    held = list(chunks()) if len(starts) <= 1 else None
    own = np.empty(len(owner), np.float32)
    for first, scores in held if held is not None else chunks():
        mine = np.flatnonzero((owner >= first) & (owner < first + scores.shape[1]))
        own[mine] = scores[mine, owner[mine] - first]
    return own, iter(held) if held is not None else chunks()


def _merged(so_far: Neighbours, new: Neighbours, offset: int, k: int) -> Neighbours:
    indices = np.concatenate([so_far.indices, np.where(new.indices >= 0, new.indices + offset, -1)], axis=1)
    scores = np.concatenate([so_far.scores, new.scores], axis=1)
    best = highest(scores, indices >= 0, k)
    return Neighbours(np.where(best.indices >= 0, np.take_along_axis(indices, best.indices, axis=1), -1), best.scores)


def _padded(parts: list[Neighbours]) -> list[Neighbours]:
    width = max(part.indices.shape[1] for part in parts)

    def pad(values: NDArray, fill: float) -> NDArray:  # type: ignore[type-arg]
        return np.pad(values, ((0, 0), (0, width - values.shape[1])), constant_values=fill)

    return [Neighbours(pad(p.indices, -1), pad(p.scores, np.nan)) for p in parts]
