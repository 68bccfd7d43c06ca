"""Tables of a report, and their Markdown, CSV and LaTeX.

LaTeX uses booktabs with everything escaped; it needs ``\\usepackage{booktabs}`` only.
"""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from cocabench.core.formatting import Footnotes, escape, points, printed, spread
from cocabench.core.formatting import table as markdown_table
from cocabench.core.text import printable
from cocabench.core.types import Estimate, MetricInfo
from cocabench.results.compare import Cell

SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    **{letter: f"\\{letter}" for letter in "&%$#_{}"},
    "±": r"$\pm$",
    "−": "$-$",
    "–": "--",
    "—": "---",
    "…": r"\ldots{}",
    "▲": r"$\uparrow$",
    "▼": r"$\downarrow$",
    "≥": r"$\geq$",
    "“": "``",
    "”": "''",
    "’": "'",
    "·": r"$\cdot$",
}
PRINTABLE = {chr(code) for code in range(32, 127)} | set(SPECIAL)


@dataclass(frozen=True, slots=True)
class Entry:
    """One cell: a number with the half width of its interval, or text.

    value: the number to sort by, as printed. notes: footnotes. model: the model that the cell names.
    """

    text: str
    spread: str = ""
    value: float | None = None
    best: bool = False
    notes: tuple[str, ...] = ()
    model: str = ""

    @property
    def full(self) -> str:
        return f"{self.text} {self.spread}".rstrip()


@dataclass(frozen=True, slots=True)
class Line:
    """A row of a table. part: the subheading above it."""

    entries: tuple[Entry, ...]
    part: str = ""

    @property
    def model(self) -> str:
        """The row's model, '' if it has several or none."""
        return next((entry.model for entry in self.entries if entry.model), "")


@dataclass(frozen=True, slots=True)
class Table:
    """A table. name: the stem of its files. heads: number of leading columns that are row headers. about: text below.

    section: the kind of task whose section of the page shows it. shut: the page shows it on demand.
    """

    name: str
    caption: str
    columns: tuple[str, ...]
    lines: tuple[Line, ...]
    heads: int = 1
    about: str = ""
    section: str = ""
    shut: bool = True

    def entries(self) -> Iterator[Entry]:
        return (entry for line in self.lines for entry in line.entries)

    def numeric(self) -> list[bool]:
        """Return whether each column holds numbers, which are right-aligned."""
        return [any(line.entries[i].value is not None for line in self.lines) for i in range(len(self.columns))]

    def parts(self) -> list[tuple[str, list[Line]]]:
        """Return the rows by part, in order."""
        found: dict[str, list[Line]] = {}
        for line in self.lines:
            found.setdefault(line.part, []).append(line)
        return list(found.items())


def of_estimate(estimate: Estimate, info: MetricInfo) -> Entry:
    """Return ``58.4`` and ``± 1.3``; fractions and scores times 100."""
    if estimate.value is None:
        return Entry("undefined")
    value = points(estimate.value, info)
    width = spread(estimate, info)
    return Entry(printed(estimate.value, info), f"± {width}" if width else "", value)


def of_cell(cell: Cell, info: MetricInfo, *, apart: bool = True) -> Entry:
    """Return the entry of a Comparison's cell. apart: its notes say why it is not comparable with the first model's."""
    notes = cell.all_notes if apart else cell.notes
    if cell.estimate is None:
        return Entry("–" if cell.text == "no result" else cell.text, notes=notes)
    return replace(of_estimate(cell.estimate, info), best=cell.best, notes=notes)


def quantity(value: float | None, digits: int = 2) -> Entry:
    """Return a measured quantity, or an empty entry."""
    if value is None:
        return Entry("")
    return Entry(f"{value:,.{digits}f}" if value >= 1 else f"{value:.3g}", value=value)


def notes_of(tables: Sequence[Table]) -> list[str]:
    """Return the distinct notes of the tables in order; note i is marked i + 1."""
    return list(dict.fromkeys(note for table in tables for entry in table.entries() for note in entry.notes))


def to_markdown(table: Table) -> str:
    """Return the table with its caption and its notes; best in bold."""
    footnotes = Footnotes()
    lines = list(_lines(table, footnotes))
    text = markdown_table([escape(column) for column in table.columns], lines, left=table.heads)
    below = [part for part in (escape(table.about), footnotes.markdown()) if part]
    return "\n".join([f"**{escape(table.caption)}**\n", text, *(f"{part}\n" for part in below)])


