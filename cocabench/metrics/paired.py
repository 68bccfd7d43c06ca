"""Two models on the same images: is the difference more than chance? Pure functions of per-image numbers.

Where all differences have one size (a hit more or a hit less) the test is McNemar's. Which method holds its level is
simulated: ``benchmarks/honesty.py`` has every figure.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import scipy
from numpy.typing import NDArray

from cocabench.metrics.base import Paired
from cocabench.metrics.intervals import CONFIDENCE, Z, at_least, freedom, of_mean, skew, unskewed, variance

Array = NDArray[np.float64]
Ints = NDArray[np.int64]

EXACT = 13
"""Up to this many changed images all 2^13 = 8,192 sign patterns are tried; beyond, RESAMPLES random ones."""
RESAMPLES = 10_000

CHUNK = 1 << 20
"""Signs that are drawn at a time."""
DRAWS_AT_ONCE = 2_500
"""Of so many draws the signs of eight images are looked up at a time."""

BYTES_AT_ONCE = 128
"""Of so many draws the signs in so many bytes become a matrix, which stays in the processor's cache."""
EXACT_IN_FLOAT32 = 1 << 24
"""Sums of whole numbers up to it are exact, in whatever order they are taken."""

SIGNS = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).astype(np.float64) * 2 - 1
"""(256, 8) the signs that a byte stands for, first bit first."""


class OneSided(NamedTuple):
    """p-values of the null hypotheses "first is no higher than second" and "first is no lower"."""

    higher: float
    lower: float


@lru_cache(maxsize=1 << 14)
def mcnemar(gained: int, lost: int) -> OneSided:
    """Return the exact test of McNemar: of the images that only one of the two has right, gained are the first's."""
    return OneSided(*(float(at_least(heads, gained + lost, 0.5)) for heads in (gained, lost)))


def sign_flip(differences: Array, rng: np.random.Generator) -> OneSided:
    """Return the test of the sum of per-image differences (n,) under random signs: exact where that is cheap."""
    changed = differences[differences != 0]
    sizes = np.abs(changed)
    if _equal(sizes, sizes[:1]):
        return mcnemar(int((changed > 0).sum()), int((changed < 0).sum()))
    sums = _turned(changed[:, None], rng)[:, 0]
    return _tail(sums, float(changed.sum()), 1e-9 * float(sizes.sum()), exact=len(changed) <= EXACT)


def _equal(sizes: Array, one: Array | float) -> bool:
    """Return whether finite sizes are one but for rounding: numpy.allclose, in a fifth of its time."""
    return bool((np.abs(sizes - one) <= 1e-9 * np.abs(one)).all())


def swap(first: Array, second: Array, value: Callable[[Array], Array], rng: np.random.Generator) -> OneSided:
    """Return the test of value(Σ first) - value(Σ second) under random exchange of the two on every image.

    first, second: (images, k) statistics. value: (..., k) sums -> (...). For metrics that are no means, like BLEU
    (approximate randomisation: Riezler and Maxwell 2005).
    """
    half = (first - second) / 2
    middle, half = (first + second).sum(axis=0) / 2, half[half.any(axis=1)]
    turns = _turned(half, rng)
    observed = float(value(first.sum(axis=0)) - value(second.sum(axis=0)))
    return _tail(value(middle + turns) - value(middle - turns), observed, 1e-12, exact=len(half) <= EXACT)


def _turned(values: Array, rng: np.random.Generator) -> Array:
    """Return (draws, k) sums of values (n, k) under signs: every pattern for few, RESAMPLES random ones for many."""
    n = len(values)
    turned = _turned_whole if n > EXACT and _are_halves(values) else _turned_any
    return np.concatenate([turned(patterns, values) for patterns in _patterns(n, rng)])


def _are_halves(values: Array) -> bool:
    """Return whether twice the values are whole numbers so small that ``_turned_whole`` is exact."""
    doubled = 2 * values
    small = np.abs(doubled).max(initial=0) * 8 * BYTES_AT_ONCE <= EXACT_IN_FLOAT32
    return bool(small) and np.array_equal(doubled, np.rint(doubled))


def _turned_whole(patterns: NDArray[np.uint8], values: Array) -> Array:
    """Return (draws, k) the sums of values (n, k) by matrix products: 2 Σ (values of sign +) - Σ values."""
    doubled = np.zeros((8 * patterns.shape[1], values.shape[1]), np.float32)
    doubled[: len(values)] = 2 * values
    sums = np.tile(-values.sum(axis=0), (len(patterns), 1))
    for draw in range(0, len(patterns), BYTES_AT_ONCE):
        for byte in range(0, patterns.shape[1], BYTES_AT_ONCE):
            block = patterns[draw : draw + BYTES_AT_ONCE, byte : byte + BYTES_AT_ONCE]
            signs = np.unpackbits(block, axis=1).astype(np.float32)
            sums[draw : draw + BYTES_AT_ONCE] += signs @ doubled[8 * byte :][: signs.shape[1]]
    return sums


