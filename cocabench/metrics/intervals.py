"""95 % intervals over images. Captions of one image depend on each other, so an image is drawn with all its rows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from cocabench.metrics.base import UNKNOWN, Interval, Samples

Array = NDArray[np.float64]

CONFIDENCE = 0.95
RESAMPLES = 10_000
ROW_RESAMPLES = 200
BATCH = 64
"""Resamples whose sums are one product of matrices: as fast for 20 statistics as for 2."""


def proportion(hits: Array) -> Interval:
    """Wilson's interval for the mean of 0/1 outcomes (n,): never degenerate, also at 0 and 1 (scipy's)."""
    if len(hits) == 0:
        return UNKNOWN
    low, high = stats.binomtest(int(hits.sum()), len(hits)).proportion_ci(CONFIDENCE, method="wilson")
    return Interval(float(low), float(high))


def of_proportion_like(value: float, variance: float, n: int, *, most: int = 0) -> Interval:
    """Wilson's interval for an estimate in 0-1 of known variance, with the sample size that would give the variance.

    n: the number of images, the size where the variance is 0. most: the largest size that is believed, by default n.
    """
    size = min(most or n, value * (1 - value) / variance) if variance > 0 and 0 < value < 1 else n
    z2 = stats.norm.ppf((1 + CONFIDENCE) / 2) ** 2
    centre, spread = value + z2 / (2 * size), np.sqrt(z2 * (value * (1 - value) + z2 / (4 * size)) / size)
    return Interval(float((centre - spread) / (1 + z2 / size)), float((centre + spread) / (1 + z2 / size)))


def percentiles(draws: Array) -> Interval:
    """The middle 95 % of resampled values (resamples,)."""
    tail = (1 - CONFIDENCE) / 2
    low, high = np.nanquantile(draws, [tail, 1 - tail])
    return Interval(float(low), float(high))


def bootstrap_sums(sums: Array, value: Callable[[Array], Array], rng: np.random.Generator) -> Array:
    """Return (RESAMPLES,) values of a function of summed statistics over redrawn images; nothing is scored again.

    sums: (images, k). value: (..., k) summed statistics -> (...) metric values. (As sacreBLEU does.)
    """
    n = len(sums)
    smallest = np.min_scalar_type(n)  # random bytes are most of the work: 10,000 draws of 5,000 images in 0.3 s
    counts, totals = np.empty((BATCH, n)), np.empty((RESAMPLES, sums.shape[1]))
    for start in range(0, RESAMPLES, BATCH):
        rows = min(BATCH, RESAMPLES - start)
        for row in range(rows):
            counts[row] = np.bincount(rng.integers(n, size=n, dtype=smallest), minlength=n)
        totals[start : start + rows] = counts[:rows] @ sums
    return value(totals)


def of_sums(sums: Array, value: Callable[[Array], Array], rng: np.random.Generator) -> Interval:
    """Percentile bootstrap of a function of summed statistics."""
    return percentiles(bootstrap_sums(sums, value, rng)) if len(sums) > 1 else UNKNOWN


def of_hits(deviations: Array, value: float, rows: int) -> Interval:
    """Interval for a share of hits where an image has several rows (captions) or ties made fractions.

    deviations: (images,) each image's share of the sum of weighted hits, less value times its share of the weights:
    the linearised ratio, whose variance is that of the share. rows: how many there are. Never empty, also at 0 and 1.
    """
    if (n := len(deviations)) < 2:
        return UNKNOWN
    return of_proportion_like(value, float(n * deviations.var()), n, most=rows)


def image_draws(
    samples: Samples, value: Callable[[NDArray[np.int64]], float], rng: np.random.Generator
) -> Array | None:
    """Return the values of a metric over redrawn images, for metrics that are no function of sums; None for one image.

    value: row numbers of samples, with repeats -> the metric over those rows.
    """
    rows = list(samples.reset_index(drop=True).groupby("image_id", sort=False).indices.values())
    if (n := len(rows)) < 2:
        return None
    return np.array([value(np.concatenate([rows[i] for i in rng.integers(n, size=n)])) for _ in range(ROW_RESAMPLES)])


def of_class_means(hits: Array, labels: NDArray[np.int64]) -> Interval:
    """Interval for a mean over classes of per-class means; classes are fixed, images vary within them.

    Variance: 1/C² Σ v_c/n_c with v_c = p(1-p) n_c/(n_c-1), unbiased; a class of one image shows no variance of its own
    and gets that of the mean over classes.
    """
    _, codes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    means = np.bincount(codes, hits) / counts
    squares = np.bincount(codes, hits**2) / counts
    value = float(means.mean())
    unbiased = (squares - means**2) * counts / np.maximum(counts - 1, 1)
    variances = np.where(counts > 1, unbiased, value * (1 - value))
    return of_proportion_like(value, float((variances / counts).sum() / len(means) ** 2), len(hits))
