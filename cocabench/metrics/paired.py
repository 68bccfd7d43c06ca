"""Two models on the same images: is the difference more than chance? Pure functions of per-image numbers.

The null hypothesis is that the two models may be exchanged on every image, so that each image's difference could as
well have had the other sign. Where all differences have one size (a hit more or a hit less) that test is McNemar's.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from cocabench.metrics.base import Paired
from cocabench.metrics.intervals import CONFIDENCE, RESAMPLES, bootstrap_sums, percentiles

Array = NDArray[np.float64]
Ints = NDArray[np.int64]

EXACT = 13
"""Up to this many changed images all 2^13 = 8,192 sign patterns are tried; beyond, RESAMPLES random ones."""

POWER = 0.8
_Z = float(stats.norm.ppf((1 + CONFIDENCE) / 2))

CHUNK = 1 << 20
"""Signs held at a time (8 MiB)."""


class OneSided(NamedTuple):
    """p-values of the null hypotheses "first is no higher than second" and "first is no lower"."""

    higher: float
    lower: float


def mcnemar(gained: int, lost: int) -> OneSided:
    """Return the exact test of McNemar: of the images that only one of the two has right, gained are the first's."""
    if gained + lost == 0:
        return OneSided(1.0, 1.0)
    test = stats.binomtest
    return OneSided(*(float(test(gained, gained + lost, alternative=side).pvalue) for side in ("greater", "less")))


def sign_flip(differences: Array, rng: np.random.Generator) -> OneSided:
    """Return the test of the sum of per-image differences (n,) under random signs: exact where that is cheap."""
    changed = differences[differences != 0]
    sizes = np.abs(changed)
    if np.allclose(sizes, sizes[:1], rtol=1e-9, atol=0):
        return mcnemar(int((changed > 0).sum()), int((changed < 0).sum()))
    sums = np.concatenate([signs @ changed for signs in _signs(len(changed), rng)])
    return _tail(sums, float(changed.sum()), 1e-9 * float(sizes.sum()), exact=len(changed) <= EXACT)


def swap(first: Array, second: Array, value: Callable[[Array], Array], rng: np.random.Generator) -> OneSided:
    """Return the test of value(Σ first) - value(Σ second) under random exchange of the two on every image.

    first, second: (images, k) statistics. value: (..., k) sums -> (...). For metrics that are no means, like BLEU
    (approximate randomisation: Riezler and Maxwell 2005).
    """
    half = (first - second) / 2
    middle, half = (first + second).sum(axis=0) / 2, half[half.any(axis=1)]
    turns = np.concatenate([signs @ half for signs in _signs(len(half), rng)])
    observed = float(value(first.sum(axis=0)) - value(second.sum(axis=0)))
    return _tail(value(middle + turns) - value(middle - turns), observed, 1e-12, exact=len(half) <= EXACT)


