"""The six statistics: how a metric's value, interval and paired test follow from its rows.

Mean and Hits are means over rows, Sums a function of summed columns, Median and Redrawn are computed anew over redrawn
images, Whole is a figure of all rows together.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cocabench.core.errors import UnpairedError
from cocabench.metrics import intervals, paired
from cocabench.metrics.base import UNKNOWN, Interval, Metric, Paired, Samples, image_sums

Array = NDArray[np.float64]
Ints = NDArray[np.int64]
Read = Callable[[Samples], Array]

SAME = 1e-9
"""Smaller differences of an image are rounding between machines."""


@dataclass(frozen=True)
class Mean:
    """A mean of values, a column's name or a function of rows that returns (rows,). Interval: bootstrap over images.

    groups, if given: (rows,) the group of each row, the data's alone: the mean of the groups' means, each of which
    counts alike. fixed: groups are classes within which images vary, not what images are drawn with.
    """

    values: str | Read
    groups: Callable[[Samples], Ints] | None = None
    fixed: bool = False

    def per_row(self, rows: Samples) -> Array:
        if callable(self.values):
            return self.values(rows)
        return np.asarray(rows[self.values].to_numpy(dtype=np.float64))

    def value(self, rows: Samples) -> float:
        values = self.per_row(rows)
        if self.groups is None:
            return float(values.mean())
        _, codes, counts = np.unique(self.groups(rows), return_inverse=True, return_counts=True)
        return float((np.bincount(codes, values) / counts).mean())

    def weights(self, rows: Samples) -> Array:
        """Return (rows,) what each row counts; they sum to 1."""
        if self.groups is None:
            return np.full(len(rows), 1 / len(rows))
        _, codes, counts = np.unique(self.groups(rows), return_inverse=True, return_counts=True)
        return np.asarray(1 / (len(counts) * counts[codes]), np.float64)

    def interval(self, rows: Samples, rng: np.random.Generator) -> Interval:
        weights = np.ones(len(rows)) if self.groups is None else self.weights(rows)
        sums = image_sums(rows, np.column_stack([weights * self.per_row(rows), weights]))
        return intervals.of_sums(sums, lambda s: s[..., 0] / s[..., 1], rng)

    def per_image(self, rows: Samples) -> Array:
        weights = self.weights(rows)
        sums = image_sums(rows, np.column_stack([weights * self.per_row(rows), weights]))
        return np.asarray(sums[:, 0] / sums[:, 1], np.float64)

    def compare(self, first: Samples, second: Samples, rng: np.random.Generator) -> Paired:
        gaps = self.weights(first) * (self.per_row(first) - self.per_row(second))
        differences = image_sums(first, gaps[:, None])[:, 0]
        differences[np.abs(differences) * len(differences) < SAME] = 0.0
        classes = self.groups(first) if self.groups is not None and self.fixed else None
        strata = None if classes is None else classes[~first["image_id"].duplicated().to_numpy()]
        return paired.of_means(differences, rng, strata=strata)


@dataclass(frozen=True)
class Hits(Mean):
    """A share of hits, 0 to 1 each. Interval: Wilson's; by the variance between images, or within fixed groups."""

    def interval(self, rows: Samples, rng: np.random.Generator) -> Interval:
        hits, weights = self.per_row(rows), self.weights(rows)
        if self.groups is not None and self.fixed:
            return intervals.of_class_means(hits, self.groups(rows))
        if len(hits) == rows["image_id"].nunique() and np.isin(hits, (0.0, 1.0)).all():
            return intervals.proportion(hits)
        share = float(weights @ hits)
        deviations = image_sums(rows, (weights * (hits - share))[:, None])[:, 0]
        return intervals.of_hits(deviations, share, len(hits))


@dataclass(frozen=True)
class Sums:
    """A function of summed statistics: read(rows) is (rows, k), of maps (..., k) sums to (...). (BLEU, METEOR.)"""

    read: Read
    of: Callable[[Array], Array]

    def value(self, rows: Samples) -> float:
        return float(self.of(self.read(rows).sum(axis=0)))

    def interval(self, rows: Samples, rng: np.random.Generator) -> Interval:
        return intervals.of_sums(image_sums(rows, self.read(rows)), self.of, rng)

    def per_row(self, rows: Samples) -> Array:
        return self.of(self.read(rows))

    def per_image(self, rows: Samples) -> Array:
        return self.of(image_sums(rows, self.read(rows)))

    def compare(self, first: Samples, second: Samples, rng: np.random.Generator) -> Paired:
        one, other = image_sums(first, self.read(first)), image_sums(second, self.read(second))
        return paired.of_sums(one, other, self.of, rng)


