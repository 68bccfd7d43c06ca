"""Measured numbers beside published ones, after a run and in ``cocabench show``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.markup import escape

from cocabench.cli.console import out, print_table
from cocabench.core.types import Record

if TYPE_CHECKING:
    from cocabench.results.published import Match

HEADER = ["task", "metric", "model", "measured", "published", "difference", "verdict", "source"]


def print_published(records: Sequence[Record]) -> None:
    """Print each metric that has a published value with it and, outside the tolerance, the likely causes."""
    from cocabench.results.published import TOLERANCE, check
    from cocabench.run.expected import expected

    matches = check(records, expected)
    if not matches:
        return
    out.print(f"\n[bold]Against published numbers[/bold] (inside: within {TOLERANCE} points of the interval)")
    print_table(HEADER, [_line(match) for match in matches])
    told: set[str] = set()
    for match in matches:
        if not match.inside:
            _print_causes(match, told)


def _line(match: Match) -> list[str]:
    from cocabench.core.formatting import number, signed

    verdict = "[green]inside[/green]" if match.inside else "[red]outside[/red]"
    names = [match.record.task, match.metric, match.record.model, number(match.measured, match.info)]
    numbers = [f"{match.published:.1f}", signed(match.difference)]
    return [*(escape(name) for name in names), *numbers, verdict, escape(match.source)]


def _print_causes(match: Match, told: set[str]) -> None:
    """Print the causes of a number outside; for another metric of the same Record they are the same ones."""
    where = f"{match.record.model} on {match.record.task}"
    key = f"{where} {match.causes}"
    if key in told:
        return
    told.add(key)
    out.print(f"[yellow]outside[/yellow] {escape(where)}; likely causes, one by one:", soft_wrap=True)
    for cause in match.causes:
        style = {"differs": "red", "not known": "dim"}.get(cause.state, "green")
        detail = f": {cause.detail}" if cause.detail else ""
        out.print(f"  [{style}]{cause.state}[/{style}]  {escape(cause.what + detail)}", soft_wrap=True)
    if match.note:
        out.print(f"  [dim]{escape(match.note)}[/dim]", soft_wrap=True)
