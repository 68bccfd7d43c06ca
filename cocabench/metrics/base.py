"""A metric: its name, unit and direction, and pure functions from samples to a number and its interval.

Samples are a pandas frame with one row per SampleScore: ``id``, ``image_id`` and the statistics. Rows that a metric
does not read hold nulls in its columns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cocabench.core.types import Estimate, MetricInfo, SampleScore, Unit

Samples = pd.DataFrame


class Interval(NamedTuple):
    """A 95 % interval; (nan, nan) where none can be given."""

    low: float
    high: float


DEFINITIONS = 1
"""Version of the metrics' definitions; raised when one of them would move a number. Part of every signature."""

UNKNOWN = Interval(float("nan"), float("nan"))


class Paired(NamedTuple):
    """First minus second with its 95 % interval, on the metric's own scale.

    higher, lower: one-sided p-values, small where the first is higher or lower. error: the standard error of the
    difference, NaN where nothing tells. changed: images on which the two differ, None where that is not known. step:
    what one changed image moves the metric, on average; 0 where that is not known.
    """

    value: float
    low: float
    high: float
    higher: float
    lower: float
    error: float
    changed: int | None = None
    step: float = 0.0

    @property
    def p_value(self) -> float:
        """Two-sided."""
        return min(1.0, 2 * min(self.higher, self.lower))


class Pairing(Protocol):
    """How two models are held against each other image by image; ``metrics.pairing`` has the kinds there are."""

    def compare(self, first: Samples, second: Samples, rng: np.random.Generator) -> Paired:
        """Return first minus second over the same rows in the same order, an image's rows together."""

    def per_image(self, samples: Samples) -> NDArray[np.float64] | None:
        """Return (images,) each image's own value, or None where it has none."""


@dataclass(frozen=True)
class Metric:
    """A declared metric.

    value(samples) is a float, NaN where it is undefined; interval(samples, rng) redraws images, never captions;
    column is the statistic whose non-null rows the metric reads; domain, if given, leaves the images of others out;
    pairing says how two models are compared: None computes value anew over redrawn images, which is slow but right;
    kind is MetricInfo's.
    """

    name: str
    summary: str
    column: str
    value: Callable[[Samples], float]
    interval: Callable[[Samples, np.random.Generator], Interval]
    unit: Unit = "fraction"
    higher_is_better: bool = True
    domain: str = ""
    pairing: Pairing | None = None
    kind: Literal["quality", "health"] = "quality"

    @property
    def info(self) -> MetricInfo:
        return MetricInfo(unit=self.unit, higher_is_better=self.higher_is_better, summary=self.summary, kind=self.kind)


def stack(scores: Iterable[SampleScore]) -> Samples:
    """Return one row per score; a statistic that a score does not have is null."""
    return pd.DataFrame([{"id": s.id, "image_id": s.image_id, **s.stats} for s in scores])


def rows_of(metric: Metric, samples: Samples) -> Samples:
    """Return the rows that a metric reads; none where its column is absent."""
    rows = samples[samples[metric.column].notna()] if metric.column in samples else samples[:0]
    return rows[rows["domain"] == metric.domain] if metric.domain else rows


def estimate(metric: Metric, samples: Samples, *, seed: int = 0) -> Estimate:
    """Return the metric with its interval. Undefined (no rows, or NaN) is value None with n = 0, never 0."""
    rows = rows_of(metric, samples)
    if rows.empty:
        return Estimate(value=None, low=None, high=None, n=0)
    value = metric.value(rows)
    if np.isnan(value):
        return Estimate(value=None, low=None, high=None, n=0)
    low, high = metric.interval(rows, np.random.default_rng(seed))
    return Estimate(value=value, low=low, high=high, n=rows["image_id"].nunique())


def image_sums(samples: Samples, statistics: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (images, k): the sum over each image's rows of statistics (rows, k), in order of first appearance."""
    codes, images = pd.factorize(samples["image_id"])
    sums = np.zeros((len(images), statistics.shape[1]))
    np.add.at(sums, codes, statistics)
    return sums