def _signs(n: int, rng: np.random.Generator) -> Iterator[Array]:
    """Yield (chunk, n) of +1 and -1: every pattern for few, RESAMPLES random ones for many."""
    if n <= EXACT:
        yield np.array(list(itertools.product((1.0, -1.0), repeat=n)), np.float64).reshape(2**n, n)
        return
    size = max(1, CHUNK // n)
    for start in range(0, RESAMPLES, size):
        rows = min(size, RESAMPLES - start)
        bits = np.unpackbits(np.frombuffer(rng.bytes(-(-rows * n // 8)), np.uint8), count=rows * n)
        yield bits.reshape(rows, n).astype(np.float64) * 2 - 1


def _tail(draws: Array, observed: float, slack: float, *, exact: bool) -> OneSided:
    """A random draw is never the only evidence: the observed order counts as one of them (Phipson and Smyth 2010)."""
    one = 0 if exact else 1
    high, low = (int(np.count_nonzero(side)) for side in (draws >= observed - slack, draws <= observed + slack))
    return OneSided((one + high) / (one + len(draws)), (one + low) / (one + len(draws)))


def of_means(differences: Array, rng: np.random.Generator, *, strata: Ints | None = None) -> Paired:
    """Compare by per-image differences (n,) whose sum is the difference of the metric.

    strata: (n,) what is fixed while images vary, such as their class; within one of a single image the variance is
    taken about the mean of all. Two images are added to the variance, one that each of the two wins by the largest
    size seen (Bonett and Price 2012, for hits), so that no interval is empty.
    """
    n, value, sizes = len(differences), float(differences.sum()), np.abs(differences[differences != 0])
    largest = float(sizes.max(initial=0.0)) or 1 / n
    error = math.sqrt(_variance(differences, strata) + 2 * largest**2)
    reach = _Z * error
    tests = sign_flip(differences, rng)
    step = float(sizes.mean()) if len(sizes) else 1 / n
    return Paired(value, value - reach, value + reach, *tests, error, len(sizes), step)


def _variance(differences: Array, strata: Ints | None) -> float:
    """Return the variance of the sum of differences."""
    groups = np.zeros(len(differences), np.int64) if strata is None else strata
    _, codes, counts = np.unique(groups, return_inverse=True, return_counts=True)
    centres = np.where(counts > 1, np.bincount(codes, differences) / counts, differences.mean())
    unbiased = np.where(counts > 1, counts / np.maximum(counts - 1, 1), 1.0)
    return float((unbiased[codes] * (differences - centres[codes]) ** 2).sum())


def of_sums(first: Array, second: Array, value: Callable[[Array], Array], rng: np.random.Generator) -> Paired:
    """Compare a function of summed statistics: the interval from images redrawn for both at once, the test by swap."""
    k, both = first.shape[1], np.hstack([first, second])
    draws = bootstrap_sums(both, lambda sums: value(sums[..., :k]) - value(sums[..., k:]), rng)
    observed = float(value(first.sum(axis=0)) - value(second.sum(axis=0)))
    changed = int((first != second).any(axis=1).sum())
    tests = swap(first, second, value, rng)
    return Paired(observed, *percentiles(draws), *tests, float(draws.std(ddof=1)) or math.nan, changed)


def of_draws(value: float, draws: Array) -> Paired:
    """Compare by the differences (resamples,) over images redrawn for both at once: a normal test with their variance.

    For metrics that are no function of sums (a median, average precision).
    """
    return of_error(value, float(draws.std(ddof=1)))


def of_error(value: float, error: float) -> Paired:
    """Compare by a difference and its standard error: a normal test. An error of 0 is that of exact numbers."""
    reach = _Z * error
    return Paired(value, value - reach, value + reach, *_normal(value, error), error)


def of_independent(value: float, low: float, high: float) -> Paired:
    """Compare two numbers of which only the interval of the difference is known: a normal test that agrees with it.

    The half of the interval on the side of zero counts: it excludes zero exactly where p < 0.05. An interval without
    width is that of exact numbers.
    """
    error = (value - low if value > 0 else high - value) / _Z
    return Paired(value, low, high, *_normal(value, error), (high - low) / (2 * _Z))


def _normal(value: float, error: float) -> OneSided:
    if not error > 0:
        return OneSided(float(value <= 0), float(value >= 0))
    return OneSided(float(special.ndtr(-value / error)), float(special.ndtr(value / error)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values that hold for all tests together (Holm 1979): compare each with the level as it is."""
    order = np.argsort(p_values)
    steps = np.asarray(p_values, float)[order] * (len(order) - np.arange(len(order)))
    adjusted = np.empty(len(order))
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(steps))
    return [float(p) for p in adjusted]


def detectable(error: float, *, level: float, power: float = POWER, step: float = 0.0) -> float:
    """Return the smallest true difference that a one-sided test at level finds with that power; NaN if error is.

    step: as in Paired. However equal two models are, k changed images reach no smaller p-value than 2^-k: the
    difference must be large enough for k images to change with that power (a Poisson number of them).
    """
    needed = float(special.gammaincinv(math.ceil(-math.log2(level)), power))
    return max(float(special.ndtri(power) - special.ndtri(level)) * error, step * needed)


def power_of(difference: float, error: float, *, level: float) -> float:
    """Return how likely a one-sided test at level finds a true difference of that size: detectable's inverse."""
    return float(stats.norm.sf(stats.norm.isf(level) - abs(difference) / error))
