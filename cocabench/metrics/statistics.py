"""The seven statistics: how a metric's value, interval and paired test follow from its rows.

Mean and Hits are means over rows, Worst the lowest mean of a group, Sums a function of summed columns, Smooth any
other number that comes with its influence values, Median is computed anew over redrawn images, Whole is a figure of all
rows together.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cocabench.core.errors import UnpairedError, WithheldError
from cocabench.core.formatting import plural
from cocabench.metrics import intervals, paired
from cocabench.metrics.base import UNKNOWN, Interval, Metric, Paired, Samples, Side, image_sums
from cocabench.metrics.seeds import Moves

Array = NDArray[np.float64]
Ints = NDArray[np.int64]
Read = Callable[[Samples], Array]

SAME = 1e-9
"""Smaller differences of an image are rounding between machines."""


class Common:
    """What a statistic is where it says nothing else: tested at any size, without values of rows or images."""

    fewest: ClassVar[int] = 1

    def value(self, rows: Samples) -> float:
        raise NotImplementedError

    def withheld(self, rows: Samples) -> str:
        """Return why rows give no interval, '' where they do."""
        n = rows["image_id"].nunique()
        return f"n={n}, {self.fewest} images are the fewest that tell" if n < self.fewest else ""

    def per_row(self, rows: Samples) -> Array | None:
        return None

    def per_image(self, rows: Samples) -> Array | None:
        return None

    def influence(self, rows: Samples) -> Array | None:
        return None

    def value_of(self, side: Side) -> float:
        return self.value(side.rows)

    def influence_of(self, side: Side) -> Array | None:
        return self.influence(side.rows)


@dataclass(frozen=True)
class Mean(Common):
    """A mean of values, a column's name or a function of rows that returns (rows,). Interval: studentised.

    groups, if given: (rows,) the group of each row, the data's alone: the mean of the groups' means, each of which
    counts alike. fixed: groups are classes within which images vary, not what images are drawn with.
    """

    fewest: ClassVar[int] = intervals.MIN_IMAGES

    values: str | Read
    groups: Callable[[Samples], Ints] | None = None
    fixed: bool = False

    def per_row(self, rows: Samples) -> Array:
        if callable(self.values):
            return self.values(rows)
        return np.asarray(rows[self.values].to_numpy(dtype=np.float64))

    def value(self, rows: Samples) -> float:
        return self._mean(self.per_row(rows), rows)

    def value_of(self, side: Side) -> float:
        return self._mean(side.values, side.rows)

    def _mean(self, values: Array, rows: Samples) -> float:
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
        values = self.per_row(rows)
        low, high = intervals.of_mean(self.value(rows), self.influence(rows))
        return Interval(max(low, float(values.min())), min(high, float(values.max())))

    def influence(self, rows: Samples) -> Array:
        return self._influence(self.per_row(rows), rows)

    def influence_of(self, side: Side) -> Array:
        return self._influence(side.values, side.rows)

    def _influence(self, values: Array, rows: Samples) -> Array:
        codes = np.zeros(len(rows), np.int64)
        if self.groups is not None:
            codes = np.unique(self.groups(rows), return_inverse=True)[1]
        centres = np.bincount(codes, values) / np.bincount(codes)
        return image_sums(rows, (self.weights(rows) * (values - centres[codes]))[:, None])[:, 0]

    def per_image(self, rows: Samples) -> Array:
        weights = self.weights(rows)
        sums = image_sums(rows, np.column_stack([weights * self.per_row(rows), weights]))
        return np.asarray(sums[:, 0] / sums[:, 1], np.float64)

    def differences(self, first: Side, second: Side) -> Array:
        """Return (images,) what each image adds to first minus second; rounding between machines is 0."""
        gaps = self.weights(first.rows) * (first.values - second.values)
        alone = len(first.images) == len(gaps)
        found = gaps + 0.0 if alone else image_sums(first.rows, gaps[:, None])[:, 0]
        found[np.abs(found) * len(found) < SAME] = 0.0
        return found

    def growth(self, first: Side, second: Side, differences: Array) -> float:
        return 0.0

    def compare(self, first: Side, second: Side, rng: np.random.Generator) -> Paired:
        differences, rows = self.differences(first, second), first.rows
        growth = self.growth(first, second, differences)
        if self.groups is None or not self.fixed:
            return paired.of_means(differences, rng, growth=growth)
        once = ~rows["image_id"].duplicated().to_numpy()
        weights = image_sums(rows, self.weights(rows)[:, None])[:, 0]
        return paired.of_classes(differences, self.groups(rows)[once], weights, growth=growth)


@dataclass(frozen=True)
class Share(Mean):
    """A mean of values of 0 to 1 each. Interval: Wilson's; by the variance between images, or within fixed groups."""

    fewest: ClassVar[int] = 1

    def interval(self, rows: Samples, rng: np.random.Generator) -> Interval:
        hits = self.per_row(rows)
        if self.groups is not None and self.fixed:
            return intervals.of_class_means(hits, self.groups(rows))
        if len(hits) == rows["image_id"].nunique() and np.isin(hits, (0.0, 1.0)).all():
            return intervals.proportion(hits)
        return intervals.of_hits(float(self.weights(rows) @ hits), self.influence(rows), len(hits))

    def growth(self, first: Side, second: Side, differences: Array) -> float:
        """Return how many more images differ for each that the worse loses: lost at random of those that it has right.

        Of a share p, q differ, half of them won by it; of p - q/2 that both have right, each that is lost is one more,
        of q/2 one less.
        """
        level = (first.value + second.value) / 2
        share = np.count_nonzero(differences) / len(first.images)
        return max(0.0, 1 - share / level) if level > 0 else 0.0


