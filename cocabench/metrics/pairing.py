"""How a declared metric follows from its rows, so that two models can be held against each other image by image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cocabench.core.errors import UnpairedError
from cocabench.metrics import paired
from cocabench.metrics.base import Metric, Paired, Pairing, Samples, image_sums, rows_of
from cocabench.metrics.intervals import image_draws

Array = NDArray[np.float64]
Ints = NDArray[np.int64]

SAME = 1e-9
"""Smaller differences of an image are rounding between machines."""


def equal(samples: Samples) -> Array:
    """Weights of a plain mean over rows."""
    return np.full(len(samples), 1 / len(samples))


@dataclass(frozen=True)
class Mean:
    """A weighted mean: values(samples) is (rows,), weights(samples) (rows,) that sum to 1 and are the data's alone.

    strata(samples), if given: (rows,) what is fixed while images vary (their class).
    """

    values: Callable[[Samples], Array]
    weights: Callable[[Samples], Array] = equal
    strata: Callable[[Samples], Ints] | None = None

    def per_image(self, samples: Samples) -> Array:
        """Return (images,) each image's own weighted mean."""
        weights = self.weights(samples)
        sums = image_sums(samples, np.column_stack([weights * self.values(samples), weights]))
        return np.asarray(sums[:, 0] / sums[:, 1], np.float64)

    def deviations(self, samples: Samples) -> Array:
        """Return (images,) what each image adds to the mean beyond its share of the weights, for its variance."""
        values, weights = self.values(samples), self.weights(samples)
        return image_sums(samples, (weights * (values - weights @ values))[:, None])[:, 0]

    def compare(self, first: Samples, second: Samples, rng: np.random.Generator) -> Paired:
        rows = self.weights(first) * (self.values(first) - self.values(second))
        differences = image_sums(first, rows[:, None])[:, 0]
        differences[np.abs(differences) * len(differences) < SAME] = 0.0
        strata = None if self.strata is None else self.strata(first)[~first["image_id"].duplicated().to_numpy()]
        return paired.of_means(differences, rng, strata=strata)


@dataclass(frozen=True)
class Sums:
    """A function of summed statistics: read(samples) is (rows, k), value maps (..., k) sums to (...)."""

    read: Callable[[Samples], Array]
    value: Callable[[Array], Array]

    def per_image(self, samples: Samples) -> Array:
        """Return (images,) the metric of each image alone."""
        return self.value(image_sums(samples, self.read(samples)))

    def compare(self, first: Samples, second: Samples, rng: np.random.Generator) -> Paired:
        return paired.of_sums(
            image_sums(first, self.read(first)), image_sums(second, self.read(second)), self.value, rng
        )


@dataclass(frozen=True)
class Redrawn:
    """Any other metric: prepare(samples) reads them once and returns row numbers, with repeats -> the metric."""

    prepare: Callable[[Samples], Callable[[Ints], float]]

    def per_image(self, samples: Samples) -> None:
        """No image has a value of its own."""

    def compare(self, first: Samples, second: Samples, rng: np.random.Generator) -> Paired:
        one, other = self.prepare(first), self.prepare(second)
        draws = image_draws(first, lambda rows: one(rows) - other(rows), rng)
        if draws is None:
            raise UnpairedError("", "one image alone")
        every = np.arange(len(first))
        return paired.of_draws(one(every) - other(every), draws)


def pairing_of(metric: Metric) -> Pairing:
    """Return how a metric is paired: as declared, else by computing it anew over redrawn images."""
    return metric.pairing or Redrawn(lambda samples: lambda rows: metric.value(samples.iloc[rows]))


def compare(metric: Metric, first: Samples, second: Samples, *, seed: int = 0) -> Paired:
    """Return first minus second of a metric over the same samples, whatever their order; UnpairedError as aligned."""
    return compare_ordered(metric, ordered(first), ordered(second), seed=seed)


def compare_ordered(metric: Metric, first: Samples, second: Samples, *, seed: int = 0) -> Paired:
    """Do as compare for samples that are in order already."""
    one, other = _same_rows(metric, first, second)
    return pairing_of(metric).compare(one, other, np.random.default_rng(seed))


def ordered(samples: Samples) -> Samples:
    """Return samples by image, then by id: the order in which two models' are held against each other."""
    keys = list(zip(samples["image_id"], samples["id"], strict=True))
    order = sorted(range(len(keys)), key=keys.__getitem__)
    return samples if order == list(range(len(keys))) else samples.iloc[order]


def aligned(metric: Metric, first: Samples, second: Samples) -> tuple[Samples, Samples]:
    """Return the rows that a metric reads, of both in one order; UnpairedError where they are not the same samples."""
    return _same_rows(metric, ordered(first), ordered(second))


def _same_rows(metric: Metric, first: Samples, second: Samples) -> tuple[Samples, Samples]:
    one, other = rows_of(metric, first), rows_of(metric, second)
    if one.empty or other.empty:
        raise UnpairedError(metric.name, f"no column {metric.column!r} in the samples")
    if not all(np.array_equal(one[name].to_numpy(), other[name].to_numpy()) for name in ("image_id", "id")):
        only = set(one["id"]) ^ set(other["id"])
        raise UnpairedError(metric.name, f"{len(only)} samples are in one of the two only")
    return one, other
