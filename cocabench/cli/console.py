"""Two consoles: results go to stdout, everything else to stderr."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from rich.console import Console
from rich.table import Table

_WIDTH_OF_A_FILE = 160

out = Console(highlight=False, width=None if sys.stdout.isatty() else _WIDTH_OF_A_FILE)
err = Console(stderr=True, highlight=False, width=None if sys.stderr.isatty() else _WIDTH_OF_A_FILE)


def by_reason(missing: Mapping[str, str]) -> list[str]:
    """Return ``names: reason`` for {name: reason}, each reason once."""
    reasons: dict[str, list[str]] = {}
    for name, why in missing.items():
        reasons.setdefault(why, []).append(name)
    return [f"{', '.join(names)}: {why}" for why, names in reasons.items()]


def print_table(header: list[str], rows: list[list[str]], *, numbers_from: int | None = None) -> None:
    """Print a table on stdout; long words fold, and columns from numbers_from on are aligned right."""
    table = Table(header_style="bold", box=None, pad_edge=False)
    for i, column in enumerate(header):
        right = numbers_from is not None and i >= numbers_from
        table.add_column(column, overflow="fold", justify="right" if right else "left")
    for row in rows:
        table.add_row(*row)
    out.print(table)