@dataclass(frozen=True)
class Hits(Share):
    """A share of hits: its values are 0 and 1, and between them where ties are broken or rows joined."""


@dataclass(frozen=True)
class Drawn(Hits):
    """Hits of classifiers that random draws decide, too, such as a probe's training images: a row per image and draw.

    draws: the column of draws, the same for all models. Interval and test are those of images (each with the mean of
    its rows), widened by the variance between draws; of a single draw that is unknown, and they are over images alone.
    """

    draws: str = "seed"

    def interval(self, rows: Samples, rng: np.random.Generator) -> Interval:
        value, n = self.value(rows), rows["image_id"].nunique()
        if self.groups is None:
            found = intervals.of_hits(value, self.influence(rows), len(rows))
        else:
            once = ~rows["image_id"].duplicated().to_numpy()
            found = intervals.of_class_means(self.per_image(rows), self.groups(rows)[once])
        between = self._by_draw(rows)
        extra = intervals.between(between)
        if not extra or n < 2:
            return found
        own = value * (1 - value) / intervals.size_of(value, *found)
        reach = intervals.student_of_two(own, n - 1, extra, len(between) - 1)
        return intervals.of_proportion_like(value, own + extra, n, reach=reach)

    def compare(self, first: Side, second: Side, rng: np.random.Generator) -> Paired:
        gaps = self._by_draw(first.rows) - self._by_draw(second.rows)
        extra, n = intervals.between(gaps), len(first.images)
        return paired.widened(super().compare(first, second, rng), extra, len(gaps) - 1, n)

    def _by_draw(self, rows: Samples) -> Array:
        """Return (draws,) the value of each draw, in the order of their numbers."""
        return np.array([self.value(some) for _, some in rows.groupby(self.draws, sort=True)])


