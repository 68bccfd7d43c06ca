"""A report's tables as Markdown and CSV files."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

from cocabench.core.formatting import Footnotes, escape
from cocabench.core.formatting import table as markdown_table
from cocabench.report.grid import Entry, Table


def to_markdown(table: Table) -> str:
    """Return the table with its caption and its notes; best in bold."""
    footnotes = Footnotes()
    lines = list(_lines(table, footnotes))
    text = markdown_table([escape(column) for column in table.columns], lines, left=table.heads)
    below = [part for part in (escape(table.about), footnotes.markdown()) if part]
    return "\n".join([f"**{escape(table.caption)}**\n", text, *(f"{part}\n" for part in below)])


def _lines(table: Table, footnotes: Footnotes) -> Iterator[list[str]]:
    """Yield the lines; a part's name stands in a line of its own, where there are several."""
    for part, lines in table.parts():
        if part and len(table.parts()) > 1:
            yield [f"*{escape(part)}*", *[""] * (len(table.columns) - 1)]
        yield from ([_cell(entry, footnotes) for entry in line.entries] for line in lines)


def _cell(entry: Entry, footnotes: Footnotes) -> str:
    text = f"**{escape(entry.text)}**" if entry.best else escape(entry.text)
    return (f"{text} {entry.spread}" if entry.spread else text) + footnotes.mark(entry.notes)


def to_csv(table: Table) -> str:
    """Return the table with numbers unrounded; a column ``NAME ±`` beside NAME where intervals are known."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    spread = [any(line.entries[i].spread for line in table.lines) for i in range(len(table.columns))]
    writer.writerow(_columns(table, spread))
    for line in table.lines:
        fields: list[object] = [line.part] if _has_parts(table) else []
        for entry, wide in zip(line.entries, spread, strict=True):
            fields += [_field(entry), *([entry.spread.removeprefix("± ")] if wide else [])]
        writer.writerow([*fields, "; ".join(dict.fromkeys(note for entry in line.entries for note in entry.notes))])
    return stream.getvalue()


def _columns(table: Table, spread: list[bool]) -> list[str]:
    named = [[name, f"{name} ±"] if wide else [name] for name, wide in zip(table.columns, spread, strict=True)]
    return [*(["part"] if _has_parts(table) else []), *(name for names in named for name in names), "notes"]


def _has_parts(table: Table) -> bool:
    return len(table.parts()) > 1


def _field(entry: Entry) -> object:
    return entry.text if entry.value is None else float(f"{entry.value:.6g}")
