"""cocabench gate: judge results against a baseline. It needs no model."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from cocabench.cli.console import err, out, print_table
from cocabench.cli.options import flag, option

if TYPE_CHECKING:
    from cocabench.core.types import Verdict
    from cocabench.results.gate import Rules
    from cocabench.results.store import RecordSet

DEFAULT_RULES = Path("results/gates.toml")
STYLES = {"regressed": "red", "missing": "red", "incomparable": "red", "cannot tell": "yellow", "improved": "green"}


def gate(
    baseline: Annotated[str, option(metavar="RESULTS", help="The results to hold: a folder, or published:NAME:TAG.")],
    current: Annotated[Path, option(metavar="DIR", help="The results to judge.")],
    rules: Annotated[
        Path | None,
        option(
            metavar="FILE", help="Tolerances, in TOML.", show_default="results/gates.toml if there, else 0.2 points"
        ),
    ] = None,
    junit: Annotated[Path | None, option(metavar="FILE", help="Write a JUnit XML file.")] = None,
    update: Annotated[
        bool, flag("--update", help="Show the differences, then make the current results the baseline.")
    ] = False,
) -> None:
    """Judge results against a baseline. Exit code 0: held; 1: regressed or missing; 2: unusable or incomparable."""
    from cocabench.results import gate as gating
    from cocabench.results.compare import read
    from cocabench.results.store import write_atomically

    gating.recover(Path(baseline))
    now = read(current)
    held = None if update and not Path(baseline).exists() else read(baseline)
    verdicts = gating.gate(held, now, _rules(rules)) if held else []
    _print(verdicts)
    if junit:
        write_atomically(junit, lambda path: path.write_text(gating.to_junit(verdicts), encoding="utf-8"))
    if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        with Path(summary).open("a", encoding="utf-8") as file:
            file.write(gating.to_markdown(verdicts))
    if update:
        _update(baseline, held, now)
        return
    err.print(gating.headline(verdicts))
    raise typer.Exit(gating.exit_code(verdicts))


def _rules(path: Path | None) -> Rules:
    from cocabench.results.gate import Rules, read_rules

    path = path or (DEFAULT_RULES if DEFAULT_RULES.is_file() else None)
    return read_rules(path) if path else Rules()


def _print(verdicts: Sequence[Verdict]) -> None:
    from cocabench.results import gate as gating

    if not verdicts:
        return
    rows = [[escape(cell) for cell in gating.row(verdict)] for verdict in gating.sorted_for_reading(verdicts)]
    for row in rows:
        style = STYLES.get(row[0])
        row[0] = f"[{style}]{row[0]}[/{style}]" if style else row[0]
    print_table(gating.HEADER, rows)
    for sentence in gating.legend(verdicts):
        out.print(f"[dim]{escape(sentence)}[/dim]", soft_wrap=True)


def _update(baseline: str, held: RecordSet | None, now: RecordSet) -> None:
    from cocabench.core.errors import UsageError
    from cocabench.results import gate as gating
    from cocabench.results.compare import PUBLISHED, choose

    if baseline.startswith(PUBLISHED) or Path(baseline).is_file():
        raise UsageError("--update", f"the baseline is {baseline}", wanted="a folder")
    change = gating.planned(choose(held).records if held else (), now.records)
    for line in change.lines():
        out.print(escape(line), soft_wrap=True)
    gating.write(Path(baseline), change, held, now)
    err.print(f"{baseline} is the new baseline: {len(change.new)} Records written, {len(change.kept)} kept")
