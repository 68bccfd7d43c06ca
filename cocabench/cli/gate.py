"""cocabench gate: judge results against a baseline. It needs no model."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from cocabench.cli.console import err, print_table

DEFAULT_RULES = Path("results/gates.toml")


def gate(
    baseline: Annotated[Path, typer.Option(help="The results to hold.")],
    current: Annotated[Path, typer.Option(help="The results to judge.")],
    rules: Annotated[
        Path | None,
        typer.Option(help="Tolerances, in TOML.", show_default="results/gates.toml if it is there, else 0.2 points"),
    ] = None,
    junit: Annotated[Path | None, typer.Option(help="Write a JUnit XML file.")] = None,
) -> None:
    """Judge results against a baseline. Exit code 0: held; 1: regressed or missing; 2: unusable or incomparable."""
    from cocabench import gate as gating
    from cocabench.store import load, write_atomically

    path = rules or (DEFAULT_RULES if DEFAULT_RULES.is_file() else None)
    verdicts = gating.gate(load(baseline), load(current), gating.read_rules(path) if path else gating.Rules())
    print_table(gating.HEADER, [[escape(cell) for cell in gating.row(verdict)] for verdict in verdicts])
    if junit:
        write_atomically(junit, lambda path: path.write_text(gating.to_junit(verdicts), encoding="utf-8"))
    if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        with Path(summary).open("a", encoding="utf-8") as file:
            file.write(gating.to_markdown(verdicts))
    code = gating.exit_code(verdicts)
    err.print(gating.headline(verdicts))
    raise typer.Exit(code)
