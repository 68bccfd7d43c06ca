"""cocabench report and serve: they read results and need no model."""

from __future__ import annotations

import webbrowser
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from cocabench.cli import names
from cocabench.cli.console import err, out
from cocabench.cli.options import flag, names_of, option


def report(
    results: Annotated[
        list[Path] | None, typer.Argument(help="Results folders or Record files.", metavar="RESULTS…")
    ] = None,
    output: Annotated[Path, option(metavar="DIR", help="The folder to write to.")] = Path("reports/latest"),
    published: Annotated[
        str, option(metavar="MODEL", help="Published results beside them: NAME:TAG, comma-separated.")
    ] = "",
    baseline: Annotated[
        list[Path] | None, option(metavar="DIR", help="Results that the others are held against; may be repeated.")
    ] = None,
    models: Annotated[
        str,
        option(
            metavar="MODEL",
            autocompletion=names.stored_models,
            help="Only these, in this order, comma-separated.",
        ),
    ] = "",
    title: Annotated[str, option(metavar="TEXT", help="The report's title.")] = "cocabench report",
    images: Annotated[bool, flag("--images/--no-images", help="With small pictures of the samples.")] = True,
    open_page: Annotated[bool, flag("--open", help="Open the page in a browser.")] = False,
) -> None:
    """Write a report: one HTML page with everything in it, tables in Markdown, CSV and LaTeX, figures."""
    from cocabench.core.errors import UsageError
    from cocabench.report import write_report
    from cocabench.results import compare
    from cocabench.results.store import RecordSet

    if not results and not published:
        raise UsageError("report", "neither results nor --published", wanted="a results folder, or published models")
    given = [*(results or ()), *(baseline or ())]
    found = compare.read(*given) if given else RecordSet((), ())
    held = set(compare.read(*baseline).paths) if baseline else set()
    page, *files = write_report(
        found,
        output,
        published=names_of(published),
        baseline=[r.model for r, path in zip(found.records, found.paths, strict=True) if path in held],
        models=names_of(models),
        title=title,
        images=images,
    )
    out.print(str(page), soft_wrap=True)
    err.print(f"beside it {len(files)} files: tables/, figures/, data.json", highlight=False)
    if open_page:
        webbrowser.open(page.resolve().as_uri())


def serve(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder of the reports.")] = Path("reports"),
    host: Annotated[
        str, option(metavar="HOST", help="Who is served; 0.0.0.0 is everybody who can reach this machine.")
    ] = "127.0.0.1",
    port: Annotated[int, option(metavar="PORT", min=0, max=65535, help="0 takes a free one.")] = 8000,
    open_page: Annotated[bool, flag("--open", help="Open the reports in a browser.")] = False,
) -> None:
    """Serve reports over HTTP, read-only, until interrupted."""
    from cocabench.report.serve import server

    with server(folder, host=host, port=port) as running:
        name, number = running.where
        address = f"http://{'localhost' if name in ('127.0.0.1', '0.0.0.0') else name}:{number}/"
        err.print(f"serving {folder} at {address} (Ctrl-C ends it)", soft_wrap=True)
        if open_page:
            webbrowser.open(address)
        with suppress(KeyboardInterrupt):
            running.serve_forever()