def _turned_any(patterns: NDArray[np.uint8], values: Array) -> Array:
    """Return (draws, k) the sums of values (n, k), eight at a time: of the signs in a byte there are 256."""
    n, k = values.shape
    eights = np.zeros((patterns.shape[1], 8, k))
    eights.reshape(-1, k)[:n] = values
    sums = np.zeros((len(patterns), k))
    found = np.empty_like(sums)
    for pattern, eight in zip(np.ascontiguousarray(patterns.T), eights, strict=True):
        sums += np.take(SIGNS @ eight, pattern, axis=0, out=found, mode="clip")
    return sums


def _patterns(n: int, rng: np.random.Generator) -> Iterator[NDArray[np.uint8]]:
    """Yield (draws, ⌈n/8⌉) bytes, a bit for each sign and zeros behind them."""
    if n <= EXACT:
        every = np.array(list(itertools.product((1, 0), repeat=n)), np.uint8).reshape(2**n, n)
        yield np.packbits(every, axis=1)
        return
    size = max(1, CHUNK // n)
    for first in range(0, RESAMPLES, together := -(-DRAWS_AT_ONCE // size) * size):
        patterns = np.empty((min(together, RESAMPLES - first), -(-n // 8)), np.uint8)
        for start in range(0, len(patterns), size):
            rows = min(size, len(patterns) - start)
            bits = np.frombuffer(rng.bytes(-(-rows * n // 8)), np.uint8)
            if n % 8:
                bits = np.packbits(np.unpackbits(bits, count=rows * n).reshape(rows, n), axis=1)
            patterns[start : start + rows] = bits.reshape(rows, -1)
        yield patterns


def _tail(draws: Array, observed: float, slack: float, *, exact: bool) -> OneSided:
    """A random draw is never the only evidence: the observed order counts as one of them (Phipson and Smyth 2010)."""
    one = 0 if exact else 1
    high, low = (int(np.count_nonzero(side)) for side in (draws >= observed - slack, draws <= observed + slack))
    return OneSided((one + high) / (one + len(draws)), (one + low) / (one + len(draws)))


def studentised(value: float, influence: Array) -> OneSided:
    """Return the larger of two p-values on each side: Student's, and that of Hall's transform for skewed values.

    value: the number that is 0 under the null. influence: (n,) how each image moves it, n >= 2.
    """
    error = math.sqrt(variance(influence))
    if error == 0:
        return _normal(value, 0.0)
    t, n = value / error, len(influence)
    ends = np.array([t, unskewed(t, skew(influence))])
    return OneSided(*(float(scipy.stats.t.sf(side * ends, n - 1).max()) for side in (1, -1)))


def of_means(differences: Array, rng: np.random.Generator, *, growth: float = 0.0) -> Paired:
    """Compare by per-image differences (n,) whose sum is the difference of the metric; growth as in Paired.

    Differences of one size get McNemar's test; of others, the larger p-value of random signs, which is right for few
    changed images, and of the studentised mean, which is for skewed differences. Two images are added to the variance,
    one that each of the two wins by the largest size seen (Bonett and Price 2012, for hits), so that no interval is
    empty.
    """
    n, value = len(differences), float(differences.sum())
    sizes = np.abs(differences[differences != 0])
    largest, step = (float(sizes.max()), float(sizes.mean())) if len(sizes) else (1 / n, 1 / n)
    tests, alike = sign_flip(differences, rng), _equal(sizes, largest)
    error = math.sqrt(_variance(differences, np.zeros(n, np.int64), np.array([n])) + 2 * largest**2)
    low, high = value - Z * error, value + Z * error
    if not alike:
        centred = differences - value / n
        skewed, ends = studentised(value, centred), of_mean(value, centred)
        tests = OneSided(max(tests.higher, skewed.higher), max(tests.lower, skewed.lower))
        low, high = min(low, ends.low), max(high, ends.high)
    return Paired(value, low, high, *tests, error, len(sizes), step, growth, n if alike else 0)


def of_classes(differences: Array, classes: Ints, weights: Array, *, growth: float = 0.0) -> Paired:
    """Compare by per-image differences (n,) of weighted hits; classes are fixed while images vary within them.

    classes: (n,) each image's; in one of a single image the variance is taken about the mean of all. weights: (n,) the
    most that an image can move the metric: two images of the smallest class are added to the variance, for three that
    did not change say little. Random signs would see no class in which the one model is better, and the other in the
    next; where all classes are of one size that does no harm, and the test is McNemar's.
    """
    changed = np.abs(differences[differences != 0])
    step = float(changed.mean()) if len(changed) else 1 / len(differences)
    _, codes, counts = np.unique(classes, return_inverse=True, return_counts=True)
    error = math.sqrt(_variance(differences, codes, counts) + 2 * float(weights.max()) ** 2)
    found = of_error(float(differences.sum()), error)._replace(changed=len(changed), step=step, growth=growth)
    alike = np.allclose(weights, weights[0], rtol=1e-9) and _equal(changed, step)
    if not alike:
        return found
    tests = mcnemar(int((differences > 0).sum()), int((differences < 0).sum()))
    return found._replace(higher=tests.higher, lower=tests.lower, of=len(differences))


def _variance(differences: Array, codes: Ints, counts: Ints) -> float:
    """Return the variance of the sum of differences, within groups. codes: (n,) each one's. counts: (groups,)."""
    centres = np.where(counts > 1, np.bincount(codes, differences) / counts, differences.mean())
    unbiased = np.where(counts > 1, counts / np.maximum(counts - 1, 1), 1.0)
    return float((unbiased[codes] * (differences - centres[codes]) ** 2).sum())


def widened(found: Paired, extra: float, extra_df: float, n: int) -> Paired:
    """Return a comparison over n images widened by another variance, such as that between draws or training seeds.

    extra: the variance of the difference that comes from these, by so many degrees of freedom. The variances add up,
    and Student's quantile is that of their sum (Satterthwaite). Where there is none, it stays as it is.
    """
    own = found.error**2
    if not extra:
        return found
    error, df = math.sqrt(own + extra), freedom(own, n - 1, extra, extra_df)
    reach = float(scipy.special.stdtrit(df, (1 + CONFIDENCE) / 2)) * error
    higher, lower = (float(scipy.stats.t.sf(side * found.value / error, df)) for side in (1, -1))
    return found._replace(
        low=min(found.low, found.value - reach),
        high=max(found.high, found.value + reach),
        higher=max(found.higher, higher),
        lower=max(found.lower, lower),
        error=error,
        of=0,
        freedom=df,
    )


def of_influence(value: float, influence: Array) -> Paired:
    """Compare by a difference and how each image moves it (n,), n >= 2: the studentised test, and its interval."""
    error, changed = math.sqrt(variance(influence)), int(np.count_nonzero(influence))
    return Paired(value, *of_mean(value, influence), *studentised(value, influence), error or math.nan, changed)


def of_sums(
    first: Array, second: Array, value: Callable[[Array], Array], influence: Array, rng: np.random.Generator
) -> Paired:
    """Compare a function of summed statistics: the interval by influence values (images,), the test by swap."""
    observed = float(value(first.sum(axis=0)) - value(second.sum(axis=0)))
    tests, changed = swap(first, second, value, rng), int((first != second).any(axis=1).sum())
    found = of_influence(observed, influence)
    return found._replace(higher=tests.higher, lower=tests.lower, changed=changed)


def of_tasks(parts: Sequence[tuple[NDArray[np.generic], Array, float]], rng: np.random.Generator) -> Paired:
    """Compare the mean over tasks: of each its images (n,), their differences (n,) that sum to its own, its growth.

    An image that several tasks share counts once, with all that it does to them.
    """
    images = np.concatenate([image for image, _, _ in parts])
    gaps = np.concatenate([gap for _, gap, _ in parts]) / len(parts)
    joint = np.bincount(np.unique(images, return_inverse=True)[1], gaps).astype(np.float64)
    return of_means(joint, rng, growth=float(np.mean([growth for _, _, growth in parts])))


def of_draws(value: float, draws: Array) -> Paired:
    """Compare by the differences (resamples,) over images redrawn for both at once: a normal test with their variance.

    For metrics that are no function of sums (a median, average precision).
    """
    return of_error(value, float(draws.std(ddof=1)))


def of_error(value: float, error: float) -> Paired:
    """Compare by a difference and its standard error: a normal test. An error of 0 is that of exact numbers."""
    reach = Z * error
    return Paired(value, value - reach, value + reach, *_normal(value, error), error)


def of_independent(value: float, low: float, high: float) -> Paired:
    """Compare two numbers of which only the interval of the difference is known: a normal test that agrees with it.

    The half of the interval on the side of zero counts: it excludes zero exactly where p < 0.05. An interval without
    width is that of exact numbers.
    """
    error = (value - low if value > 0 else high - value) / Z
    return Paired(value, low, high, *_normal(value, error), (high - low) / (2 * Z))


def _normal(value: float, error: float) -> OneSided:
    if not error > 0:
        return OneSided(float(value <= 0), float(value >= 0))
    return OneSided(float(scipy.special.ndtr(-value / error)), float(scipy.special.ndtr(value / error)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values that hold for all tests together (Holm 1979): compare each with the level as it is."""
    order = np.argsort(p_values)
    steps = np.asarray(p_values, float)[order] * (len(order) - np.arange(len(order)))
    adjusted = np.empty(len(order))
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(steps))
    return [float(p) for p in adjusted]
