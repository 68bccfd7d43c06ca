"""cocabench compare, report and gate: they read results and need no model."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from cocabench.cli.console import err, out, print_table

if TYPE_CHECKING:
    from cocabench.compare import Comparison

DEFAULT_RULES = Path("results/gates.toml")
Paths = Annotated[list[Path], typer.Argument(help="Results folders or Record files.", metavar="RESULTS…")]


class Form(StrEnum):
    TABLE = "table"
    MARKDOWN = "markdown"
    CSV = "csv"


def print_comparison(comparison: Comparison) -> None:
    """Print the table of a Comparison, best values bold, notes below."""
    from cocabench.compare import remarks
    from cocabench.report.tables import header
    from cocabench.report.text import Footnotes

    footnotes, rows = Footnotes(), []
    for row in comparison.rows:
        cells = [
            ("[bold]{}[/bold]" if cell.best else "{}").format(escape(cell.text))
            + escape(footnotes.mark(remarks(cell, apart=len(row.cells) > 2)).replace("\\", ""))
            for cell in row.cells
        ]
        gap = [escape(row.difference_text)] if len(comparison.models) == 2 else []
        rows.append([escape(row.task), escape(row.metric), *cells, *gap])
    print_table([escape(column) for column in header(comparison)], rows, numbers_from=2)
    for i, note in enumerate(footnotes.notes, 1):
        out.print(f"[dim]\\[{i}] {escape(note)}[/dim]")
    for phrase in comparison.left_out:
        out.print(f"[dim]left out: {escape(phrase)}[/dim]")


def compare(
    results: Paths,
    models: Annotated[str, typer.Option(help="Only these, in this order, comma-separated.")] = "",
    all_metrics: Annotated[
        bool, typer.Option("--all-metrics", help="Every metric, not the primary one of each task.")
    ] = False,
    form: Annotated[Form, typer.Option("--format", help="How to print it.")] = Form.TABLE,
) -> None:
    """Compare results: a table of tasks and models, with the differences of two."""
    from cocabench import compare as comparing
    from cocabench.report import tables
    from cocabench.store import load

    found = comparing.compare(load(*results), models=_names(models), all_metrics=all_metrics)
    if form is Form.TABLE:
        print_comparison(found)
    else:
        print(tables.to_markdown(found) if form is Form.MARKDOWN else tables.to_csv(found), end="")


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def report(
    results: Annotated[
        list[Path] | None, typer.Argument(help="Results folders or Record files.", metavar="[RESULTS…]")
    ] = None,
    output: Annotated[Path, typer.Option(help="The folder to write to.")] = Path("reports"),
    published: Annotated[str, typer.Option(help="Published results beside them: NAME:TAG, comma-separated.")] = "",
    title: Annotated[str, typer.Option(help="The report's title.")] = "",
) -> None:
    """Write a report: tables in Markdown and figures in SVG and PNG."""
    from cocabench.errors import UsageError
    from cocabench.report import write_report
    from cocabench.store import Results, load

    if not results and not published:
        raise UsageError("report", "neither results nor --published", wanted="a results folder, or published models")
    found = load(*results) if results else Results((), ())
    for path in write_report(found, output, published=_names(published), title=title or "cocabench report"):
        out.print(str(path), soft_wrap=True)


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
