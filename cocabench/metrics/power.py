"""What a test could have found: the smallest true difference that it finds in 80 of 100 cases."""

from __future__ import annotations

import math
from functools import lru_cache, partial

import numpy as np
import scipy
from numpy.typing import NDArray

from cocabench.metrics import intervals
from cocabench.metrics.base import Paired

POWER = 0.8
MAX_CHANGED_SUMMED = 300
"""Up to this many images McNemar's power is summed exactly; beyond, the normal limit is as good and faster."""


def detectable(test: Paired, *, level: float, power: float = POWER) -> float:
    """Return the smallest true difference that such a test, one-sided at level, finds with that power.

    On the metric's own scale; NaN where the error is. A true difference comes from images that the worse model loses
    besides those that differ already (``Paired.growth``), so that the variance grows with it. However equal two models
    are, k changed images reach no smaller p-value than 2^-k: enough of them must change.
    """
    if test.shares:
        (first, size), (second, other) = test.shares
        return _share((first + second) / 2, size, other, level, power)
    if test.of:
        return _images(test.changed or 0, round(test.growth, 2), test.of, level, power) * test.step
    if math.isnan(test.error):
        return math.nan
    quantile = scipy.special.ndtri if math.isinf(test.freedom) else partial(scipy.special.stdtrit, test.freedom)
    reach, growth = float(quantile(power) - quantile(level)), test.growth * test.step
    grown = (reach**2 * growth + math.sqrt(reach**4 * growth**2 + 4 * reach**2 * test.error**2)) / 2
    needed = float(scipy.special.gammaincinv(math.ceil(-math.log2(level)), power))
    return max(grown, test.step * needed)


def _share(value: float, size: float, other: float, level: float, power: float) -> float:
    """Return how far the second of two independent shares must be below value for Newcombe's test, or else above."""
    reach, back, z = -float(scipy.special.ndtri(level)), float(scipy.special.ndtri(power)), intervals.Z
    for start in (value, 1 - value):
        low, _ = intervals.of_proportion_like(start, start * (1 - start) / size, math.ceil(size))

        def lacking(drop: float, start: float = start, low: float = low) -> float:
            left = start - drop
            spread = left * (1 - left) / other
            _, high = intervals.of_proportion_like(left, spread, math.ceil(other))
            return (
                drop
                - reach * math.hypot(start - low, high - left) / z
                - back * math.hypot(math.sqrt(start * (1 - start) / size), math.sqrt(spread))
            )

        if lacking(start) > 0:
            return float(scipy.optimize.brentq(lacking, 0, start))
    return 1.0


@lru_cache(maxsize=1 << 14)
def _images(changed: int, growth: float, n: int, level: float, power: float) -> float:
    """Return by how many of n images the losses must exceed the gains, on average, for McNemar's test."""
    reach, back = -float(scipy.special.ndtri(level)), float(scipy.special.ndtri(power))

    def short(more: float) -> float:
        return power_of_mcnemar(more, changed, growth, n, level=level) - power

    if changed <= MAX_CHANGED_SUMMED:
        return float(scipy.optimize.brentq(short, 1e-6, n, xtol=1e-3)) if short(n) > 0 else float(n)

    def lacking(more: float) -> float:
        differ = max(changed + growth * more, more)
        return more - 1 - reach * math.sqrt(differ) - back * math.sqrt(differ - more**2 / n)

    return float(scipy.optimize.brentq(lacking, 0, n, xtol=1e-3)) if lacking(n) > 0 else float(n)


def power_of_mcnemar(more: float, changed: float, growth: float, n: int, *, level: float) -> float:
    """Return how likely McNemar's exact one-sided test at level finds that of n images more are lost than gained.

    changed: how many differ where nothing is lost or gained, growth: how many more do for each that is lost.
    """
    differ = min(float(n), max(changed + growth * more, more))
    spread = 8 * math.sqrt(differ * (1 - differ / n)) + 12
    first, last = max(0, math.floor(differ - spread)), min(n, math.ceil(differ + spread))
    found = _significant(first, last, min(1.0, (1 + more / differ) / 2), level)
    return float(_shares(first, last, n, differ / n) @ found)


def _significant(first: int, last: int, p: float, level: float) -> NDArray[np.float64]:
    """Return for each count of a range how likely so many draws of probability p are significant at a level.

    As ``intervals.at_least`` of the critical values, whose arguments are kept: they are the same for every p.
    """
    heads, others = _arguments(level, first // BLOCK, last // BLOCK)
    own = slice(first - first // BLOCK * BLOCK, last + 1 - first // BLOCK * BLOCK)
    heads, others = heads[own], others[own]
    return np.where(others > 0, scipy.special.betainc(heads, np.maximum(others, 1.0), p), 0.0)


def _shares(first: int, last: int, n: int, p: float) -> NDArray[np.float64]:
    """Return how likely n draws of probability p give each count of a range that holds all but 1e-15 of what they give.

    scipy.stats.binom.pmf by the ratios of neighbours, in a tenth of its time.
    """
    if p == 1:
        return np.equal(np.arange(first, last + 1), n).astype(np.float64)
    relative = np.ones(last + 1 - first)
    np.cumprod(_ratios(n)[first:last] * (p / (1 - p)), out=relative[1:])
    return np.asarray(relative / relative.sum(), np.float64)


@lru_cache(maxsize=8)
def _ratios(n: int) -> NDArray[np.float64]:
    """Return (n,) how much likelier one more of n fair coins is than each count below n."""
    counts = np.arange(n)
    return np.asarray((n - counts) / (counts + 1), np.float64)


BLOCK = 256
"""Counts whose critical values are computed together."""


@lru_cache(maxsize=1 << 10)
def _arguments(level: float, first: int, last: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return for each count n of some blocks the fewest heads h of n fair coins that are evidence, and n - h + 1."""
    counts = np.arange(first * BLOCK, (last + 1) * BLOCK)
    heads = np.concatenate([_critical_of_block(level, k) for k in range(first, last + 1)]) + 1
    return heads.astype(np.float64), (counts - heads + 1).astype(np.float64)


@lru_cache(maxsize=1 << 10)
def _critical_of_block(level: float, k: int) -> NDArray[np.int64]:
    """Bisected; scipy.stats.binom.isf is the same, but importing it takes as long as a thousand tests."""
    counts = np.arange(k * BLOCK, (k + 1) * BLOCK)
    low, high = np.full(BLOCK, -1), counts
    while (high - low > 1).any():
        middle = (low + high) // 2
        few = intervals.at_least(middle + 1, counts, 0.5) <= level
        low, high = np.where(few, low, middle), np.where(few, middle, high)
    return high
