"""cocabench data: files for open_clip's trainer, from any loader."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from cocabench.cli import names
from cocabench.cli.console import err, out
from cocabench.cli.options import DataRoot, Download, option
from cocabench.cli.usage import Commands
from cocabench.core.errors import UsageError

if TYPE_CHECKING:
    from cocabench.core.types import Dataset

app = typer.Typer(
    cls=Commands,
    help="Write training files from a data set. A loader's keys are options: --path flickr30k --split train.",
    no_args_is_help=True,
)
KEYS = {"allow_extra_args": True, "ignore_unknown_options": True}

From = Annotated[
    str,
    option(
        "--from",
        metavar="LOADER",
        autocompletion=names.loaders,
        help="A loader: karpathy, coco, flickr8k, csv, webdataset …",
    ),
]
Limit = Annotated[int | None, option(metavar="N", min=1, help="Only this many images, at random.", show_default="all")]


@app.command("csv", context_settings=KEYS)
def table(
    context: typer.Context,
    loader: From,
    output: Annotated[Path, option(metavar="FILE", help="The table: .tsv with tabs, else with commas.")],
    data_root: DataRoot = Path("data"),
    images: Annotated[
        Path | None, option(metavar="DIR", help="The folder for images that lie in archives; they are extracted there.")
    ] = None,
    limit: Limit = None,
    download: Download = False,
) -> None:
    """A table of filepath and title, a row per caption. The loader's keys follow as options (--path, --split …)."""
    from cocabench.train.data import write_table

    dataset = _dataset(loader, context.args, data_root, limit, download)
    written = write_table(dataset, output, images=images)
    out.print(f"{output}: {written.captions:,} captions of {written.images:,} images", soft_wrap=True)
    _next(output)


@app.command(context_settings=KEYS)
def webdataset(
    context: typer.Context,
    loader: From,
    output: Annotated[Path, option(metavar="DIR", help="The folder of the shards; made anew.")],
    data_root: DataRoot = Path("data"),
    samples: Annotated[
        int, option(metavar="N", min=1, help="Samples per shard; the trainer wants a shard per worker at least.")
    ] = 10_000,
    seed: Annotated[int, option(metavar="N", help="Of the samples' order.")] = 0,
    limit: Limit = None,
    download: Download = False,
) -> None:
    """Shards with a sample per caption. The loader's keys follow as options (--path, --split …)."""
    from cocabench.train.data import write_shards

    dataset = _dataset(loader, context.args, data_root, limit, download)
    written = write_shards(dataset, output, samples=samples, seed=seed)
    told = f"{written.captions:,} captions of {written.images:,} images in {written.shards:,} shards"
    out.print(f"{output}: {told}", soft_wrap=True)
    _next(output)


def _dataset(loader: str, words: list[str], root: Path, limit: int | None, download: bool) -> Dataset:
    from cocabench.data.base import limited
    from cocabench.train.data import build

    dataset = limited(build(loader, _keys(words), root, download=download), limit, 0)
    for note in dataset.notes:
        err.print(f"[yellow]note[/yellow] {escape(note.text)}")
    return dataset


def _keys(words: list[str]) -> dict[str, str]:
    """Return {key: value} of ``--max-captions 5`` or ``--max-captions=5``; the last of repeated keys counts."""
    keys: dict[str, str] = {}
    rest = [part for word in words for part in (word.split("=", 1) if word.startswith("--") else [word])]
    while rest:
        flag = rest.pop(0)
        if not flag.startswith("--"):
            raise UsageError(f"{flag!r}", "belongs to no option", wanted="--KEY VALUE for the loader's keys")
        if not rest or rest[0].startswith("--"):
            raise UsageError(flag, "no value", wanted=f"{flag} VALUE")
        keys[flag.removeprefix("--").replace("-", "_")] = rest.pop(0)
    return keys


def _next(output: Path) -> None:
    out.print(f"[dim]next: cocabench train coca-scratch --set train_data={escape(str(output))}[/dim]", soft_wrap=True)