@dataclass(frozen=True)
class Worst(Common):
    """The lowest share of hits (0-1 each) of any group that has rows; equal shares: the first group's.

    groups: the column of groups, whole numbers. Interval: Wilson's over the images of that group, as if it were known
    beforehand which one is lowest; of several groups with equal shares the lowest is on average below what it would be
    on more images. Withheld where the group has fewer than MIN_IMAGES_OF_A_GROUP images.
    """

    fewest: ClassVar[int] = intervals.MIN_IMAGES

    hits: Read
    groups: str

    def lowest(self, rows: Samples) -> int:
        """Return the group with the lowest share."""
        groups, codes = np.unique(rows[self.groups].to_numpy(np.int64), return_inverse=True)
        return int(groups[(np.bincount(codes, self.hits(rows)) / np.bincount(codes)).argmin()])

    def withheld(self, rows: Samples) -> str:
        n = rows["image_id"][self._chosen(rows)].nunique()
        few = f"the lowest group has n={n}, {intervals.MIN_IMAGES_OF_A_GROUP} images are the fewest that tell"
        return super().withheld(rows) or (few if n < intervals.MIN_IMAGES_OF_A_GROUP else "")

    def value(self, rows: Samples) -> float:
        return float(self.hits(rows)[self._chosen(rows)].mean())

    def interval(self, rows: Samples, rng: np.random.Generator) -> Interval:
        own = rows[self._chosen(rows)]
        return Hits(self.hits).interval(own, rng)

    def influence(self, rows: Samples) -> Array:
        chosen, hits = self._chosen(rows), self.hits(rows)
        moved = np.where(chosen, hits - hits[chosen].mean(), 0.0) / chosen.sum()
        return image_sums(rows, moved[:, None])[:, 0]

    def compare(self, first: Side, second: Side, rng: np.random.Generator) -> Paired:
        return _by_influence(first, second)

    def _chosen(self, rows: Samples) -> NDArray[np.bool_]:
        return np.asarray(rows[self.groups].to_numpy(np.int64) == self.lowest(rows), bool)


@dataclass(frozen=True)
class Sums(Common):
    """A function of summed statistics: read(rows) is (rows, k), of maps (..., k) sums to (...). (BLEU, METEOR.)

    Numbers are rates of counted events: root and unseen as in ``intervals.of_counts``; unseen: (k,) sums, and the
    events that may have been missed, to the number.
    """

    fewest: ClassVar[int] = intervals.MIN_IMAGES

    read: Read
    of: Callable[[Array], Array]
    root: int = 1
    unseen: Callable[[Array, float], float] | None = None

    def withheld(self, rows: Samples) -> str:
        reason, n = super().withheld(rows), rows["image_id"].nunique()
        if reason or n >= intervals.MIN_IMAGES_FOR_RARE_EVENTS or n < 2:
            return reason
        sums = self.read(rows).sum(axis=0)
        value = float(self.of(sums))
        seen = self.unseen is None or self.unseen(sums, 1.0) <= value * (1 + 1e-9)
        events = intervals.events_of(value, self.influence(rows), self.root) if seen else 0.0
        return "" if events >= intervals.MIN_EVENTS else f"n={n}, too few matches tell"

    def value(self, rows: Samples) -> float:
        return float(self.of(self.read(rows).sum(axis=0)))

    def interval(self, rows: Samples, rng: np.random.Generator) -> Interval:
        unseen = partial(self.unseen, self.read(rows).sum(axis=0)) if self.unseen else None
        return intervals.of_counts(self.value(rows), self.influence(rows), root=self.root, unseen=unseen)

    def per_row(self, rows: Samples) -> Array:
        return self.of(self.read(rows))

    def per_image(self, rows: Samples) -> Array:
        return self.of(image_sums(rows, self.read(rows)))

    def influence(self, rows: Samples) -> Array:
        return self._influence(image_sums(rows, self.read(rows)))

    def _influence(self, sums: Array) -> Array:
        """Return (images,) by the slopes at the sums (images, k), each from a thousandth more and less."""
        total = sums.sum(axis=0)
        change = np.diag(total * 2.0**-10)
        slopes = self.of(total + change) - self.of(total - change)
        moved = sums @ np.divide(slopes, 2 * change.diagonal(), out=np.zeros(len(total)), where=total != 0)
        return np.asarray(moved - moved.mean(), np.float64)

    def compare(self, first: Side, second: Side, rng: np.random.Generator) -> Paired:
        one, other = (image_sums(side.rows, self.read(side.rows)) for side in (first, second))
        return paired.of_sums(one, other, self.of, self._influence(one) - self._influence(other), rng)


