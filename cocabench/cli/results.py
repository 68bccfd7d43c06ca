"""cocabench report: it reads results and needs no model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cocabench.cli.console import out
from cocabench.cli.options import names_of


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
    for path in write_report(found, output, published=names_of(published), title=title or "cocabench report"):
        out.print(str(path), soft_wrap=True)
