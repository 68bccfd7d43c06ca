"""95 % intervals over images. Captions of one image depend on each other, so an image counts with all its rows.

Which method holds at which size is simulated: ``benchmarks/honesty.py`` has every figure.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import scipy
from numpy.typing import NDArray

from cocabench.metrics.base import UNKNOWN, Interval, Samples

Array = NDArray[np.float64]

CONFIDENCE = 0.95
TAIL = (1 - CONFIDENCE) / 2
ROW_RESAMPLES = 200
MIN_EVENTS, MIN_IMAGES_FOR_RARE_EVENTS = 4, 300
"""With fewer than four events on fewer images, a number that rare events decide gets no interval: where 0.5 or 2 % of
captions match word for word and others hardly, intervals of 30 to 100 images cover 0.56 to 0.84, for none was seen."""
MIN_IMAGES = 25
"""Below so many images, means of skewed values get no interval and no test: of 20 scores that are zero but for a fifth,
the best method's intervals cover 0.92, and its tests find 0.09 of equal models different at 5 %."""

MIN_IMAGES_OF_A_GROUP = 30
"""Below so many images of the lowest group, a lowest share gets no interval and no test."""

Z = 1.959963984540054
"""The 97.5 % quantile of the normal distribution, as scipy.stats.norm gives it: importing that takes half a second."""


def at_least(heads: NDArray[np.int64] | int, n: NDArray[np.int64] | int, p: float) -> Array:
    """Return how likely n draws of probability p give so many heads or more: 1 for none, 0 for more than n.

    scipy.stats.binom.sf(heads - 1, n, p) by the incomplete beta function that it stands on, in a third of its time.
    """
    among = scipy.special.betainc(np.maximum(heads, 1), np.maximum(np.subtract(n, heads) + 1, 1), p)
    return np.where(np.less_equal(heads, 0), 1.0, np.where(np.less_equal(heads, n), among, 0.0))


def proportion(hits: Array) -> Interval:
    """Wilson's interval for the mean of 0/1 outcomes (n,): never degenerate, also at 0 and 1 (scipy's)."""
    if len(hits) == 0:
        return UNKNOWN
    low, high = scipy.stats.binomtest(int(hits.sum()), len(hits)).proportion_ci(CONFIDENCE, method="wilson")
    return Interval(float(low), float(high))


def of_proportion_like(value: float, variance: float, n: int, *, most: int = 0, reach: float = Z) -> Interval:
    """Wilson's interval for an estimate in 0-1 of known variance, with the sample size that would give the variance.

    n: the number of images, the size where the variance is 0. most: the largest size that is believed, by default n.
    reach: the quantile, by default the normal one.
    """
    size = min(most or n, value * (1 - value) / variance) if variance > 0 and 0 < value < 1 else n
    squared = reach**2
    spread = math.sqrt(squared * (value * (1 - value) + squared / (4 * size)) / size)
    centre = value + squared / (2 * size)
    return Interval((centre - spread) / (1 + squared / size), (centre + spread) / (1 + squared / size))


def size_of(value: float, low: float, high: float) -> float:
    """Return the sample size of a Wilson interval about a value in 0-1: of_proportion_like's inverse."""
    squared, spread = ((high - low) / 2) ** 2, value * (1 - value)
    ratio, slope = 1 / 4 - squared, spread - 2 * squared  # ratio k² + slope k - squared = 0 for k = z² / size
    return Z**2 * 2 * ratio / (math.sqrt(slope**2 + 4 * ratio * squared) - slope)


def variance(influence: Array) -> float:
    """Return a number's variance by its influence values (n,), which sum to 0 (the infinitesimal jackknife)."""
    n = len(influence)
    return float(n / (n - 1) * (influence**2).sum())


def of_share(value: float, influence: Array, *, most: int = 0) -> Interval:
    """Wilson's interval for a number in 0-1 by its influence values (n,), with Student's quantile; n >= 2."""
    n = len(influence)
    return of_proportion_like(value, variance(influence), n, most=most, reach=student(n))


def of_hits(value: float, influence: Array, rows: int) -> Interval:
    """Interval for a share of hits where an image has several rows (captions) or ties made fractions.

    influence: (images,). rows: how many there are. The variance between images is joined with that of captions that
    hit and miss together, which counts as one image beside 4 n p (1 - p): near 0 and 1, where few images decide,
    the variance alone covers 0.89 (n=30 to 100). Never empty, also at 0 and 1.
    """
    if (n := len(influence)) < 2:
        return UNKNOWN
    together = value * (1 - value) / n
    weight = 4 * n**2 * together
    joined = (weight * variance(influence) + together) / (weight + 1)
    return of_proportion_like(value, joined, n, most=rows, reach=student(n))


def student(n: int) -> float:
    return float(scipy.special.stdtrit(n - 1, 1 - TAIL))


def between(values: Array) -> float:
    """Return the variance of the mean of independent values (n,); 0 for one, of which it is unknown."""
    return float(values.var(ddof=1)) / len(values) if len(values) > 1 else 0.0


def freedom(first: float, first_df: float, second: float, second_df: float) -> float:
    """Return the degrees of freedom of the sum of two estimated variances (Satterthwaite 1946)."""
    return (first + second) ** 2 / (first**2 / first_df + second**2 / second_df)


def student_of_two(first: float, first_df: int, second: float, second_df: int) -> float:
    """Return Student's quantile for the sum of two estimated variances with their degrees of freedom."""
    return float(scipy.special.stdtrit(freedom(first, first_df, second, second_df), 1 - TAIL))