@dataclass(frozen=True)
class Smooth(Common):
    """Any other number in 0-1 with known influence values: of(rows) is the number, and (rows,) how each row moves it.

    enough: says why the rows give no interval, '' where they do.
    """

    fewest: ClassVar[int] = intervals.MIN_IMAGES

    of: Callable[[Samples], tuple[float, Array]]
    enough: Callable[[Samples], str] = lambda rows: ""

    def withheld(self, rows: Samples) -> str:
        return super().withheld(rows) or self.enough(rows)

    def value(self, rows: Samples) -> float:
        return self.of(rows)[0]

    def interval(self, rows: Samples, rng: np.random.Generator) -> Interval:
        return intervals.of_share(self.value(rows), self.influence(rows))

    def influence(self, rows: Samples) -> Array:
        return image_sums(rows, self.of(rows)[1][:, None])[:, 0]

    def compare(self, first: Side, second: Side, rng: np.random.Generator) -> Paired:
        return _by_influence(first, second)


@dataclass(frozen=True)
class Median(Common):
    """The median of values, as of Mean. Interval: percentiles over redrawn images."""

    values: Read

    def value(self, rows: Samples) -> float:
        return float(np.median(self.values(rows)))

    def interval(self, rows: Samples, rng: np.random.Generator) -> Interval:
        if rows["image_id"].nunique() < 2:
            return UNKNOWN
        return intervals.percentiles(intervals.median_draws(self.values(rows), intervals.redrawn(rows, rng)))

    def per_row(self, rows: Samples) -> Array:
        return self.values(rows)

    def compare(self, first: Side, second: Side, rng: np.random.Generator) -> Paired:
        if first.rows["image_id"].nunique() < 2:
            raise UnpairedError("", "one image alone")
        counts = list(intervals.redrawn(first.rows, rng))
        one, other = (intervals.median_draws(self.values(side.rows), counts) for side in (first, second))
        return paired.of_draws(self.value(first.rows) - self.value(second.rows), one - other)


def no_interval(rows: Samples) -> Interval:
    """The interval of what has none: redrawn images repeat, so that a figure of distinct ones would be too low."""
    return UNKNOWN


@dataclass(frozen=True)
class Whole(Common):
    """A figure of all rows together (a vocabulary, the peak of memory): no interval but a given one.

    untested: why differences are not tested, '' where they are over redrawn images.
    """

    of: Callable[[Samples], float]
    spread: Callable[[Samples], Interval] = no_interval
    untested: str = ""

    def value(self, rows: Samples) -> float:
        return float(self.of(rows))

    def interval(self, rows: Samples, rng: np.random.Generator) -> Interval:
        return self.spread(rows)

    def compare(self, first: Side, second: Side, rng: np.random.Generator) -> Paired:
        if self.untested:
            raise WithheldError("", self.untested)
        one, other = first.rows, second.rows
        return _redrawn_together(
            one, lambda numbers: self.of(one.iloc[numbers]), lambda numbers: self.of(other.iloc[numbers]), rng
        )


def _by_influence(first: Side, second: Side) -> Paired:
    if first.influence is None or second.influence is None:
        raise TypeError("it is not known how far each image moves the number")
    return paired.of_influence(first.value - second.value, first.influence - second.influence)


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
    """Return first minus second of a metric over the same samples, whatever their order; UnpairedError as aligned.

    WithheldError where images are too few.
    """
    one, other = (side_of(metric, ordered(samples)) for samples in (first, second))
    return compare_sides(metric, one, other, seed=seed)


def compare_sides(metric: Metric, first: Side, second: Side, *, seed: int = 0) -> Paired:
    """Do as compare for two sides."""
    _check_same_rows(metric, first, second)
    if (n := len(first.images)) < metric.statistic.fewest:
        raise WithheldError("", f"too few images to test (n={n})")
    return metric.statistic.compare(first, second, np.random.default_rng(seed))


class Moved(NamedTuple):
    """How far each image moves first minus second: names (n,) as in the samples, and gaps (n,) that sum to it.

    growth: as in Paired.
    """

    images: NDArray[np.generic]
    gaps: Array
    growth: float


