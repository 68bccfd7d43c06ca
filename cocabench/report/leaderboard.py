"""The tables over all tasks: the leaderboard, every task, means, best checkpoints, and many models at a glance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from cocabench.core.formatting import decimals, plural, points, rounded_up
from cocabench.kinds import find, in_words
from cocabench.report.content import Report
from cocabench.report.grid import Entry, Line, Table, of_cell, of_estimate
from cocabench.report.series import Score
from cocabench.results.compare import Average, Row, averages, in_order, legend
from cocabench.results.epochs import Best, best_epochs

ALL = "all tasks"

MIN_HEAT_MODELS, MIN_HEAT_TASKS = 5, 4
"""With fewer, the table of every task shows the same at a glance."""


def groups(rows: Sequence[Row]) -> list[str]:
    """Return the groups to filter tasks by: all tasks, kinds of task, and groups of some but not all tasks."""
    kinds = list(dict.fromkeys(row.evaluator for row in rows))
    named = dict.fromkeys(group for row in rows for group in row.groups if group not in kinds)
    some = [group for group in named if 0 < sum(group in row.groups for row in rows) < len(rows)]
    return [ALL, *(map(in_words, kinds) if len(kinds) > 1 else []), *some]


def tags(row: Row) -> tuple[str, ...]:
    return (ALL, in_words(row.evaluator), *row.groups)


def standings(report: Report) -> Table:
    """Return a row per model, best first, for all tasks and for each group (the row's tag)."""
    rows = report.comparison.rows
    lines = [line for group in groups(rows) for line in _standing(report, group)]
    kinds = _kinds(rows)
    return Table(
        name="standings",
        caption="Leaderboard: mean primary metric per kind of task, and the number of tasks on which a model is best",
        columns=("model", *(f"{in_words(kind)}, mean" for kind in kinds), "best on", "tasks"),
        lines=tuple(lines),
        about="Means are over the tasks of a kind that every model has run under one protocol; their ± assumes "
        "independent tasks. Best on: models with equal printed numbers all count as best.",
    )


def ranking(standings: Table) -> list[str]:
    """Return the models in the order of the leaderboard of all tasks."""
    return [line.model for line in standings.lines if ALL in line.tags]


def _kinds(rows: Sequence[Row]) -> list[str]:
    """Return the kinds of task for which there is a mean, in page order."""
    found = {kind for kind in {row.evaluator for row in rows} if _shared([r for r in rows if r.evaluator == kind])}
    return in_order(sorted(found))


def _standing(report: Report, group: str) -> list[Line]:
    rows = [row for row in report.comparison.rows if group in tags(row)]
    shared = {kind: _shared([row for row in rows if row.evaluator == kind]) for kind in _kinds(report.comparison.rows)}
    means = [[_mean(found, side) for found in shared.values()] for side in range(len(report.models))]
    tops = [max((m.value for row in means if (m := row[k])), default=None) for k in range(len(shared))]
    lines = []
    for side, model in enumerate(report.models):
        mine = [row.cells[side] for row in rows]
        wins, ran = sum(cell.best for cell in mine), sum(cell.estimate is not None for cell in mine)
        cells = [_entry(mean, top, len(report.models)) for mean, top in zip(means[side], tops, strict=True)]
        counts = (Entry(str(wins), value=wins), Entry(str(ran), value=ran))
        lines.append(Line((Entry(model, model=model), *cells, *counts), tags=(group,)))
    return sorted(lines, key=_order, reverse=True)


def _order(line: Line) -> tuple[float, ...]:
    """Return the sort key: number of tasks on which the model is best, then its means."""
    _, *means, wins, _ran = (entry.value if entry.value is not None else -math.inf for entry in line.entries)
    return (wins, *means)


def _shared(rows: Sequence[Row]) -> list[Row]:
    """Return the rows that can be averaged: comparable fractions and scores that all models of this kind have."""
    sides = {i for row in rows for i, cell in enumerate(row.cells) if cell.estimate}
    return [
        row
        for row in rows
        if row.info.unit != "rank"
        and not any(cell.incomparable for cell in row.cells)
        and all((e := row.cells[i].estimate) and e.value is not None for i in sides)
    ]


def standing_means(report: Report) -> dict[str, dict[str, Score]]:
    """Return {kind of task: {model: mean over the shared tasks}}, where defined."""
    found: dict[str, dict[str, Score]] = {}
    for kind in _kinds(report.comparison.rows):
        rows = _shared([row for row in report.comparison.rows if row.evaluator == kind])
        means = {model: _mean(rows, side) for side, model in enumerate(report.models)}
        found[kind] = {model: mean for model, mean in means.items() if mean}
    return found


def _mean(rows: Sequence[Row], side: int) -> Score | None:
    found = [(e, row.info) for row in rows if (e := row.cells[side].estimate) and e.value is not None]
    if not found:
        return None
    values = [points(e.value, info) for e, info in found if e.value is not None]
    halves = [
        max(points(e.high, info) - points(e.value, info), points(e.value, info) - points(e.low, info))
        for e, info in found
        if e.value is not None and e.low is not None and e.high is not None
    ]
    value = sum(values) / len(values)
    if len(halves) < len(found):
        return Score(value, None, None)
    half = math.hypot(*halves) / len(found)
    return Score(value, value - half, value + half)


def _entry(mean: Score | None, top: float | None, n_models: int) -> Entry:
    if mean is None:
        return Entry("–")
    spread = "" if mean.high is None else f"± {rounded_up(mean.high - mean.value):.1f}"
    best = n_models > 1 and top is not None and round(mean.value, 1) == round(top, 1)
    return Entry(f"{mean.value:.1f}", spread, mean.value, best=best)


def tasks(report: Report) -> Table:
    """Return a row per task: every model's primary metric, and for two models the difference."""
    two = len(report.models) == 2
    return Table(
        name="results",
        caption="All tasks: primary metric with 95 % intervals over images",
        columns=("task", "metric", *report.models, *(("difference", "finding") if two else ())),
        lines=tuple(_task(report, row, two=two) for row in report.comparison.rows),
        heads=2,
        about=" ".join(legend(report.comparison)),
    )


def _task(report: Report, row: Row, *, two: bool) -> Line:
    cells = cells_of(report, row, apart=not two)
    gap = (_difference(row), Entry(row.verdict)) if two else ()
    return Line((Entry(row.task), Entry(row.metric), *cells, *gap), part=find(row.evaluator).title(), tags=tags(row))


def cells_of(report: Report, row: Row, *, apart: bool = True) -> list[Entry]:
    """Return a row's entries, one per model."""
    return [
        of_cell(cell, row.info, record=report.keys.get((model, row.task), ""), metric=row.metric, apart=apart)
        for model, cell in zip(report.models, row.cells, strict=True)
    ]


def _difference(row: Row) -> Entry:
    text, _, spread = row.difference_text.partition(" ± ")
    return Entry(text, f"± {spread}" if spread else "", row.difference.value if row.difference else None)


def means(report: Report) -> Table | None:
    """Return means over kinds of task and over groups, with the tested difference for two models."""
    found, two = averages(report.comparison), len(report.models) == 2
    if not found:
        return None
    return Table(
        name="means",
        caption="Means over groups of tasks",
        columns=("group", "tasks", *report.models, *(("difference", "finding") if two else ())),
        lines=tuple(_average(average, two=two) for average in found),
        about="Means are over the tasks that all models have run under one protocol. An image that several tasks share "
        "counts once; findings are not corrected for testing several groups.",
    )


def _average(average: Average, *, two: bool) -> Line:
    top = max(round(value, 1) for value in average.values)
    values = [Entry(f"{v:.1f}", value=v, best=round(v, 1) == top) for v in average.values]
    gap = average.differences[1] if two else None
    text, _, spread = str(gap or "").partition(" ± ")
    tail = (Entry(text, f"± {spread}" if spread else "", gap.value), Entry(f"{gap.mark} {gap.verdict}")) if gap else ()
    count = Entry(str(len(average.tasks)), value=len(average.tasks))
    return Line((Entry(in_words(average.group)), count, *values, *tail))


def best_checkpoints(report: Report) -> Table | None:
    """Return the best epoch of each run and task by the primary metric, with its own interval."""
    primary = {(row.task, row.metric) for row in report.comparison.rows}
    found = [best for best in best_epochs(report.records) if (best.task, best.metric) in primary]
    if not found:
        return None
    return Table(
        name="epochs",
        caption="Best checkpoint of each run",
        columns=("run", "task", "metric", "best", "value", "of"),
        lines=tuple(_checkpoint(report, item) for item in found),
        heads=3,
        about="The interval does not account for the choice: the best of several checkpoints looks better than it is. "
        "Measure a number for publication on other data.",
    )


def _checkpoint(report: Report, item: Best) -> Line:
    number = of_estimate(item.estimate, item.info)
    number = replace(number, record=report.keys.get((item.model, item.task), ""), metric=item.metric)
    unit = item.epoch.unit
    return Line(
        (
            Entry(item.epoch.run),
            Entry(item.task),
            Entry(item.metric),
            Entry(f"{unit} {item.epoch.number}", value=item.epoch.number),
            number,
            Entry(plural(item.n_epochs, unit), value=item.n_epochs),
        )
    )


class Column(NamedTuple):
    """A task. tags: groups that the page filters by."""

    task: str
    metric: str
    tags: tuple[str, ...]


class Field(NamedTuple):
    """A rounded number. share: 0 for the worst of its task, 1 for the best, None for no colour.

    value: the number to sort by. record: the id of its Record.
    """

    text: str
    share: float | None = None
    value: float | None = None
    record: str = ""


class Heat(NamedTuple):
    """A heat map of all models on all tasks. lines: each model with a Field per column."""

    columns: tuple[Column, ...]
    lines: tuple[tuple[str, tuple[Field, ...]], ...]


def heat(report: Report, order: Sequence[str]) -> Heat | None:
    """Return the heat map with the models in this order; None if there are few models or tasks."""
    rows = report.comparison.rows
    if len(order) < MIN_HEAT_MODELS or len(rows) < MIN_HEAT_TASKS:
        return None
    columns = tuple(Column(row.task, row.metric, tags(row)) for row in rows)
    fields = [dict(zip(report.models, _fields(report, row), strict=True)) for row in rows]
    return Heat(columns, tuple((model, tuple(column[model] for column in fields)) for model in order))


def _fields(report: Report, row: Row) -> list[Field]:
    """Return a row's numbers; those not comparable with the first model's have no colour."""
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
