"""The tables of each kind of task, as the kind declares them: a row per task and model, a column per metric."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase

from cocabench.kinds import find
from cocabench.kinds.base import Kind
from cocabench.kinds.shown import Presentation, TableSpec
from cocabench.report.content import Report
from cocabench.report.grid import Entry, Line, Table, of_cell
from cocabench.results import published as publications
from cocabench.results.compare import Comparison, Row, compare_models, in_order
from cocabench.results.records import choose

PUBLISHED = "published elsewhere, not comparable: another protocol or other weights"


def pivots(report: Report) -> list[Table]:
    """Return the tables of every kind of task; kinds with tables of their own come first."""
    rows = report.everything.rows
    kinds = [find(name) for name in in_order(dict.fromkeys(row.evaluator for row in rows))]
    own = sorted(kinds, key=lambda kind: kind.shown.tables == Presentation().tables)
    return [table for kind in own for spec in kind.shown.tables for table in _tables(report, kind, spec)]


def _tables(report: Report, kind: type[Kind], spec: TableSpec) -> Iterator[Table]:
    """Yield the table of a spec; published numbers on the same tasks are a part of their own."""
    rows = _rows(report.everything, kind, spec)
    apart = _published(kind, report, {row.task for row in rows}) if spec.published and rows else None
    more = _rows(apart, kind, spec) if apart else []
    names = [name for name in columns(spec, (*rows, *more)) if _has_number(name, (*rows, *more))]
    if not rows or len(names) < spec.fewest:
        return
    everything = report.everything
    lines = (
        *_lines(everything, report.models, rows, names),
        *_lines(everything, report.apart, rows, names, part=PUBLISHED),
        *(_lines(apart, apart.models, more, names, part=PUBLISHED) if apart else ()),
    )
    about = "Scores are multiplied by 100, ranks are not. Intervals are over images"
    about += f", {spec.note}." if spec.note else "."
    name = spec.name.format(kind=kind.name)
    yield Table(name, spec.title, ("task", "model", *names), lines, heads=2, about=about, section=kind.name)


def _has_number(metric: str, rows: Iterable[Row]) -> bool:
    """Return whether a metric was measured anywhere; one that was skipped everywhere has no column."""
    return any(cell.estimate is not None for row in rows if row.metric == metric for cell in row.cells)


def _rows(comparison: Comparison, kind: type[Kind], spec: TableSpec) -> list[Row]:
    """Return the rows of a kind that a table shows."""
    role = "health" if spec.role == "health" else "quality"
    mine = (row for row in comparison.rows if row.evaluator == kind.name and row.info.kind == role)
    return [row for row in mine if not _matches(row.metric, spec.but) and _matches(row.metric, spec.metrics)]


def _matches(metric: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(metric.partition("[")[0], pattern) for pattern in patterns)


def columns(spec: TableSpec, rows: Sequence[Row]) -> list[str]:
    """Return the metrics of a table in order: by pattern, then by the number after @, primary ones first."""
    found = dict.fromkeys(row.metric for row in sorted(rows, key=lambda row: not row.primary))
    named = (sorted((m for m in found if _matches(m, [pattern])), key=_number) for pattern in spec.metrics)
    return list(dict.fromkeys(metric for metrics in named for metric in metrics))


def _number(metric: str) -> int:
    number = re.search(r"@(\d+)", metric)
    return int(number[1]) if number else 0


def _published(kind: type[Kind], report: Report, tasks: set[str]) -> Comparison | None:
    """Return the published rows on these tasks, without models that the report already includes as published."""
    table = publications.read()
    found = table[(table["evaluator"] == kind.name) & table["task"].isin(sorted(tasks))]
    specs = [
        spec for spec in dict.fromkeys(found["spec"]) if spec + publications.SUFFIX not in report.comparison.models
    ]
    records = [r for r in publications.as_records(specs) if r.task in tasks] if specs else []
    return compare_models(choose(records).records, all_metrics=True) if records else None


def _lines(
    comparison: Comparison, models: Sequence[str], rows: Sequence[Row], metrics: Sequence[str], part: str = ""
) -> Iterator[Line]:
    by_key = {(row.task, row.metric): row for row in rows}
    for task in dict.fromkeys(row.task for row in rows):
        for model in models:
            side = comparison.models.index(model)
            found = [by_key.get((task, metric)) for metric in metrics]
            entries = [of_cell(row.cells[side], row.info) if row else Entry("") for row in found]
            if any(entry.value is not None or entry.notes for entry in entries):
                yield Line((Entry(task), Entry(model, model=model), *entries), part=part)
