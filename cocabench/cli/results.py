"""cocabench report, serve, show, import and export: commands that read results and load no model."""

from __future__ import annotations

import os
import webbrowser
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from cocabench.cli import names
from cocabench.cli.console import dim, err, labelled, out, print_json, print_table, say
from cocabench.cli.options import Json, flag, names_of, option
from cocabench.cli.tables import print_published
from cocabench.specs.spec import split_models

if TYPE_CHECKING:
    from cocabench.core.types import Record
    from cocabench.results.explain import Part
    from cocabench.results.store import RecordSet


def report(
    results: Annotated[
        list[Path] | None, typer.Argument(help="Results folders or Record files.", metavar="RESULTS")
    ] = None,
    output: Annotated[Path, option("DIR", "Folder of the report.")] = Path("reports/latest"),
    published: Annotated[str, option("MODEL", "Add published results of NAME:TAG, comma-separated.")] = "",
    baseline: Annotated[
        list[Path] | None, option("DIR", "Results to compare the others with; may be repeated.")
    ] = None,
    models: Annotated[
        str, option("MODEL", "Only these models, in this order, comma-separated.", autocompletion=names.stored_models)
    ] = "",
    title: Annotated[str, option("TEXT", "Title of the report.")] = "cocabench report",
    images: Annotated[bool, flag("--images/--no-images", "Include thumbnails of samples.")] = True,
    open_page: Annotated[bool, flag("--open", "Open the page in a browser.")] = False,
) -> None:
    """Write a report: one HTML page, tables in Markdown, CSV and LaTeX, and figures.

    Example: cocabench report results/ --output reports/mine
    """
    from cocabench.core.errors import UsageError
    from cocabench.report import write_report
    from cocabench.results.records import read
    from cocabench.results.store import RecordSet

    if not results and not published:
        raise UsageError("report", "no results and no --published", wanted="a results folder or published models")
    given = [*(results or ()), *(baseline or ())]
    found = read(*given) if given else RecordSet((), ())
    held = set(read(*baseline).paths) if baseline else set()
    page, *files = write_report(
        found,
        output,
        published=names_of(published),
        baseline=[r.model for r, path in zip(found.records, found.paths, strict=True) if path in held],
        models=split_models(models),
        title=title,
        images=images,
        processes=os.cpu_count() or 1,
    )
    say(str(page))
    err.print(f"and {len(files)} files in tables/, figures/, data.json", highlight=False)
    if open_page:
        webbrowser.open(page.resolve().as_uri())


def leaderboard(
    results: Annotated[
        list[Path], typer.Argument(help="Results folders, one for each contributor.", metavar="RESULTS")
    ],
    output: Annotated[Path, option("DIR", "Folder of the site.")] = Path("site"),
    published: Annotated[str, option("MODEL", "Add published results of NAME:TAG, comma-separated.")] = "",
    title: Annotated[str, option("TEXT", "Title of the site.")] = "Leaderboard",
    check_only: Annotated[bool, flag("--check", "Validate the Records and write nothing.")] = False,
) -> None:
    """Validate many people's results and write a site: a page to search and filter, and their report.

    Each Record needs a known schema, a whole signature, its own samples, and numbers that follow from them.

    Example: cocabench leaderboard submissions/* --output site
    """
    from cocabench.report.site import check, write_site

    if check_only:
        check(results)
        err.print("every Record may be published")
    else:
        say(str(write_site(results, output, published=names_of(published), title=title)[0]))


def serve(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of the reports.")] = Path("reports"),
    host: Annotated[
        str, option("HOST", "Address to listen on; 0.0.0.0 serves everyone who can reach this machine.")
    ] = "127.0.0.1",
    port: Annotated[int, option("PORT", "Port; 0 chooses a free one.", min=0, max=65535)] = 8000,
    open_page: Annotated[bool, flag("--open", "Open the reports in a browser.")] = False,
) -> None:
    """Serve reports over HTTP, read-only, until interrupted.

    Example: cocabench serve reports/ --port 8000
    """
    from cocabench.report.serve import server

    with server(folder, host=host, port=port) as running:
        name, number = running.where
        address = f"http://{'localhost' if name in ('127.0.0.1', '0.0.0.0') else name}:{number}/"
        err.print(f"serving {folder} at {address} (press Ctrl-C to stop)", soft_wrap=True)
        if open_page:
            webbrowser.open(address)
        with suppress(KeyboardInterrupt):
            running.serve_forever()


