"""Comparisons as Markdown and CSV."""

from __future__ import annotations

import csv
import io

from cocabench.core.formatting import Footnotes, escape, points, table
from cocabench.results.compare import Cell, Comparison, Row
from cocabench.results.difference import Difference


def header(comparison: Comparison) -> list[str]:
    """Return the columns, unescaped: task, metric, the models; for two models their difference and the finding."""
    two = ["difference (first − second)", "finding"] if len(comparison.models) == 2 else []
    return ["task", "metric", *comparison.models, *two]


def to_markdown(comparison: Comparison) -> str:
    """Return the table with its notes: best in bold, fractions and scores times 100."""
    footnotes = Footnotes()
    text = body(comparison, footnotes)
    after = footnotes.markdown() + left_out(comparison)
    return f"{text}\n{after}" if after else text


def left_out(comparison: Comparison) -> str:
    """Return a Markdown line per Record that was left out for another of the same model and task."""
    return "".join(f"Left out: {escape(phrase)}  \n" for phrase in comparison.left_out)


def body(comparison: Comparison, footnotes: Footnotes) -> str:
    """Return the table without notes, which are added to footnotes."""
    two = len(comparison.models) == 2
    lines = [
        [escape(row.task), escape(row.metric)]
        + [markdown_cell(cell, footnotes, apart=not two) for cell in row.cells]
        + ([escape(row.difference_text), row.verdict] if two else [])
        for row in comparison.rows
    ]
    return table([escape(column) for column in header(comparison)], lines, left=2)


def markdown_cell(cell: Cell, footnotes: Footnotes, *, apart: bool = True) -> str:
    """Return a cell with its note marks. apart: its notes say why it cannot be compared with the first model's."""
    text = f"**{escape(cell.text)}**" if cell.best else escape(cell.text)
    return text + footnotes.mark(cell.all_notes if apart else cell.notes)


DIFFERENCE = ("low", "high", "p_value", "adjusted", "detectable", "finding", "unpaired")
COLUMNS = (
    *("task", "metric", "model", "value", "low", "high", "n", "best", "notes"),
    *("incomparable_with_first", "first_minus_this", *(f"difference_{name}" for name in DIFFERENCE)),
)


def to_csv(comparison: Comparison) -> str:
    """Return the table as CSV: a row per task, metric and model; value, low, high and difference in points."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(line.values() for line in lines(comparison))
    return stream.getvalue()


def lines(comparison: Comparison) -> list[dict[str, object]]:
    """Return the rows of the CSV as {column: value}."""
    return [
        dict(zip(COLUMNS, [row.task, row.metric, model, *_csv_cell(row, cell), *_csv_difference(gap)], strict=True))
        for row in comparison.rows
        for model, cell, gap in zip(comparison.models, row.cells, row.differences, strict=True)
    ]


def _csv_cell(row: Row, cell: Cell) -> list[object]:
    e = cell.estimate
    numbers = (
        [None if v is None else round(points(v, row.info), 4) for v in (e.value, e.low, e.high)] if e else [None] * 3
    )
    said = [*cell.notes, *([] if e else [cell.text])]
    return [*numbers, e.n if e else None, int(cell.best), "; ".join(said), "; ".join(cell.incomparable)]


def _csv_difference(gap: Difference | None) -> list[object]:
    if gap is None:
        return [None] * (1 + len(DIFFERENCE))
    fields = [getattr(gap, name) for name in ("value", *DIFFERENCE)]
    return [float(f"{field:.6g}") if isinstance(field, float) else field for field in fields]
