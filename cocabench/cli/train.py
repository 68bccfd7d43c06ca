"""cocabench data and train: training files from any loader, and recipes over open_clip's own trainer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cocabench.cli import names
from cocabench.cli.console import dim, err, labelled, print_table, say
from cocabench.cli.options import DataRoot, Download, flag, option
from cocabench.cli.usage import Commands
from cocabench.core.errors import UsageError

if TYPE_CHECKING:
    from cocabench.core.types import Dataset

data = typer.Typer(
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


@data.command("csv", context_settings=KEYS)
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
    _print_written(output, f"{written.captions:,} captions of {written.images:,} images")


@data.command(context_settings=KEYS)
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
    shards = f"{written.shards:,} shards"
    _print_written(output, f"{written.captions:,} captions of {written.images:,} images in {shards}")


def _dataset(loader: str, words: list[str], root: Path, limit: int | None, download: bool) -> Dataset:
    from cocabench.data.base import limited
    from cocabench.train.data import build

    dataset = limited(build(loader, _keys(words), root, download=download), limit, 0)
    for note in dataset.notes:
        labelled("note", note.text)
    return dataset


def _keys(words: list[str]) -> dict[str, str]:
    """Return {key: value} of ``--max-captions 5`` or ``--max-captions=5``; the last of repeated keys counts."""
    keys: dict[str, str] = {}
    rest = [part for word in words for part in (word.split("=", 1) if word.startswith("--") else [word])]
    while rest:
        key = rest.pop(0)
        if not key.startswith("--"):
            raise UsageError(f"{key!r}", "belongs to no option", wanted="--KEY VALUE for the loader's keys")
        if not rest or rest[0].startswith("--"):
            raise UsageError(key, "no value", wanted=f"{key} VALUE")
        keys[key.removeprefix("--").replace("-", "_")] = rest.pop(0)
    return keys


def _print_written(output: Path, content: str) -> None:
    say(f"{output}: {content}")
    dim(f"next: cocabench train coca-scratch --set train_data={output}")


def train(
    recipe: Annotated[
        str | None,
        typer.Argument(
            metavar="RECIPE",
            autocompletion=names.recipes,
            help="A recipe's name, or a .toml of your own.",
            show_default="list the recipes",
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        option("--set", metavar="KEY=VALUE", help="model, architecture.PATH, or a flag of open_clip_train."),
    ] = None,
    output: Annotated[Path | None, option(metavar="DIR", help="The run's folder.", show_default="runs/RECIPE")] = None,
    nproc: Annotated[int, option(metavar="N", min=1, help="Processes: one per GPU, by torchrun.")] = 1,
    device: Annotated[str, option(metavar="DEVICE", help="auto, cpu, cuda, cuda:1 …")] = "auto",
    resume: Annotated[bool, flag("--resume", help="Go on after the newest checkpoint in --output.")] = False,
    dry_run: Annotated[bool, flag("--dry-run", help="Print the commands; run and write nothing.")] = False,
    allow_pipe: Annotated[
        bool, flag("--allow-pipe", help="Data may be pipe:COMMAND, which runs in a shell: only for recipes you trust.")
    ] = False,
    memory_check: Annotated[
        bool, flag("--memory-check/--no-memory-check", help="Refuse what will not fit into memory.")
    ] = True,
) -> None:
    """Train a CoCa or CLIP with open_clip's trainer, from scratch or from a checkpoint."""
    from cocabench.train.recipe import find_recipe
    from cocabench.train.training import check_folder, run, shortage, training

    if recipe is None:
        _print_recipes()
        return
    chosen = find_recipe(recipe, settings or ())
    folder = output or Path("runs") / chosen.name
    made = training(
        chosen,
        folder,
        device=device,
        processes=nproc,
        resume=resume,
        download=not dry_run,
        data_later=dry_run,
        allow_pipe=allow_pipe,
    )
    for note in made.notes:
        labelled("note", note)
    check_folder(made, resume=resume)
    if too_much := shortage(made.plan, made.settings, made.device, nproc) if memory_check else None:
        if not dry_run:
            raise too_much
        labelled("note", str(too_much))
    if dry_run:
        err.print(f"values: {chosen.source}" if chosen.source else "", style="dim", markup=False, soft_wrap=True)
        print(made.script)
        return
    try:
        written = run(made)
    except KeyboardInterrupt:
        err.print(f"\nstopped; rerun with --resume to continue from {made.checkpoints}", markup=False, soft_wrap=True)
        raise typer.Exit(130) from None
    say(f"{len(written)} checkpoints in {made.checkpoints}")
    quick = " --quick-gelu" if made.settings["force_quick_gelu"] else ""
    dim(f"next: cocabench run --model '{made.model}'{quick} --tasks …")


def _print_recipes() -> None:
    from cocabench.train.recipe import find_recipe, shipped

    recipes = [find_recipe(name) for name in shipped()]
    print_table(["recipe", "model", "summary"], [[recipe.name, recipe.model, recipe.summary] for recipe in recipes])
