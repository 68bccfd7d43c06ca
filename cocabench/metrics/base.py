"""Metrics: name, unit, direction, the columns that they read, and the statistic that computes the value.

Samples are a pandas frame with one row per SampleScore: ``id``, ``image_id`` and the statistics. Rows that a metric
does not read hold nulls in its columns.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from cocabench.core.types import Estimate, MetricInfo, SampleScore, Unit

if TYPE_CHECKING:
    import pandas as pd

    Samples = pd.DataFrame
else:
    Samples = "pandas.DataFrame"  # only what computes needs pandas, whose import takes a third of a second


class Interval(NamedTuple):
    """A 95 % interval; (nan, nan) where none can be given."""

    low: float
    high: float


UNKNOWN = Interval(float("nan"), float("nan"))


class Paired(NamedTuple):
    """First minus second with its 95 % interval, on the metric's own scale.

    higher, lower: one-sided p-values, small where the first is higher or lower. error: the standard error of the
    difference, NaN where nothing tells. changed: images on which the two differ, None where that is not known. step:
    what one changed image moves the metric, on average; 0 where that is not known. growth: how many more images differ
    for each that the worse of the two loses (``metrics.power``). of: how many images there are where each that differs
    moves the metric by step, so that the test is McNemar's; else 0. shares: of two independent shares, each one's value
    and the sample size that gives its interval. freedom: degrees of freedom of the error, if few draws decide it.
    """

    value: float
    low: float
    high: float
    higher: float
    lower: float
    error: float
    changed: int | None = None
    step: float = 0.0
    growth: float = 0.0
    of: int = 0
    shares: tuple[tuple[float, float], ...] = ()
    freedom: float = float("inf")

    @property
    def p_value(self) -> float:
        """Two-sided."""
        return min(1.0, 2 * min(self.higher, self.lower))


class Statistic(Protocol):
    """How a number follows from its rows; ``metrics.statistics`` has the seven that there are.

    Rows of one image depend on each other. Arrays are float64. fewest: with fewer images, interval and test are
    withheld, for no method holds its level there.
    """

    fewest: ClassVar[int]

    def withheld(self, rows: Samples) -> str:
        """Return why rows give no interval, '' where they do."""

    def value(self, rows: Samples) -> float:
        """Return the number; NaN where it is undefined."""

    def interval(self, rows: Samples, rng: np.random.Generator) -> Interval:
        """Return its 95 % interval over images."""

    def compare(self, first: Side, second: Side, rng: np.random.Generator) -> Paired:
        """Return first minus second over the same rows in the same order, an image's rows together."""

    def per_row(self, rows: Samples) -> NDArray[np.float64] | None:
        """Return (rows,) each row's own value, None where it has none."""

    def per_image(self, rows: Samples) -> NDArray[np.float64] | None:
        """Return (images,) each image's own value in order of first appearance, None where it has none."""

    def influence(self, rows: Samples) -> NDArray[np.float64] | None:
        """Return (images,) how each image moves the number, in order of first appearance; None where unknown.

        They sum to 0, and the sum of their squares is the number's variance (the infinitesimal jackknife).
        """

    def value_of(self, side: Side) -> float:
        """Return the number of a side, from the values of its rows if it follows from them."""

    def influence_of(self, side: Side) -> NDArray[np.float64] | None:
        """Do so with the influence."""


class Side:
    """One model's rows of a metric, and what follows from them alone: computed once, however many models it meets."""

    def __init__(self, statistic: Statistic, rows: Samples) -> None:
        self.statistic = statistic
        self.rows = rows
        self.ids = tuple(rows[name].to_numpy() for name in ("image_id", "id"))

    @cached_property
    def images(self) -> NDArray[np.generic]:
        """(images,) names, in order of first appearance."""
        return np.asarray(self.rows["image_id"].unique())

    @cached_property
    def value(self) -> float:
        return self.statistic.value_of(self)

    @cached_property
    def values(self) -> NDArray[np.float64]:
        """(rows,) each row's own value; TypeError where the statistic has none."""
        if (found := self.statistic.per_row(self.rows)) is None:
            raise TypeError(f"{type(self.statistic).__name__} has no value per row")
        return found

    @cached_property
    def influence(self) -> NDArray[np.float64] | None:
        return self.statistic.influence_of(self)


