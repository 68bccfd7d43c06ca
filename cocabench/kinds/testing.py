"""A test for kinds of task: ``check_kind(PairChoice(), samples)``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from cocabench.kinds.base import LISTS, Kind
from cocabench.kinds.shown import ColumnType, Curve, Groups, Reliability, Trend, View
from cocabench.metrics.base import Metric, Samples, estimate

ALWAYS = ("id", "image_id", "domain")
"""Columns of all samples; the first two are required."""

SCALARS: dict[ColumnType, type | tuple[type, ...]] = {
    "int": (int, np.integer),
    "float": (int, float, np.number),
    "bool": (bool, np.bool_),
    "text": str,
    "caption": str,
}


def check_kind(kind: Kind, samples: Samples) -> None:
    """Raise AssertionError with all problems of a kind, one per line.

    samples: of a small run, from ``metrics.base.stack(kind.score(…))`` or a results folder. The checks: columns have
    their declared types; metrics are found by name and read declared columns only, which the samples hold; all columns
    and metrics named in ``shown`` are declared.
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
    """Return whether a value has the declared type; integers may be floats, since pandas stores gaps in them as NaN."""
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
            yield f"metrics: {metric.name!r} is not among the declared metrics"
        for name in (*metric.columns, *metric.also):
            if name not in known:
                yield f"metrics: {metric.name!r} reads {name!r}, which is not declared in samples"
    if not any(metric.readable(samples.columns) for metric in measured):
        yield "samples: no metric can be computed from their columns"
    for metric in measured:
        if metric.readable(samples.columns):
            yield from _declared_columns_suffice(metric, samples)


def _declared_columns_suffice(metric: Metric, samples: Samples) -> Iterator[str]:
    """Estimate a metric from its declared columns only; a forgotten column would work in memory and fail in compare."""
    wanted = ("id", "image_id", *metric.columns, *metric.also, *(("domain",) if metric.domain else ()))
    lean = samples[[name for name in dict.fromkeys(wanted) if name in samples]]
    try:
        same = estimate(metric, lean) == estimate(metric, samples)
    except KeyError as error:
        yield f"metrics: {metric.name!r} reads {error.args[0]!r}, which is not in its columns"
    else:
        if not same:
            yield f"metrics: {metric.name!r} reads columns that it does not declare"


def _shown(kind: type[Kind]) -> Iterator[str]:
    for view in kind.shown.views:
        yield from _view(kind, view)
    for breakdown in kind.shown.breakdowns:
        if not isinstance(breakdown, Curve | Trend | Reliability | Groups):
            continue
        if kind.metric(breakdown.metric.format(1)) is None:
            yield f"shown.breakdowns {breakdown.name!r}: {breakdown.metric!r} is not a metric"
    for name in kind.primaries:
        if kind.metric(name) is None:
            yield f"primaries: {name!r} is not a metric"


def _view(kind: type[Kind], view: View) -> Iterator[str]:
    known = {column.name for column in kind.samples}
    for name in sorted({*view.columns, view.answer} - {""} - known):
        yield f"shown.views {view.name!r}: {name!r} is not a column"
    for name in (*view.outcome, *view.says, *filter(None, [view.choices.rank])):
        if kind.metric(name) is None:
            yield f"shown.views {view.name!r}: {name!r} is not a metric"