OneModel = Annotated[str, option("MODEL", "Show the results of this model.", autocompletion=names.stored_models)]
OneTask = Annotated[str, option("TASK", "Show the results on this task.", autocompletion=names.stored_tasks)]


def show(
    results: Annotated[list[Path], typer.Argument(help="Record files, or results folders.", metavar="RECORD")],
    model: OneModel = "",
    task: OneTask = "",
    as_json: Json = False,
) -> None:
    """Show a Record: metrics, notes, and an explanation of its signature. A folder's Records are listed.

    Example: cocabench show results/ --model demo/coca --task emoji_retrieval
    """
    from cocabench.core.errors import UnknownNameError
    from cocabench.core.signature import short
    from cocabench.results.store import load

    found = load(*results)
    for kind, wanted, known in (("model", model, [r.model for r in found]), ("task", task, [r.task for r in found])):
        if wanted and wanted not in known:
            raise UnknownNameError(kind, wanted, known)
    chosen = [r for r in found if model in ("", r.model) and task in ("", r.task)]
    if as_json:
        print_json([record.model_dump(mode="json") for record in chosen])
    elif len(chosen) == 1 or all(path.is_file() for path in results):
        for record in chosen:
            _print_record(record, found)
    else:
        rows = [[r.model, r.task, short(r.signature), r.created[:16], str(found.path(r) or "")] for r in chosen]
        print_table(["model", "task", "signature", "created", "file"], rows)
        dim("show one with --model and --task, or by its file")


def _print_record(record: Record, results: RecordSet) -> None:
    from cocabench.core.formatting import number
    from cocabench.core.signature import short
    from cocabench.results.compare import of_kinds
    from cocabench.results.explain import explain
    from cocabench.results.records import notes
    from cocabench.results.store import samples_path

    say(Text.assemble((f"{record.model} on {record.task}", "bold"), f"  {short(record.signature)}"))
    definitions = record.definitions
    rows = [[n, number(e, definitions[n]), definitions[n].summary] for n, e in record.metrics.items()]
    print_table(["metric", "value ± 95 %", ""], rows + [[n, "skipped", w] for n, w in record.skipped_metrics.items()])
    for sentence in of_kinds([record.evaluator]):
        dim(sentence)
    for note in notes(record):
        labelled("note", note.text, console=out)
    parts = explain(record)
    _print_parts("Protocol: numbers are compared only if all of this is equal", parts.protocol)
    _print_parts("Model: with the protocol, it determines the name of the file", parts.model)
    _print_parts("Environment: stored, not compared", parts.environment)
    path = results.path(record)
    paired = path is not None and samples_path(path, record).is_file()
    took = f", {record.timing['seconds']:.0f} s" if "seconds" in record.timing else ""
    samples = "samples are stored" if paired else "no samples: differences cannot be paired"
    say(f"\ncreated {record.created[:16]}{took}; {samples}; schema {record.schema_version}")
    print_published([record])


def _print_parts(title: str, parts: Sequence[Part]) -> None:
    if parts:
        say(Text.assemble("\n", (title, "bold")))
        print_table(["part", "value", ""], [[part.name, part.value, Text(part.words, "dim")] for part in parts])


def import_(
    files: Annotated[
        list[Path],
        typer.Argument(
            help="CLIP_benchmark's JSON or CSV, a folder of such JSON, or open_clip_train's results.jsonl.",
            metavar="FILE",
        ),
    ],
    output: Annotated[Path, option("DIR", "The results folder.")] = Path("results"),
) -> None:
    """Import results of CLIP_benchmark and open_clip_train into a results folder, with a label.

    Example: cocabench import benchmark.csv --output results
    """
    from cocabench.core.formatting import plural
    from cocabench.results import interop
    from cocabench.results.store import Store

    store = Store(output)
    records = [record for file in files for record in interop.read(file)]
    for record in records:
        say(str(store.put_record(record)))
    they = "it has" if len(records) == 1 else "they have"
    imported = f"{plural(len(records), 'Record')} imported into {output}"
    err.print(f"{imported}; {they} no samples, so differences are unpaired")
