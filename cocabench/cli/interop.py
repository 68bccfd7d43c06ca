"""cocabench import and export: results of other programs. They need no model."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from cocabench.cli.console import err, out
from cocabench.cli.options import option


class Format(StrEnum):
    CLIP_BENCHMARK = "clip_benchmark"


def import_(
    files: Annotated[
        list[Path],
        typer.Argument(
            help="CLIP_benchmark's JSON or CSV, a folder of such JSON, or open_clip_train's results.jsonl.",
            metavar="FILE…",
        ),
    ],
    output: Annotated[Path, option(metavar="DIR", help="The results folder.")] = Path("results"),
) -> None:
    """Take results of CLIP_benchmark and open_clip_train into a results folder, labelled as theirs."""
    from cocabench.results import interop
    from cocabench.results.store import Store

    store = Store(output)
    records = [record for file in files for record in interop.read(file)]
    for record in records:
        out.print(str(store.put_record(record)), soft_wrap=True, markup=False)
    err.print(f"{len(records)} Records imported into {output}; they hold no samples, so differences are unpaired")


def export(
    results: Annotated[list[str], typer.Argument(help="Results folders or Record files.", metavar="RESULTS…")],
    form: Annotated[Format, option("--format", metavar="FORM", help=f"{', '.join(Format)}.")] = Format.CLIP_BENCHMARK,
    output: Annotated[Path | None, option(metavar="FILE", help="The file to write.", show_default="stdout")] = None,
) -> None:
    """Write results as the CSV of `clip_benchmark build`."""
    from cocabench.results.compare import choose, read
    from cocabench.results.interop import clip_benchmark
    from cocabench.results.store import write_atomically

    chosen = choose(read(*results))
    text = clip_benchmark.to_csv(chosen.records)
    for phrase in chosen.left_out:
        err.print(f"left out: {phrase}", markup=False)
    if output is None:
        print(text, end="")
    else:
        write_atomically(output, lambda path: path.write_text(text, encoding="utf-8"))
