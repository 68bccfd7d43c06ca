"""What models cost, as the terminal shows it: operations, speed and memory with their units, a column per model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from rich.markup import escape

from cocabench.cli.console import dim, print_table
from cocabench.core.types import Record

if TYPE_CHECKING:
    from cocabench.core.formatting import Footnotes
    from cocabench.results.compare import Cell, Comparison, Row


def without_costs(comparison: Comparison) -> Comparison:
    """Return a table without the rows of costs, which have one of their own."""
    from cocabench.kinds import find

    return replace(comparison, rows=tuple(row for row in comparison.rows if not find(row.evaluator).shown.costs))


def print_costs(comparison: Comparison, records: Sequence[Record]) -> None:
    """Print the rows of costs of a table of all metrics; a number's note stands below, as do machine and batches."""
    from cocabench.core.formatting import Footnotes
    from cocabench.kinds import every

    kinds = {kind.name: kind for kind in every() if kind.shown.costs}
    rows = {(row.evaluator, row.metric): row for row in comparison.rows if row.evaluator in kinds}
    if not rows:
        return
    footnotes = Footnotes()
    lines = [
        [escape(metric.label), *_line(rows[name, metric.name], footnotes)]
        for name, kind in kinds.items()
        for metric in kind.listed()
        if metric.label and (name, metric.name) in rows
    ]
    print_table(["cost", *map(escape, comparison.models)], lines, numbers_from=1)
    for i, note in enumerate(footnotes.notes, 1):
        dim(f"[{i}] {note}")
    told = dict.fromkeys(_machine(r) for r in records if r.evaluator in kinds and r.model in comparison.models)
    for where in told:
        dim(f"{where}; ± reaches the repeat that is furthest off.")


def _line(row: Row, footnotes: Footnotes) -> list[str]:
    from cocabench.results.compare import remarks

    marks = (footnotes.mark(remarks(cell, apart=True)).replace("\\", "") for cell in row.cells)
    return [escape(_value(cell, row) + mark) for cell, mark in zip(row.cells, marks, strict=True)]


def _value(cell: Cell, row: Row) -> str:
    from cocabench.core.formatting import number

    if cell.estimate is None or cell.estimate.value is None:
        return "–"
    return number(cell.estimate.model_copy(update={"n": 0}), row.info)


def _machine(record: Record) -> str:
    protocol = record.signature.protocol
    batches = f"batches of {protocol.get('batch_size')}, in training of {protocol.get('train_batch_size')}"
    return f"{protocol.get('machine')}, threads: {protocol.get('threads')}, {batches}"
