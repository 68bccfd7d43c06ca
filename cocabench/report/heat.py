"""Many models on many tasks at a glance: a model a line, best first, a task a column, coloured from worst to best."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from cocabench.core.formatting import decimals, points
from cocabench.report.content import Report
from cocabench.report.leaderboard import tags
from cocabench.results.compare import Row

FEWEST_MODELS, FEWEST_TASKS = 5, 4
"""Of fewer, the table of every task shows as much."""


class Column(NamedTuple):
    """A task; tags: what the page filters by."""

    task: str
    metric: str
    tags: tuple[str, ...]


class Field(NamedTuple):
    """A number in whole points; share: 0 for the worst of its task, 1 for the best, None without colour.

    value: what it sorts by. record: the key of its Record.
    """

    text: str
    share: float | None = None
    value: float | None = None
    record: str = ""


class Heat(NamedTuple):
    """lines: each model with a Field per column."""

    columns: tuple[Column, ...]
    lines: tuple[tuple[str, tuple[Field, ...]], ...]


def heat(report: Report, order: Sequence[str]) -> Heat | None:
    """Return the overview with the models in this order; None where there are few models or tasks."""
    rows = report.comparison.rows
    if len(order) < FEWEST_MODELS or len(rows) < FEWEST_TASKS:
        return None
    columns = tuple(Column(row.task, row.metric, tags(row)) for row in rows)
    fields = [dict(zip(report.models, _fields(report, row), strict=True)) for row in rows]
    return Heat(columns, tuple((model, tuple(column[model] for column in fields)) for model in order))


def _fields(report: Report, row: Row) -> list[Field]:
    """Return a row's numbers; those that cannot be held against the first model's have no colour."""
    values = [cell.estimate.value if cell.estimate else None for cell in row.cells]
    known = [v for v, cell in zip(values, row.cells, strict=True) if v is not None and not cell.incomparable]
    low, high = min(known, default=0.0), max(known, default=0.0)
    fields = []
    for model, value, cell in zip(report.models, values, row.cells, strict=True):
        if value is None:
            fields.append(Field("–"))
            continue
        share = (value - low) / (high - low) if high > low else 0.5
        share = share if row.info.higher_is_better else 1 - share
        shown = points(value, row.info)
        text = f"{shown:.{max(0, decimals(shown, row.info) - 1)}f}"
        fields.append(Field(text, None if cell.incomparable else share, shown, report.keys[model, row.task]))
    return fields
