"""95 % intervals over images. Captions of one image depend on each other, so an image is drawn with all its rows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from cocabench.metrics.base import UNKNOWN, Interval, Samples

Array = NDArray[np.float64]

CONFIDENCE = 0.95
RESAMPLES = 1000
ROW_RESAMPLES = 200


def proportion(hits: Array) -> Interval:
    """Wilson's interval for the mean of 0/1 outcomes (n,): never degenerate, also at 0 and 1 (from scipy)."""
    if len(hits) == 0:
        return UNKNOWN
    low, high = stats.binomtest(int(hits.sum()), len(hits)).proportion_ci(CONFIDENCE, method="wilson")
    return Interval(float(low), float(high))


def percentiles(draws: Array) -> Interval:
    """The middle 95 % of resampled values (resamples,)."""
    tail = (1 - CONFIDENCE) / 2
    low, high = np.nanquantile(draws, [tail, 1 - tail])
    return Interval(float(low), float(high))


def of_sums(sums: Array, value: Callable[[Array], Array], rng: np.random.Generator) -> Interval:
    """Percentile bootstrap of a function of summed statistics: nothing is scored again (as sacreBLEU does).

    sums: (images, k). value: (..., k) summed statistics -> (...) metric values.
    """
    if len(sums) < 2:
        return UNKNOWN
    n = len(sums)
    totals = np.stack([np.bincount(rng.integers(n, size=n), minlength=n) @ sums for _ in range(RESAMPLES)])
    return percentiles(value(totals))


def of_images(samples: Samples, value: Callable[[NDArray[np.int64]], float], rng: np.random.Generator) -> Interval:
    """Percentile bootstrap for metrics that are no function of sums (a median, a ranking): each draw scores anew.

    value: row numbers of samples, with repeats -> the metric over those rows.
    """
    rows = list(samples.reset_index(drop=True).groupby("image_id", sort=False).indices.values())
    if (n := len(rows)) < 2:
        return UNKNOWN
    draws = [value(np.concatenate([rows[i] for i in rng.integers(n, size=n)])) for _ in range(ROW_RESAMPLES)]
    return percentiles(np.asarray(draws))


def of_class_means(hits: Array, labels: NDArray[np.int64]) -> Interval:
    """Normal interval for a mean over classes of per-class means; classes are fixed, images vary within them.

    Variance: 1/C² Σ p(1-p)/(n_c - 1), with the unbiased n_c - 1. Where a class has one image its variance cannot
    be seen, and the images of all classes are taken as one sample instead.
    """
    present, counts = np.unique(labels, return_counts=True)
    if counts.min() < 2:
        return of_sums(
            np.column_stack([hits, np.ones_like(hits)]), lambda s: s[..., 0] / s[..., 1], np.random.default_rng(0)
        )
    means = np.array([hits[labels == c].mean() for c in present])
    variances = np.array([hits[labels == c].var(ddof=1) for c in present])
    half = stats.norm.ppf((1 + CONFIDENCE) / 2) * np.sqrt((variances / counts).sum()) / len(present)
    return Interval(float(max(0.0, means.mean() - half)), float(min(1.0, means.mean() + half)))