def _lines(table: Table, footnotes: Footnotes) -> Iterator[list[str]]:
    """Yield the rows; if there are several parts, each part's name is a row of its own."""
    parts = table.parts()
    for part, lines in parts:
        if part and len(parts) > 1:
            yield [f"*{escape(part)}*", *[""] * (len(table.columns) - 1)]
        yield from ([_cell(entry, footnotes) for entry in line.entries] for line in lines)


def _cell(entry: Entry, footnotes: Footnotes) -> str:
    text = f"**{escape(entry.text)}**" if entry.best else escape(entry.text)
    return (f"{text} {entry.spread}" if entry.spread else text) + footnotes.mark(entry.notes)


def to_csv(table: Table) -> str:
    """Return the table with unrounded numbers; ``NAME ±`` columns hold the half widths of intervals."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    spread = [any(line.entries[i].spread for line in table.lines) for i in range(len(table.columns))]
    several = len(table.parts()) > 1
    writer.writerow(_columns(table, spread, several))
    for line in table.lines:
        fields: list[object] = [line.part] if several else []
        for entry, wide in zip(line.entries, spread, strict=True):
            fields += [_field(entry), *([entry.spread.removeprefix("± ")] if wide else [])]
        writer.writerow([*fields, "; ".join(dict.fromkeys(note for entry in line.entries for note in entry.notes))])
    return stream.getvalue()


def _columns(table: Table, spread: list[bool], several_parts: bool) -> list[str]:
    named = [[name, f"{name} ±"] if wide else [name] for name, wide in zip(table.columns, spread, strict=True)]
    return [*(["part"] if several_parts else []), *(name for names in named for name in names), "notes"]


def _field(entry: Entry) -> object:
    return printable(entry.text) if entry.value is None else float(f"{entry.value:.6g}")


def latex_escape(text: str) -> str:
    """Escape text for LaTeX. Letters outside ASCII lose their accents (é becomes e) or become ?."""
    plain = "".join(letter if letter in SPECIAL else _ascii(letter) for letter in " ".join(text.split()))
    return re.sub(
        r"[^A-Za-z0-9 ]", lambda found: SPECIAL.get(found[0], found[0] if found[0] in PRINTABLE else "?"), plain
    )


def _ascii(letter: str) -> str:
    if letter.isascii():
        return letter
    bare = unicodedata.normalize("NFKD", letter).encode("ascii", "ignore").decode()
    return bare or "?"


def to_latex(table: Table) -> str:
    """Return a table environment with numbered notes below it."""
    notes = notes_of([table])
    align = "".join("r" if numeric else "l" for numeric in table.numeric())
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{latex_escape(table.caption)}}}",
        rf"\label{{tab:{latex_label(table.name)}}}",
    ]
    lines += [
        rf"\begin{{tabular}}{{@{{}}{align}@{{}}}}",
        r"\toprule",
        _latex_line([latex_escape(c) for c in table.columns]),
        r"\midrule",
    ]
    parts = table.parts()
    for i, (part, found) in enumerate(parts):
        if i:
            lines.append(r"\midrule")
        if part and len(parts) > 1:
            lines.append(rf"\multicolumn{{{len(table.columns)}}}{{@{{}}l}}{{\emph{{{latex_escape(part)}}}}} \\")
        lines += [_latex_line([_latex_entry(entry, notes) for entry in line.entries]) for line in found]
    lines += [r"\bottomrule", r"\end{tabular}"]
    lines += [rf"\par\smallskip\footnotesize {latex_escape(table.about)}"] if table.about else []
    lines += [rf"\par\footnotesize $^{{{i}}}$ {latex_escape(note)}" for i, note in enumerate(notes, 1)]
    return "\n".join([*lines, r"\end{table}"]) + "\n"


def latex_label(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower())


def _latex_entry(entry: Entry, notes: list[str]) -> str:
    text = latex_escape(entry.text)
    text = rf"\textbf{{{text}}}" if entry.best else text
    marks = ",".join(str(notes.index(note) + 1) for note in dict.fromkeys(entry.notes))
    return text + (f" {latex_escape(entry.spread)}" if entry.spread else "") + (f"$^{{{marks}}}$" if marks else "")


def _latex_line(cells: list[str]) -> str:
    return " & ".join(cells) + r" \\"