@dataclass(frozen=True)
class Redrawn:
    """Any other number: prepare(rows) reads them once and returns row numbers, with repeats -> the number.

    share: it is in 0-1, and its interval is that of a share of the same variance; else percentiles.
    """

    prepare: Callable[[Samples], Callable[[Ints], float]]
    share: bool = False

    def value(self, rows: Samples) -> float:
        return self.prepare(rows)(np.arange(len(rows)))

    def interval(self, rows: Samples, rng: np.random.Generator) -> Interval:
        draws = intervals.image_draws(rows, self.prepare(rows), rng)
        if draws is None:
            return UNKNOWN
        if self.share:
            variance = float(draws.var(ddof=1))
            return intervals.of_proportion_like(self.value(rows), variance, rows["image_id"].nunique())
        return intervals.percentiles(draws)

    def per_row(self, rows: Samples) -> Array | None:
        return None

    def per_image(self, rows: Samples) -> Array | None:
        return None

    def compare(self, first: Samples, second: Samples, rng: np.random.Generator) -> Paired:
        return _redrawn_together(first, self.prepare(first), self.prepare(second), rng)


@dataclass(frozen=True)
class Median:
    """The median of values, as of Mean. Interval: percentiles over redrawn images."""

    values: Read

    def value(self, rows: Samples) -> float:
        return float(np.median(self.values(rows)))

    def interval(self, rows: Samples, rng: np.random.Generator) -> Interval:
        draws = intervals.image_draws(rows, self._prepared(rows), rng)
        return UNKNOWN if draws is None else intervals.percentiles(draws)

    def per_row(self, rows: Samples) -> Array:
        return self.values(rows)

    def per_image(self, rows: Samples) -> Array | None:
        return None

    def compare(self, first: Samples, second: Samples, rng: np.random.Generator) -> Paired:
        return _redrawn_together(first, self._prepared(first), self._prepared(second), rng)

    def _prepared(self, rows: Samples) -> Callable[[Ints], float]:
        values = self.values(rows)
        return lambda numbers: float(np.median(values[numbers]))


def no_interval(rows: Samples) -> Interval:
    """The interval of what has none: redrawn images repeat, so that a figure of distinct ones would be too low."""
    return UNKNOWN


@dataclass(frozen=True)
class Whole:
    """A figure of all rows together (a vocabulary, the peak of memory): no interval but a given one."""

    of: Callable[[Samples], float]
    spread: Callable[[Samples], Interval] = no_interval

    def value(self, rows: Samples) -> float:
        return float(self.of(rows))

    def interval(self, rows: Samples, rng: np.random.Generator) -> Interval:
        return self.spread(rows)

    def per_row(self, rows: Samples) -> Array | None:
        return None

    def per_image(self, rows: Samples) -> Array | None:
        return None

    def compare(self, first: Samples, second: Samples, rng: np.random.Generator) -> Paired:
        return _redrawn_together(
            first, lambda numbers: self.of(first.iloc[numbers]), lambda numbers: self.of(second.iloc[numbers]), rng
        )


def _redrawn_together(
    rows: Samples, one: Callable[[Ints], float], other: Callable[[Ints], float], rng: np.random.Generator
) -> Paired:
    """Compare two numbers computed anew over images redrawn for both at once."""
    draws = intervals.image_draws(rows, lambda numbers: one(numbers) - other(numbers), rng)
    if draws is None:
        raise UnpairedError("", "one image alone")
    every = np.arange(len(rows))
    return paired.of_draws(one(every) - other(every), draws)


def compare(metric: Metric, first: Samples, second: Samples, *, seed: int = 0) -> Paired:
    """Return first minus second of a metric over the same samples, whatever their order; UnpairedError as aligned."""
    return compare_ordered(metric, ordered(first), ordered(second), seed=seed)


def compare_ordered(metric: Metric, first: Samples, second: Samples, *, seed: int = 0) -> Paired:
    """Do as compare for samples that are in order already."""
    one, other = _same_rows(metric, first, second)
    return metric.statistic.compare(one, other, np.random.default_rng(seed))


def ordered(samples: Samples) -> Samples:
    """Return samples by image, then by id: the order in which two models' samples are compared."""
    keys = list(zip(samples["image_id"], samples["id"], strict=True))
    order = sorted(range(len(keys)), key=keys.__getitem__)
    return samples if order == list(range(len(keys))) else samples.iloc[order]


def aligned(metric: Metric, first: Samples, second: Samples) -> tuple[Samples, Samples]:
    """Return the rows that a metric reads, of both in one order; UnpairedError where they are not the same samples."""
    return _same_rows(metric, ordered(first), ordered(second))


def _same_rows(metric: Metric, first: Samples, second: Samples) -> tuple[Samples, Samples]:
    for side in (first, second):
        if lacking := [name for name in metric.columns if name not in side]:
            raise UnpairedError(metric.name, f"no column {lacking[0]!r} in the samples")
    one, other = metric.rows(first), metric.rows(second)
    if one.empty or other.empty:
        raise UnpairedError(metric.name, f"no rows with {metric.columns[0]!r} in the samples")
    if not all(np.array_equal(one[name].to_numpy(), other[name].to_numpy()) for name in ("image_id", "id")):
        only = set(one["id"]) ^ set(other["id"])
        raise UnpairedError(metric.name, f"{len(only)} samples are in one of the two only")
    return one, other