def moved(metric: Metric, first: Side, second: Side) -> Moved:
    """Return what of a difference is each image's; UnpairedError as aligned, or where unknown."""
    _check_same_rows(metric, first, second)
    statistic = metric.statistic
    if isinstance(statistic, Drawn):
        raise UnpairedError(metric.name, "training images drawn at random move it, too")
    if first.influence is None or second.influence is None:
        raise UnpairedError(metric.name, "it is not known how far each image moves it")
    gaps = first.influence - second.influence
    gaps += (first.value - second.value) / len(gaps)
    gaps[np.abs(gaps) * len(gaps) < SAME] = 0.0
    growth = 0.0
    if isinstance(statistic, Mean):
        growth = statistic.growth(first, second, statistic.differences(first, second))
    return Moved(first.images, gaps, growth)


def moved_by_seed(metric: Metric, first: Sequence[Samples], second: Sequence[Samples]) -> Moves:
    """Return what each image adds to a metric with every checkpoint of two recipes, of samples in order.

    UnpairedError as moved; WithheldError where images are too few.
    """
    sides, statistic = [side_of(metric, samples) for samples in (*first, *second)], metric.statistic
    for side in sides:
        _check_same_rows(metric, sides[0], side)
    if isinstance(statistic, Drawn):
        raise UnpairedError(metric.name, "training images drawn at random move it, too")
    if (n := len(sides[0].images)) < statistic.fewest:
        raise WithheldError("", f"too few images to test (n={n})")
    moves = [side.influence + side.value / n for side in sides if side.influence is not None]
    if len(moves) < len(sides):
        raise UnpairedError(metric.name, "it is not known how far each image moves it")
    found = Moves(sides[0].images, np.array(moves[: len(first)]), np.array(moves[len(first) :]))
    if not isinstance(statistic, Mean):
        return found
    gaps, rows = statistic.differences(sides[0], sides[-1]), sides[0].rows
    found = found._replace(growth=statistic.growth(sides[0], sides[-1], gaps))
    if statistic.groups is None or not statistic.fixed:
        return found
    once = ~rows["image_id"].duplicated().to_numpy()
    weights = image_sums(rows, statistic.weights(rows)[:, None])[:, 0]
    return found._replace(classes=statistic.groups(rows)[once], weights=weights)


def ordered(samples: Samples) -> Samples:
    """Return samples by image, then by id: the order in which two models' samples are compared."""
    order = order_of(samples["image_id"].tolist(), samples["id"].tolist())
    return samples if order is None else samples.iloc[order]


def order_of(images: Sequence[str], ids: Sequence[str]) -> list[int] | None:
    """Return the places of samples by image, then by id; None where they are in order."""
    keys = list(zip(images, ids, strict=True))
    if all(map(operator.le, keys, keys[1:])):
        return None
    return sorted(range(len(keys)), key=keys.__getitem__)


def aligned(metric: Metric, first: Samples, second: Samples) -> tuple[Samples, Samples]:
    """Return the rows that a metric reads, of both in one order; UnpairedError where they are not the same samples."""
    one, other = (side_of(metric, ordered(samples)) for samples in (first, second))
    _check_same_rows(metric, one, other)
    return one.rows, other.rows


def side_of(metric: Metric, samples: Samples) -> Side:
    """Return the rows that a metric reads, of samples in order; UnpairedError where there are none."""
    if lacking := [name for name in metric.columns if name not in samples]:
        raise UnpairedError(metric.name, f"no column {lacking[0]!r} in the samples")
    rows = metric.rows(samples)
    if rows.empty:
        raise UnpairedError(metric.name, f"no rows with {metric.columns[0]!r} in the samples")
    return Side(metric.statistic, rows)


def _check_same_rows(metric: Metric, first: Side, second: Side) -> None:
    if not all(np.array_equal(one, other) for one, other in zip(first.ids, second.ids, strict=True)):
        only = set(first.rows["id"]) ^ set(second.rows["id"])
        raise UnpairedError(metric.name, f"{plural(len(only), 'sample is', 'samples are')} in one of the two only")
