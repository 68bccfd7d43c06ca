"""Two consoles: results go to stdout, everything else to stderr. Strings are printed without markup."""

from __future__ import annotations

import codecs
import errno
import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from cocabench.core.text import printable

WIDTH_OF_A_FILE = 160


class _Printable(Console):
    """A console on which names and captions print as they are: none commands the terminal, none is too much for it."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            text, style, control = segment
            if text.isascii() and (control or text.isprintable()):
                yield segment
                continue
            plain = text if control else printable(text)
            yield Segment(plain.encode(self.encoding, "replace").decode(self.encoding), style, control)

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


def _console(stream: Any, **options: Any) -> Console:
    at_terminal = stream is not None and stream.isatty()
    return _Printable(highlight=False, width=None if at_terminal else WIDTH_OF_A_FILE, **options)


out = _console(sys.stdout)
err = _console(sys.stderr, stderr=True)


def say(text: str | Text, *, style: str = "") -> None:
    """Print a line of results on stdout, without wrapping."""
    out.print(Text(text, style) if isinstance(text, str) else text, soft_wrap=True)


def sentence(text: str, *, style: str = "") -> None:
    """Print a sentence of results; a terminal breaks no word of it."""
    out.print(Text(text, style), soft_wrap=not out.is_terminal)


def dim(text: str) -> None:
    """Print a sentence below a table."""
    sentence(text, style="dim")


def labelled(label: str, text: str, *, colour: str = "yellow", console: Console = err) -> None:
    """Print a line that starts with a coloured label: ``note …``, ``skipped …``, ``error …``."""
    console.print(Text.assemble((label, colour), f" {text}"), soft_wrap=True)


def print_json(value: Any) -> None:
    """Print a value as one line of JSON, without NaN."""
    print(json.dumps(value, ensure_ascii=False, allow_nan=False))


def _as_json(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError), "it is registered for writing"
    return json.dumps(error.object[error.start : error.end])[1:-1], error.end


def escape_what_streams_cannot_hold() -> None:
    """Let what is printed without a console (JSON, CSV) write \\u00e9 for é where a stream's encoding has none."""
    codecs.register_error("cocabench.json", _as_json)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="cocabench.json")


def by_reason(missing: Mapping[str, str]) -> list[str]:
    """Return ``names: reason`` for {name: reason}, each reason once."""
    reasons: dict[str, list[str]] = {}
    for name, why in missing.items():
        reasons.setdefault(why, []).append(name)
    return [f"{', '.join(names)}: {why}" for why, names in reasons.items()]


def print_table(
    header: Sequence[str], rows: Sequence[Sequence[str | Text]], *, numbers_from: int | None = None
) -> None:
    """Print a table on stdout; columns from numbers_from on are right-aligned. No word is broken.

    If the terminal is too narrow, each row is printed as lines of whole cells.
    """
    heads = [Text(name, "bold") for name in header]
    cells = [[Text(cell) if isinstance(cell, str) else cell for cell in row] for row in rows]
    columns = [[cell.plain for cell in column] for column in zip(heads, *cells, strict=True)]
    for gap in (2, 1):
        if widths := _widths(columns, out.width - gap * (len(header) - 1)):
            break
    else:
        for row in (heads, *cells):
            _print_flowing(row)
        return
    found, between = Text(), Text(" " * gap)
    for row in (heads, *cells):
        for line in _lines(row, widths, numbers_from, heading=row is heads):
            found.append_text(between.join(line)).append("\n")
    out.print(found, soft_wrap=True, end="")


def _lines(
    row: Sequence[Text], widths: Sequence[int], numbers_from: int | None, *, heading: bool
) -> Iterable[Sequence[Text]]:
    """Return the lines of a row, in parts of their columns' widths; headings end on one line, cells begin on one."""
    folded = [
        _in_column(cell, width, right=numbers_from is not None and i >= numbers_from)
        for i, (cell, width) in enumerate(zip(row, widths, strict=True))
    ]
    height = max(map(len, folded))
    blank = [[Text(" " * width)] * (height - len(lines)) for lines, width in zip(folded, widths, strict=True)]
    pairs = zip(folded, blank, strict=True)
    return zip(*(spare + lines if heading else lines + spare for lines, spare in pairs), strict=True)


def _in_column(cell: Text, width: int, *, right: bool) -> list[Text]:
    """Return a cell's lines, filled up to the width of its column."""
    if "\n" in cell.plain or "\t" in cell.plain or cell.cell_len > width:
        return list(cell.wrap(out, width, justify="right" if right else "left", overflow="ellipsis"))
    filled = cell.copy()
    if right:
        filled.rstrip()
        filled.pad_left(width - filled.cell_len)
    else:
        filled.pad_right(width - filled.cell_len)
    return [filled]


def _widths(columns: Sequence[Sequence[str]], room: int) -> list[int]:
    """Return a width per column, no less than its longest word; empty if there is no room for that.

    columns: each its heading and its cells. Headings wrap first, then the widest columns.
    """
    words = [max(cell_len(word) for text in column for word in (text.split() or [""])) for column in columns]
    if sum(words) > room:
        return []
    widths = [max(map(cell_len, column)) for column in columns]
    cells = [max(map(cell_len, column[1:]), default=0) for column in columns]
    while sum(widths) > room:
        narrow = max(range(len(widths)), key=lambda i: (widths[i] > words[i], widths[i] > cells[i], widths[i]))
        widths[narrow] -= 1
    return widths


def _print_flowing(row: Sequence[Text]) -> None:
    """Print a row's cells one after another, on as many lines as they need; the later lines are indented."""
    indent = "    "
    lines, room = [[row[0]]], out.width - row[0].cell_len
    pieces = [piece for cell in row[1:] if cell for piece in cell.wrap(out, out.width - len(indent))]
    for piece in pieces:
        if piece.cell_len + 2 > room:
            lines.append([])
            room = out.width - len(indent) + 2
        lines[-1].append(piece)
        room -= piece.cell_len + 2
    for i, cells in enumerate(lines):
        out.print(Text(indent if i else "") + Text("  ").join(cells), soft_wrap=True)
