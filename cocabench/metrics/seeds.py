"""Two recipes, each of several training seeds, on the same images: seeds and images are both drawn.

The variance of the difference is that of a hierarchical bootstrap (seeds drawn again, then images) corrected
twice for few seeds: seeds count s / (s - 1) times, and Student's quantile replaces the percentiles. Percentiles of the
bootstrap itself cover 0.82 with three seeds of each. Where seeds vary little, intervals are too wide: chance in single
images (the interaction) counts twice (thrice in the bootstrap: Owen 2007, "The pigeonhole bootstrap").
``benchmarks/recipes.py`` simulates both.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cocabench.metrics import paired
from cocabench.metrics.base import Paired
from cocabench.metrics.intervals import between, freedom

Array = NDArray[np.float64]
Ints = NDArray[np.int64]

MIN_SEEDS = 3
"""With two seeds of each, Student's quantile is up to 12.7: an interval would say nothing."""

ROUNDING = 1e-20
"""A smaller variance between seeds, relative to that of images, is the rounding of sums."""

MAX_ORDERS = 10_000
"""Up to so many ways to deal the seeds to two recipes all are tried; beyond, so many random ones."""


class Moves(NamedTuple):
    """What every image adds to a metric with each checkpoint: images (n,), first (s, n) and second (t, n).

    A checkpoint's row sums to its value. classes: (n,) of a mean over fixed classes, else None; weights: (n,) the most
    that an image can move such a mean. growth: as in Paired.
    """

    images: NDArray[np.generic]
    first: Array
    second: Array
    classes: Ints | None = None
    weights: Array | None = None
    growth: float = 0.0


class Seeds(NamedTuple):
    """First minus second of two recipes. first, second: (s,) and (t,) the values of their checkpoints.

    test: over seeds and images, None with fewer than MIN_SEEDS seeds. permutation: the two-sided p-value of dealing the
    seeds anew, None where even the most extreme deal has more than 0.05. share: of the difference's variance, what is
    due to seeds, 0-1; NaN where none varies.
    """

    first: Array
    second: Array
    test: Paired | None
    permutation: float | None
    share: float


def compare(parts: Sequence[Moves], rng: np.random.Generator) -> Seeds:
    """Compare two recipes by the mean over tasks, or by one task; an image that several tasks share counts once.

    >>> hits = np.array([[1.0, 1, 1, 0], [1, 1, 0, 0], [1, 0, 1, 1]]) / 4
    >>> found = compare([Moves(np.arange(4), hits, hits[:, ::-1])], np.random.default_rng(0))
    >>> [round(float(x), 3) for x in (found.test.value, *found.first)]
    [0.0, 0.75, 0.5, 0.75]
    """
    first, second = (
        _joint([(part.images, side) for part, side in zip(parts, sides, strict=True)])
        for sides in (
            [part.first for part in parts],
            [part.second for part in parts],
        )
    )
    values = first.sum(axis=1), second.sum(axis=1)
    test = None
    if min(len(first), len(second)) >= MIN_SEEDS:
        test = _widened(_over_images(parts, first.mean(axis=0) - second.mean(axis=0), rng), *values, first.shape[1])
    return Seeds(*values, test, permutation(*values, rng), share_of_seeds(first, second))


def _joint(parts: Sequence[tuple[NDArray[np.generic], Array]]) -> Array:
    """Return (seeds, images): how each image moves the mean over tasks."""
    if len(parts) == 1:
        return parts[0][1]
    places = np.unique(np.concatenate([images for images, _ in parts]), return_inverse=True)[1]
    moves = np.concatenate([part for _, part in parts], axis=1) / len(parts)
    return np.array([np.bincount(places, row) for row in moves])


def _over_images(parts: Sequence[Moves], gaps: Array, rng: np.random.Generator) -> Paired:
    """Compare the means over seeds, which are held fixed, by what each image adds to their difference."""
    growth = float(np.mean([part.growth for part in parts]))
    (one, *others) = parts
    if not others and one.classes is not None and one.weights is not None:
        return paired.of_classes(gaps, one.classes, one.weights, growth=growth)
    return paired.of_means(gaps, rng, growth=growth)


def _widened(images: Paired, first: Array, second: Array, n: int) -> Paired:
    """Return a comparison over n images widened by the variance between the seeds of both recipes (Welch 1947)."""
    one, other = between(first), between(second)
    if one + other <= ROUNDING * images.error**2:
        return images
    return paired.widened(images, one + other, freedom(one, len(first) - 1, other, len(second) - 1), n)


def permutation(first: Array, second: Array, rng: np.random.Generator) -> float | None:
    """Return the two-sided p-value of the difference of means when seeds are dealt to the recipes anew.

    It is exact where seeds of equal recipes are exchangeable, on these images. None where there are too few seeds: of
    3 and 3 the most extreme of 20 deals has p = 2 / 20.

    >>> permutation(np.array([4.0, 5, 6, 7]), np.array([0.0, 1, 2, 3]), np.random.default_rng(0)) == 2 / 70
    True
    """
    pooled, s = np.concatenate([first, second]), len(first)
    orders = math.comb(len(pooled), s)
    if 2 / orders > 0.05:
        return None
    if orders <= MAX_ORDERS:
        chosen = np.array(list(itertools.combinations(range(len(pooled)), s)))
    else:
        chosen = np.array([rng.permutation(len(pooled))[:s] for _ in range(MAX_ORDERS)])
    sums, observed = pooled[chosen].sum(axis=1), float(first.sum())
    slack, more = 1e-9 * float(np.abs(pooled).sum()), int(orders > MAX_ORDERS)
    ends = ((sums >= observed - slack).sum(), (sums <= observed + slack).sum())
    return min(1.0, 2 * min((more + int(end)) / (more + len(sums)) for end in ends))


def share_of_seeds(first: Array, second: Array) -> float:
    """Return what share of the difference's variance is due to seeds, by what each image adds (s, n) and (t, n).

    A checkpoint's value varies with its seed, and by chance in single images, which would vanish with more of them:
    that part, the interaction of a two-way table, counts as images'. NaN where nothing varies, or of a single seed.
    """
    if min(len(first), len(second)) < 2:
        return math.nan
    n = first.shape[1]
    seeds = _between_seeds(first) / len(first) + _between_seeds(second) / len(second)
    images = float((n * (first.mean(axis=0) - second.mean(axis=0))).var(ddof=1)) / n
    return seeds / (seeds + images) if seeds + images > 0 else math.nan


def _between_seeds(moves: Array) -> float:
    """Return the variance between seeds alone (s, n), at least 0."""
    s, n = moves.shape
    scores = n * moves
    rest = scores - scores.mean(axis=1, keepdims=True) - scores.mean(axis=0, keepdims=True) + scores.mean()
    chance: float = float((rest**2).sum()) / ((s - 1) * (n - 1)) / n
    return max(0.0, float(moves.sum(axis=1).var(ddof=1)) - chance)
