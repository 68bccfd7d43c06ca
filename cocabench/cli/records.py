"""cocabench show: what a Record holds, and its signature in words. It needs no model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from cocabench.cli import names
from cocabench.cli.console import out, print_table
from cocabench.cli.options import Json, option
from cocabench.cli.published import print_published
from cocabench.core.types import Record

if TYPE_CHECKING:
    from cocabench.results.explain import Part
    from cocabench.results.store import RecordSet


OneModel = Annotated[
    str, option(metavar="MODEL", autocompletion=names.stored_models, help="Of a folder, this model's.")
]
OneTask = Annotated[str, option(metavar="TASK", autocompletion=names.stored_tasks, help="Of a folder, this task's.")]


def show(
    results: Annotated[list[Path], typer.Argument(help="Record files, or results folders.", metavar="RECORD…")],
    model: OneModel = "",
    task: OneTask = "",
    as_json: Json = False,
) -> None:
    """Explain a Record: its numbers, its signature in words, its warnings and where it ran. Folders are listed."""
    from cocabench.core.errors import UnknownNameError
    from cocabench.results.store import load

    found = load(*results)
    for kind, wanted, known in (("model", model, [r.model for r in found]), ("task", task, [r.task for r in found])):
        if wanted and wanted not in known:
            raise UnknownNameError(kind, wanted, known)
    chosen = [r for r in found if model in ("", r.model) and task in ("", r.task)]
    if as_json:
        print(json.dumps([record.model_dump(mode="json") for record in chosen], ensure_ascii=False, allow_nan=False))
    elif len(chosen) == 1 or all(path.is_file() for path in results):
        for record in chosen:
            _print_record(record, found)
    else:
        _print_list(chosen, found)


def _print_list(records: Sequence[Record], results: RecordSet) -> None:
    from cocabench.core.signature import short

    rows = [[r.model, r.task, short(r.signature), r.created[:16], str(results.path(r) or "")] for r in records]
    print_table(["model", "task", "signature", "created", "file"], [[escape(cell) for cell in row] for row in rows])
    out.print("[dim]--model and --task, or the file, show one of them[/dim]")


def _print_record(record: Record, results: RecordSet) -> None:
    from cocabench.core.formatting import number
    from cocabench.core.signature import short
    from cocabench.results.compare import notes, of_kinds
    from cocabench.results.explain import explain

    out.print(
        f"[bold]{escape(record.model)} on {escape(record.task)}[/bold]  {short(record.signature)}", soft_wrap=True
    )
    rows = [
        [escape(name), escape(number(e, record.definitions[name])), escape(record.definitions[name].summary)]
        for name, e in record.metrics.items()
    ]
    rows += [[escape(name), "skipped", escape(why)] for name, why in record.skipped_metrics.items()]
    print_table(["metric", "value ± 95 %", ""], rows)
    for sentence in of_kinds([record.evaluator]):
        out.print(f"[dim]{escape(sentence)}[/dim]", soft_wrap=True)
    for note in notes(record):
        out.print(f"[yellow]note[/yellow] {escape(note.text)}", soft_wrap=True)
    said = explain(record)
    _print_parts("Protocol: numbers are compared only where all of this is equal", said.protocol)
    _print_parts("Model: what was measured; with the protocol it names the result's file", said.model)
    _print_parts("Environment: kept, never compared", said.environment)
    _print_rest(record, results)
    print_published([record])


def _print_parts(title: str, parts: Sequence[Part]) -> None:
    if parts:
        out.print(f"\n[bold]{title}[/bold]")
        rows = [[escape(p.name), escape(p.value), f"[dim]{escape(p.words)}[/dim]"] for p in parts]
        print_table(["part", "value", ""], rows)


def _print_rest(record: Record, results: RecordSet) -> None:
    """Print when and how long it ran, and whether its samples are there, so that differences can be paired."""
    from cocabench.results.store import samples_path

    path = results.path(record)
    there = path is not None and samples_path(path, record).is_file()
    took = f", {record.timing['seconds']:.0f} s" if "seconds" in record.timing else ""
    samples = "samples beside it" if there else "no samples: differences cannot be paired"
    out.print(f"\ncreated {record.created[:16]}{took}; {samples}; schema {record.schema_version}")
