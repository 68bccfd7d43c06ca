"""Measured numbers held against published ones: inside the tolerance, or outside, and then why."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import pandas as pd

from cocabench.core.formatting import points
from cocabench.core.types import Estimate, MetricInfo, Record
from cocabench.results.published.causes import Cause, Expected, causes
from cocabench.results.published.tables import SOURCES, read

TOLERANCE = 0.2
"""Points: two published evaluations of the same weights differ by up to 0.12 on ImageNet and 0.18 on recall@5."""


@dataclass(frozen=True, slots=True)
class Match:
    """One measured metric beside one published value of it, in points.

    difference: measured minus published. low, high: what published values would be inside, the measured 95 % interval
    widened by TOLERANCE. causes: outside, each likely cause with its state; empty inside.
    """

    record: Record
    metric: str
    info: MetricInfo
    measured: Estimate
    published: float
    source: str
    note: str
    difference: float
    low: float
    high: float
    causes: tuple[Cause, ...]

    @property
    def inside(self) -> bool:
        return self.low <= self.published <= self.high


def _nothing(_: Record) -> Expected:
    return Expected()


def check(records: Iterable[Record], expected: Callable[[Record], Expected] = _nothing) -> list[Match]:
    """Return a Match per metric and source that published it; none for models that nobody published.

    expected: what a run of that model on that task should have in its signature, called where a number is outside.
    """
    table = read()
    return [match for record in records for match in _of(record, table, expected)]


def _of(record: Record, table: pd.DataFrame, expected: Callable[[Record], Expected]) -> Iterator[Match]:
    mine = table[(table["task"] == record.task) & table["spec"].isin(_specs(record))]
    for row in sorted(mine.to_dict("records"), key=lambda row: SOURCES.index(row["source"])):
        estimate = record.metrics.get(row["metric"])
        if estimate is not None and estimate.value is not None:
            yield _match(record, estimate, {str(key): value for key, value in row.items()}, expected)


def _specs(record: Record) -> list[str]:
    """Return the names that a Record's model is published under: open_clip's tables name quick-GELU in the model."""
    name, _, tag = record.model.partition(":")
    return [record.model, f"{name}-quickgelu:{tag}"] if record.signature.model.get("quick_gelu") else [record.model]


def _match(record: Record, estimate: Estimate, row: dict[str, object], expected: Callable[[Record], Expected]) -> Match:
    metric, info = str(row["metric"]), record.definitions[str(row["metric"])]
    value, published = points(estimate.value or 0.0, info), points(float(str(row["value"])), info)
    low, high = (value if side is None else points(side, info) for side in (estimate.low, estimate.high))
    found = Match(
        record,
        metric,
        info,
        estimate,
        published,
        source=str(row["source"]),
        note=str(row["note"]),
        difference=value - published,
        low=low - TOLERANCE - 1e-9,
        high=high + TOLERANCE + 1e-9,
        causes=(),
    )
    if found.inside:
        return found
    n = 0 if pd.isna(row["n"]) else int(str(row["n"]))  # type: ignore[call-overload]
    return replace(found, causes=causes(record, n, expected(record)))
