"""Every task with its numbers, and their means over groups of tasks."""

from __future__ import annotations

from cocabench.report.content import Report
from cocabench.report.grid import Entry, Line, Table, of_cell
from cocabench.report.leaderboard import tags
from cocabench.results.compare import Average, Row, averages, legend


def tasks(report: Report) -> Table:
    """Return a line per task: the primary metric of every model, and for two models their difference."""
    two = len(report.models) == 2
    return Table(
        name="results",
        caption="Every task: its primary metric, with 95 % intervals over images",
        columns=("task", "metric", *report.models, *(("difference", "finding") if two else ())),
        lines=tuple(_task(report, row, two=two) for row in report.comparison.rows),
        heads=2,
        about=" ".join(legend(report.comparison)),
    )


def _task(report: Report, row: Row, *, two: bool) -> Line:
    cells = cells_of(report, row, apart=not two)
    gap = (_difference(row), Entry(row.verdict)) if two else ()
    return Line((Entry(row.task), Entry(row.metric), *cells, *gap), part=row.evaluator, tags=tags(row))


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
    """Return the means over kinds of task and over groups, with the tested difference of two models."""
    found, two = averages(report.comparison), len(report.models) == 2
    if not found:
        return None
    return Table(
        name="means",
        caption="Means over groups of tasks",
        columns=("group", "tasks", *report.models, *(("difference", "finding") if two else ())),
        lines=tuple(_average(average, two=two) for average in found),
        about="Over the tasks that all models have under one protocol. The intervals of differences take the tasks for "
        "independent, and their findings hold one by one.",
    )


def _average(average: Average, *, two: bool) -> Line:
    top = max(round(value, 1) for value in average.values)
    values = [Entry(f"{v:.1f}", value=v, best=round(v, 1) == top) for v in average.values]
    gap = average.differences[1] if two else None
    text, _, spread = str(gap or "").partition(" ± ")
    tail = (Entry(text, f"± {spread}" if spread else "", gap.value), Entry(f"{gap.mark} {gap.verdict}")) if gap else ()
    count = Entry(str(len(average.tasks)), value=len(average.tasks))
    return Line((Entry(average.group), count, *values, *tail))
