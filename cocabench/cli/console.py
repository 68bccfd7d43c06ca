"""Two consoles: results go to stdout, everything else to stderr."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.table import Table

_WIDTH_OF_A_FILE = 160

out = Console(highlight=False, width=None if sys.stdout.isatty() else _WIDTH_OF_A_FILE)
err = Console(stderr=True, highlight=False, width=None if sys.stderr.isatty() else _WIDTH_OF_A_FILE)


def print_table(header: list[str], rows: list[list[str]], *, title: str | None = None) -> None:
    """Print a table on stdout; names are kept whole and long words fold."""
    table = Table(title=title, title_justify="left", header_style="bold", box=None, pad_edge=False)
    for i, column in enumerate(header):
        table.add_column(column, overflow="fold", justify="left" if i < 2 else "right")
    for row in rows:
        table.add_row(*row)
    out.print(table)
