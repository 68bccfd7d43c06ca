"""The leaderboard: models by how often they are best, with their means over shared tasks."""

from __future__ import annotations

import math
from collections.abc import Sequence

from cocabench.core.formatting import points, rounded_up
from cocabench.report.content import Report
from cocabench.report.grid import Entry, Line, Table
from cocabench.report.pair import Score
from cocabench.results.compare import Row, in_order

ALL = "all tasks"


def groups(rows: Sequence[Row]) -> list[str]:
    """Return what tasks can be filtered by: all, kinds of task, and groups that hold some but not all tasks."""
    kinds = list(dict.fromkeys(row.evaluator for row in rows))
    named = dict.fromkeys(group for row in rows for group in row.groups if group not in kinds)
    some = [group for group in named if 0 < sum(group in row.groups for row in rows) < len(rows)]
    return [ALL, *(kinds if len(kinds) > 1 else []), *some]


def tags(row: Row) -> tuple[str, ...]:
    return (ALL, row.evaluator, *row.groups)


def standings(report: Report) -> Table:
    """Return a line per model, best first, for all tasks and for each group (a tag of the line)."""
    rows = report.comparison.rows
    lines = [line for group in groups(rows) for line in _standing(report, group)]
    kinds = _kinds(rows)
    return Table(
        name="standings",
        caption="Leaderboard: mean of the tasks' primary metrics, and how often a model is best",
        columns=("model", *(f"{kind}, mean" for kind in kinds), "best on", "tasks"),
        lines=tuple(lines),
        about="A mean is over the tasks that every model with that kind of task has run under one protocol; its ± "
        "takes the tasks for independent. Best on: equal printed numbers count for each model.",
    )


def ranking(standings: Table) -> list[str]:
    """Return the models in the order of the leaderboard of all tasks."""
    return [line.model for line in standings.lines if ALL in line.tags]


def _kinds(rows: Sequence[Row]) -> list[str]:
    """Return the kinds of task that have a mean, in the order of the page."""
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
    """Best first: by how often it is best, then by the means."""
    _, *means, wins, _ran = (entry.value if entry.value is not None else -math.inf for entry in line.entries)
    return (wins, *means)


def _shared(rows: Sequence[Row]) -> list[Row]:
    """Return the rows that can be averaged: fractions and scores that all models with this kind have, comparable."""
    sides = {i for row in rows for i, cell in enumerate(row.cells) if cell.estimate}
    return [
        row
        for row in rows
        if row.info.unit != "rank"
        and not any(cell.incomparable for cell in row.cells)
        and all((e := row.cells[i].estimate) and e.value is not None for i in sides)
    ]


def standing_means(report: Report) -> dict[str, dict[str, Score]]:
    """Return {kind of task: {model: its mean over the shared tasks}}, where there is one."""
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