Role = Literal["quality", "health", "cost"]


@dataclass(frozen=True)
class Metric:
    """A declared metric. Its name determines its function: params change the samples, not the metric.

    columns: the columns that it reads; rows with a null in the first one are skipped. also: optional columns.
    version: raised if the metric gives another number for the same samples. role: health metrics say whether outcomes
    are plausible, not how good they are. label: heading in tables of costs. domain: only images of this domain count.
    in_domain: the metric to use inside a domain instead (CIDEr has other document frequencies there). model: the key
    of the kind's extra model that it needs. where: a column, which is among columns, and the value of the rows that
    count (5 shots).
    """

    name: str
    summary: str
    statistic: Statistic
    columns: tuple[str, ...]
    unit: Unit = "fraction"
    higher_is_better: bool = True
    version: int = 1
    role: Role = "quality"
    label: str = ""
    domain: str = ""
    in_domain: Metric | None = None
    also: tuple[str, ...] = ()
    model: str = ""
    where: tuple[str, int] | None = None

    @property
    def info(self) -> MetricInfo:
        kind: Literal["quality", "health"] = "health" if self.role == "health" else "quality"
        return MetricInfo(
            unit=self.unit,
            higher_is_better=self.higher_is_better,
            summary=self.summary,
            kind=kind,
            version=self.version,
        )

    @property
    def plain(self) -> str:
        """The name without a domain."""
        return self.name.partition("[")[0]

    def on(self, domain: str) -> Metric:
        """Return the same metric over one domain's images: ``CIDEr[in-domain]``, as NoCaps reports it."""
        name, summary = f"{self.name}[{domain}]", f"{self.summary} Over the {domain} images."
        return replace(self.in_domain or self, name=name, summary=summary, domain=domain)

    def readable(self, columns: Collection[str]) -> bool:
        """Return whether the metric can be computed from these columns."""
        return {*self.columns, *(("domain",) if self.domain else ())} <= set(columns)

    def rows(self, samples: Samples) -> Samples:
        """Return the rows that the metric reads; none if its first column is absent."""
        first = self.columns[0]
        if first not in samples:
            return samples[:0]
        column = samples[first]
        rows = samples if column.dtype.kind in "biu" or (known := column.notna()).all() else samples[known]
        if self.where is not None:
            rows = rows[rows[self.where[0]] == self.where[1]] if self.where[0] in rows else rows[:0]
        return rows[rows["domain"] == self.domain] if self.domain else rows


@dataclass(frozen=True)
class Family:
    """Metrics that differ in a number, such as ``t2i_recall@{}``. listed: the numbers to show in lists."""

    name: str
    make: Callable[[int], Metric]
    listed: tuple[int, ...] = (1, 5, 10)

    def find(self, name: str) -> Metric | None:
        """Return the member with this name, None if there is none."""
        found = re.fullmatch(re.escape(self.name).replace(r"\{\}", r"([1-9]\d*)"), name)
        return self.make(int(found[1])) if found else None


def stack(scores: Iterable[SampleScore]) -> Samples:
    """Return one row per score; a statistic that a score does not have is null."""
    import pandas as pd

    return pd.DataFrame([{"id": s.id, "image_id": s.image_id, **s.stats} for s in scores])


def estimate(metric: Metric, samples: Samples, *, seed: int = 0) -> Estimate:
    """Return the metric with its interval, which may be withheld (``Statistic.withheld``).

    Undefined (no rows, or NaN) is value None with n = 0, never 0.
    """
    rows = metric.rows(samples)
    if rows.empty or np.isnan(value := metric.statistic.value(rows)):
        return Estimate(value=None, low=None, high=None, n=0)
    withheld = metric.statistic.withheld(rows)
    low, high = UNKNOWN if withheld else metric.statistic.interval(rows, np.random.default_rng(seed))
    return Estimate(value=value, low=low, high=high, n=rows["image_id"].nunique())


def image_sums(samples: Samples, statistics: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (images, k): the sum over each image's rows of statistics (rows, k), in order of first appearance."""
    import pandas as pd

    codes, images = pd.factorize(samples["image_id"])
    if len(images) == len(codes):
        return statistics + 0.0
    sums = np.zeros((len(images), statistics.shape[1]))
    np.add.at(sums, codes, statistics)
    return sums
