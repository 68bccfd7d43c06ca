"""What every kind of task promises, as a test: ``check_kind(PairChoice(), samples)``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from cocabench.kinds.base import LISTS, Kind
from cocabench.kinds.shown import ColumnType, Confusions, View
from cocabench.metrics.base import Metric, Samples, estimate

ALWAYS = ("id", "image_id", "domain")
"""Columns of any samples; the first two are never absent."""

SCALARS: dict[ColumnType, type | tuple[type, ...]] = {
    "int": (int, np.integer),
    "float": (int, float, np.number),
    "bool": (bool, np.bool_),
    "text": str,
    "caption": str,
}


def check_kind(kind: Kind, samples: Samples) -> None:
    """Raise AssertionError with everything that is wrong with a kind, a line each.

    samples: those of a small scoring, as ``metrics.base.stack(kind.score(…))`` makes them or as they were stored.
    Checked: columns and their types are as declared; metrics are found again by their names, read declared columns
    alone, and the samples hold them; every column and metric that is named for showing is declared.
    """
    wrong = [*_columns(kind, samples), *_metrics(kind, samples), *_shown(type(kind))]
    if wrong:
        raise AssertionError(f"{type(kind).__name__}:\n  " + "\n  ".join(wrong))


def _columns(kind: Kind, samples: Samples) -> Iterator[str]:
    types = {column.name: column.type for column in kind.samples}
    if kind.name == "":
        yield "name: missing"
    for name in ALWAYS[:2]:
        if name not in samples:
            yield f"samples: no column {name!r}"
    for name in samples.columns:
        if name not in types and name not in ALWAYS:
            yield f"samples: the column {name!r} is not declared"
    for name, declared in types.items():
        odd = next((v for v in samples.get(name, ()) if not _absent(v) and not _fits(v, declared)), None)
        if odd is not None:
            yield f"samples: {name!r} is declared as {declared}, got {odd!r}"


def _absent(value: Any) -> bool:
    return value is None or (isinstance(value, float | np.floating) and bool(np.isnan(value)))


def _fits(value: Any, declared: ColumnType) -> bool:
    """A column of whole numbers that some rows lack is one of floats in every frame; that is no mistake."""
    if declared in LISTS:
        return isinstance(value, list | tuple | np.ndarray)
    if declared == "int" and isinstance(value, float | np.floating):
        return float(value).is_integer()
    return isinstance(value, SCALARS[declared])


def _metrics(kind: Kind, samples: Samples) -> Iterator[str]:
    known = {column.name for column in kind.samples} | set(ALWAYS)
    measured = list(kind.metrics())
    if not measured:
        yield "metrics: none"
    for metric in [*kind.listed(), *measured]:
        found = kind.metric(metric.name)
        if found is None or found.name != metric.name:
            yield f"metrics: {metric.name!r} is not found by its name among the declared ones"
        for name in (*metric.columns, *metric.also):
            if name not in known:
                yield f"metrics: {metric.name!r} reads {name!r}, which is not declared in samples"
    if not any(metric.readable(samples.columns) for metric in measured):
        yield "samples: no metric can be computed from their columns"
    for metric in measured:
        if metric.readable(samples.columns):
            yield from _honest(metric, samples)


def _honest(metric: Metric, samples: Samples) -> Iterator[str]:
    """Estimate a metric from its declared columns alone: a forgotten one works in memory and fails in compare."""
    wanted = ("id", "image_id", *metric.columns, *metric.also, *(("domain",) if metric.domain else ()))
    lean = samples[[name for name in dict.fromkeys(wanted) if name in samples]]
    try:
        same = estimate(metric, lean) == estimate(metric, samples)
    except KeyError as error:
        yield f"metrics: {metric.name!r} reads {error.args[0]!r}, which its columns do not name"
    else:
        if not same:
            yield f"metrics: {metric.name!r} reads more than its columns name"


def _shown(kind: type[Kind]) -> Iterator[str]:
    for view in kind.shown.views:
        yield from _view(kind, view)
    for breakdown in kind.shown.breakdowns:
        if not isinstance(breakdown, Confusions) and kind.metric(breakdown.metric) is None:
            yield f"shown.breakdowns {breakdown.name!r}: {breakdown.metric!r} is no metric"
    for name in kind.primaries:
        if kind.metric(name) is None:
            yield f"primaries: {name!r} is no metric"


def _view(kind: type[Kind], view: View) -> Iterator[str]:
    known = {column.name for column in kind.samples}
    for name in sorted({*view.columns, view.answer} - {""} - known):
        yield f"shown.views {view.name!r}: {name!r} is no column"
    for name in (*view.outcome, *view.says):
        if kind.metric(name) is None:
            yield f"shown.views {view.name!r}: {name!r} is no metric"