def skew(influence: Array) -> float:
    """Return the skewness of values (n,) about 0, over √n, as Hall's transform takes it; 0 where all are 0.

    Few values show less skewness than there is: it is raised by 6/√n of itself, by simulation.
    """
    n, squares = len(influence), float((influence**2).mean())
    if squares == 0:
        return 0.0
    return float((influence**3).mean() / squares**1.5 * (1 + 6 / math.sqrt(n)) / math.sqrt(n))


def unskewed(t: float, skewness: float) -> float:
    """Return Hall's transform of a studentised mean, which has Student's distribution also for skewed values.

    t + a t²/3 + a² t³/27 + a/6 (Hall 1992, "On the removal of skewness by transformation"). skewness: a, of ``skew``.
    """
    return t + skewness * t**2 / 3 + skewness**2 * t**3 / 27 + skewness / 6


def of_mean(value: float, influence: Array) -> Interval:
    """Interval for a mean of skewed values by its influence values (n,): on each side the farther of two ends.

    Student's, and that of Hall's transform inverted: the latter is too short where tails are long and even.
    """
    if (n := len(influence)) < 2:
        return UNKNOWN
    error, reach, a = math.sqrt(variance(influence)), student(n), skew(influence)

    def back(x: float) -> float:
        return 3 / a * (float(np.cbrt(1 + a * (x - a / 6))) - 1) if abs(a) > 1e-6 else x

    return Interval(value - error * max(reach, back(reach)), value - error * min(-reach, back(-reach)))


def events_of(value: float, influence: Array, root: int) -> float:
    """Return how many rare events the variance of a number >= 0 is worth, as in ``of_counts``."""
    relative = root**2 * variance(influence) / value**2 if value > 0 else math.inf
    return 1 / relative if relative > 0 else math.inf


def of_counts(
    value: float, influence: Array, *, root: int = 1, unseen: Callable[[float], float] | None = None
) -> Interval:
    """Interval for a number >= 0 that follows from rare events, such as matching 4-grams, by its influence values (n,).

    root: it is this root of a product of rates, of which the rarest decides. The product has the relative variance of
    a count of M = 1 / variance events, and gets that count's exact limits (Garwood 1936). unseen: what the number is
    if so many events were seen where none was; where that is more than value, the interval is from 0 to the number of
    as many events as may have been missed.
    """
    if len(influence) < 2:
        return UNKNOWN
    missed = unseen(float(scipy.special.gammainccinv(1, TAIL))) if unseen else value
    if missed > value * (1 + 1e-9):
        return Interval(0.0, missed)
    events = events_of(value, influence, root)
    if value <= 0 or events == math.inf:
        return Interval(value, value)
    low, high = float(scipy.special.gammaincinv(events, TAIL)), float(scipy.special.gammainccinv(events + 1, TAIL))
    return Interval(value * (low / events) ** (1 / root), value * (high / events) ** (1 / root))


def percentiles(draws: Array) -> Interval:
    """The middle 95 % of resampled values (resamples,)."""
    low, high = np.nanquantile(draws, [TAIL, 1 - TAIL])
    return Interval(float(low), float(high))


def image_draws(
    samples: Samples, value: Callable[[NDArray[np.int64]], float], rng: np.random.Generator
) -> Array | None:
    """Return the values of a metric over redrawn images, for metrics without influence values; None for one image.

    value: row numbers of samples, with repeats -> the metric over those rows.
    """
    rows = list(samples.reset_index(drop=True).groupby("image_id", sort=False).indices.values())
    if (n := len(rows)) < 2:
        return None
    return np.array([value(np.concatenate([rows[i] for i in rng.integers(n, size=n)])) for _ in range(ROW_RESAMPLES)])


def redrawn(samples: Samples, rng: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    """Yield (rows,) how often each row counts when images are redrawn, ROW_RESAMPLES times, as ``image_draws`` does."""
    import pandas as pd

    codes, images = pd.factorize(samples["image_id"])
    n = len(images)
    for _ in range(ROW_RESAMPLES):
        counts = np.bincount(rng.integers(n, size=n), minlength=n)
        yield counts if n == len(codes) else counts[codes]


def median_draws(values: Array, counts: Iterable[NDArray[np.int64]]) -> Array:
    """Return (draws,) the median of finite values (n,), each as often as counts (n,) says: numpy's of all of them."""
    order = np.argsort(values)
    ranked = values[order]

    def median(count: NDArray[np.int64]) -> float:
        upto = np.cumsum(count[order])
        low, high = np.searchsorted(upto, [(upto[-1] - 1) // 2, upto[-1] // 2], side="right")
        return float((ranked[low] + ranked[high]) / 2)

    return np.array([median(count) for count in counts])


def of_class_means(hits: Array, labels: NDArray[np.int64]) -> Interval:
    """Interval for a mean over classes of per-class means; classes are fixed, images vary within them.

    Variance: 1/C² Σ v_c/n_c with v_c = p(1-p) n_c/(n_c-1), unbiased; a class of one image shows no variance of its own
    and gets that of the mean over classes. Where classes differ in size, one image of the smallest is added: three
    hits of three images say little, and without it 0.51 to 0.93 are covered.
    """
    _, codes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    n, classes = len(hits), len(counts)
    means = np.bincount(codes, hits) / counts
    squares = np.bincount(codes, hits**2) / counts
    value = float(means.mean())
    unbiased = (squares - means**2) * counts / np.maximum(counts - 1, 1)
    variances = np.where(counts > 1, unbiased, value * (1 - value))
    smallest = (1 / (classes * int(counts.min()))) ** 2 - (1 / n) ** 2
    return of_proportion_like(value, float((variances / counts).sum() / classes**2 + smallest), n)
