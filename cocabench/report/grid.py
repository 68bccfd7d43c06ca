"""A table of a report before it is HTML, Markdown or LaTeX: columns, lines, and entries that know their Record."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from cocabench.core.formatting import decimals, points, spread
from cocabench.core.types import Estimate, MetricInfo
from cocabench.results.compare import Cell, remarks


@dataclass(frozen=True, slots=True)
class Entry:
    """One field: a number with the half width of its interval, or words.

    value: what it sorts by, as printed. notes: what stands beside the number. record and metric: how it was made
    (a key of ``Report.keys``), '' for words and derived numbers. model: whose colour goes with it.
    """

    text: str
    spread: str = ""
    value: float | None = None
    best: bool = False
    notes: tuple[str, ...] = ()
    record: str = ""
    metric: str = ""
    model: str = ""

    @property
    def full(self) -> str:
        return f"{self.text} {self.spread}".rstrip()


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a table. part: a heading that it stands below. tags: what the page filters by."""

    entries: tuple[Entry, ...]
    part: str = ""
    tags: tuple[str, ...] = ()

    @property
    def model(self) -> str:
        """The model that the line is about, '' where it is about several or none."""
        return next((entry.model for entry in self.entries if entry.model), "")


@dataclass(frozen=True, slots=True)
class Table:
    """name: the stem of its files. heads: leading columns that name the line. about: what must be said below it.

    bars: the page draws the models' shares (0-100) as bars behind their numbers. section: the kind of task whose own
    section of the page it stands in.
    """

    name: str
    caption: str
    columns: tuple[str, ...]
    lines: tuple[Line, ...]
    heads: int = 1
    about: str = ""
    bars: bool = False
    section: str = ""

    def entries(self) -> Iterator[Entry]:
        return (entry for line in self.lines for entry in line.entries)

    def numeric(self) -> list[bool]:
        """Return for each column whether it holds numbers, to be aligned right."""
        return [any(line.entries[i].value is not None for line in self.lines) for i in range(len(self.columns))]

    def parts(self) -> list[tuple[str, list[Line]]]:
        """Return the lines by part, in order."""
        found: dict[str, list[Line]] = {}
        for line in self.lines:
            found.setdefault(line.part, []).append(line)
        return list(found.items())


def by_task(table: Table) -> Table:
    """Return a table of task, model and numbers with the tasks as its parts, for many models."""
    lines = (replace(line, entries=line.entries[1:], part=_under(line)) for line in table.lines)
    return replace(table, columns=table.columns[1:], lines=tuple(lines), heads=table.heads - 1)


def _under(line: Line) -> str:
    return ", ".join(part for part in (line.entries[0].text, line.part) if part)


def of_estimate(estimate: Estimate, info: MetricInfo) -> Entry:
    """Return ``58.4`` and ``± 1.3``; fractions and scores times 100."""
    if estimate.value is None:
        return Entry("undefined")
    value = points(estimate.value, info)
    width = spread(estimate, info)
    return Entry(f"{value:.{decimals(value, info)}f}", f"± {width}" if width else "", value)


def of_cell(cell: Cell, info: MetricInfo, *, record: str, metric: str, apart: bool = True) -> Entry:
    """Return a cell of a Comparison; apart as in ``remarks``."""
    notes = tuple(remarks(cell, apart=apart))
    if cell.estimate is None:
        return Entry("–" if cell.text == "no result" else cell.text, notes=notes)
    return replace(of_estimate(cell.estimate, info), best=cell.best, notes=notes, record=record, metric=metric)


def words(*texts: str) -> tuple[Entry, ...]:
    return tuple(Entry(text) for text in texts)


def quantity(value: float | None, digits: int = 2) -> Entry:
    """Return a measured quantity, or an empty entry."""
    if value is None:
        return Entry("")
    return Entry(f"{value:,.{digits}f}" if value >= 1 else f"{value:.3g}", value=value)


def notes_of(tables: Sequence[Table]) -> list[str]:
    """Return every note of the tables once, in order: note i is marked i + 1."""
    return list(dict.fromkeys(note for table in tables for entry in table.entries() for note in entry.notes))
