"""Two consoles: results go to stdout, everything else to stderr."""

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
from rich.markup import escape
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from cocabench.core.text import printable

_WIDTH_OF_A_FILE = 160


class _Printable(Console):
    """A console on which names and captions print as they are: none commands the terminal, none is too much for it."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for text, style, control in super().render(renderable, options):
            plain = text if control else printable(text)
            yield Segment(plain.encode(self.encoding, "replace").decode(self.encoding), style, control)

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


def _console(stream: Any, **options: Any) -> Console:
    at_terminal = stream is not None and stream.isatty()
    return _Printable(highlight=False, width=None if at_terminal else _WIDTH_OF_A_FILE, **options)


out = _console(sys.stdout)
err = _console(sys.stderr, stderr=True)


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


def dim(text: str) -> None:
    """Print a sentence that goes with a table."""
    out.print(f"[dim]{escape(text)}[/dim]", soft_wrap=True)


def print_table(header: list[str], rows: list[list[str]], *, numbers_from: int | None = None) -> None:
    """Print a table on stdout, columns from numbers_from on aligned right. No word is broken.

    Where the terminal is too narrow for that, each row becomes lines of whole cells.
    """
    columns = [[Text.from_markup(cell).plain for cell in column] for column in zip(header, *rows, strict=True)]
    for gap in (2, 1):
        if widths := _widths(columns, out.width - gap * (len(header) - 1)):
            break
    else:
        for row in ([f"[bold]{column}[/bold]" for column in header], *rows):
            _print_flowing(row)
        return
    table = Table(header_style="bold", box=None, pad_edge=False, collapse_padding=gap == 1)
    for i, (column, width) in enumerate(zip(header, widths, strict=True)):
        right = numbers_from is not None and i >= numbers_from
        table.add_column(column, width=width, justify="right" if right else "left")
    for row in rows:
        table.add_row(*row)
    out.print(table)


def _widths(columns: Sequence[Sequence[str]], room: int) -> list[int]:
    """Return a width per column, no less than its longest word; the widest give way first. Empty: there is no room."""
    widths = [max(map(cell_len, column)) for column in columns]
    least = [max(cell_len(word) for text in column for word in (text.split() or [""])) for column in columns]
    if sum(least) > room:
        return []
    while sum(widths) > room:
        widths[max(range(len(widths)), key=lambda i: widths[i] if widths[i] > least[i] else -1)] -= 1
    return widths


def _print_flowing(row: Sequence[str]) -> None:
    """Print a row's cells one after another, on as many lines as whole cells need; the later lines are indented."""
    lines, room = [[row[0]]], out.width - cell_len(Text.from_markup(row[0]).plain)
    for cell in filter(None, row[1:]):
        width = cell_len(Text.from_markup(cell).plain) + 2
        if width > room:
            lines.append([])
            room = out.width - 2
        lines[-1].append(cell)
        room -= width
    for i, cells in enumerate(lines):
        out.print(("    " if i else "") + "  ".join(cells), soft_wrap=True)
