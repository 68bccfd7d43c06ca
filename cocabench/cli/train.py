"""cocabench data and train: write training files from any loader, and train with open_clip's trainer."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cocabench.cli import names
from cocabench.cli.console import dim, err, labelled, print_json, print_table, say
from cocabench.cli.options import Cache, DataRoot, Download, Json, flag, names_of, option
from cocabench.cli.usage import Commands
from cocabench.core.errors import UsageError
from cocabench.core.formatting import plural

if TYPE_CHECKING:
    from cocabench.core.types import Dataset
    from cocabench.train.data import Written
    from cocabench.train.training import Training

data = typer.Typer(
    cls=Commands,
    help="Fetch and check the data of tasks, and write training files from a data set.\n\n"
    "Example: cocabench data csv --from karpathy --path flickr30k --output flickr30k.csv",
    no_args_is_help=True,
)
KEYS = {"allow_extra_args": True, "ignore_unknown_options": True}

From = Annotated[
    str,
    option("LOADER", "A loader: karpathy, coco, flickr8k, csv, webdataset …", "--from", autocompletion=names.loaders),
]
Template = Annotated[
    str | None,
    option(
        "TEXT",
        "Of questions: the words before the answer, with {question} in it.",
        "--template",
        show_default="question: {question} answer:",
    ),
]
Limit = Annotated[int | None, option("N", "Use a random subset of this many images.", min=1, show_default="all")]


@data.command("csv", context_settings=KEYS)
def table(
    context: typer.Context,
    loader: From,
    output: Annotated[Path, option("FILE", "File to write: .tsv with tabs, else with commas.")],
    data_root: DataRoot = Path("data"),
    images: Annotated[Path | None, option("DIR", "Folder to extract images to, if they are in archives.")] = None,
    template: Template = None,
    limit: Limit = None,
    download: Download = False,
) -> None:
    """Write a table of filepath and title, a row per caption. A loader's keys are options (--path, --split …).

    Example: cocabench data csv --from karpathy --path flickr30k --split train --output flickr30k.csv
    """
    from cocabench.train.data import write_table

    dataset = _dataset(loader, context.args, data_root, template, limit, download)
    written = write_table(dataset, output, images=images)
    _print_written(output, _captions_of_images(written))


@data.command(context_settings=KEYS)
def webdataset(
    context: typer.Context,
    loader: From,
    output: Annotated[Path, option("DIR", "Folder for the shards; it is replaced.")],
    data_root: DataRoot = Path("data"),
    samples: Annotated[
        int, option("N", "Samples per shard; the trainer needs at least one shard per worker.", min=1)
    ] = 10_000,
    seed: Annotated[int, option("N", "Seed for the order of samples.")] = 0,
    template: Template = None,
    limit: Limit = None,
    download: Download = False,
) -> None:
    """Write WebDataset shards, a sample per caption. A loader's keys are options (--path, --split …).

    Example: cocabench data webdataset --from coco --path coco --split train --output shards/
    """
    from cocabench.train.data import write_shards

    dataset = _dataset(loader, context.args, data_root, template, limit, download)
    written = write_shards(dataset, output, samples=samples, seed=seed)
    shards = plural(written.shards, "shard", form=",")
    _print_written(output, f"{_captions_of_images(written)} in {shards}")


Wanted = Annotated[list[str], typer.Argument(metavar="TASK", autocompletion=names.tasks, help="Tasks and groups.")]


@data.command("fetch")
def fetch_data(tasks: Wanted, data_root: DataRoot = Path("data")) -> None:
    """Download the data of tasks from the Hugging Face Hub, or from --data-root if it is a URL. Rerun to resume.

    What is there and whole stays.

    Example: cocabench data fetch cars datacomp_wilds --data-root /data
    """
    from cocabench.cli.execution import bar
    from cocabench.core.errors import CocabenchError, DataError
    from cocabench.core.types import silent
    from cocabench.data.fetch import check, ensure, fetch, repository_of
    from cocabench.data.remote import url_of
    from cocabench.specs.registry import find_tasks

    failed = 0
    for task in find_tasks(tasks):
        name = task.name
        try:
            if (repository := repository_of(task.loader, data_root)) is None:
                got = "not on the hub, as far as its task file says"
                raise DataError(name, got, fix=str(task.spec.data.get("source", "")))
            with bar(name) if err.is_terminal else nullcontext(silent) as progress:
                if url_of(data_root):
                    ensure(task.loader, data_root, progress, anew=True)
                else:
                    fetch(repository, data_root, progress)
            say(f"{name}: {check(repository_of(task.loader, data_root) or repository, data_root).text}")
        except CocabenchError as error:
            failed += 1
            labelled("error", f"{name}: {error}", colour="red")
    if failed:
        raise typer.Exit(1)


@data.command("check")
def check_data(
    tasks: Wanted,
    data_root: DataRoot = Path("data"),
    hashes: Annotated[bool, flag("--hash", "Also read all files and compare their hashes.")] = False,
    as_json: Json = False,
) -> None:
    """Say what of the data of tasks is there, whether it is complete, and of which revision. Exit code 1 if any lacks.

    Example: cocabench data check datacomp --data-root /data
    """
    from cocabench.core.errors import CocabenchError
    from cocabench.data.fetch import State, check, repository_of
    from cocabench.data.remote import url_of
    from cocabench.run.prepare import Settings, prepare
    from cocabench.specs.registry import find_tasks

    rows = []
    for task in find_tasks(tasks):
        name, repository = task.name, repository_of(task.loader, data_root)
        try:
            state = check(repository, data_root, hashes=hashes) if repository else State(None, "")
            if state.complete is None and not (url_of(data_root) and repository):
                # a copy of the user's own: the loader says what is in it
                found = prepare(task, Settings(data_root=data_root), modes={})
                notes = "".join(f"; {note.text}" for note in found.notes)
                state = State(not notes, f"{plural(len(found.dataset), 'example', form=',')} of an own copy{notes}")
        except CocabenchError as error:
            state = State(False, str(error))
        rows.append([name, "complete" if state.complete else "not complete", state.text])
    header = ["task", "state", "found"]
    if as_json:
        print_json([dict(zip(header, row, strict=True)) for row in rows])
    else:
        print_table(header, rows)
    if any(row[1] != "complete" for row in rows):
        raise typer.Exit(1)


@data.command("overlap")
def overlap(
    train: Annotated[
        list[str],
        option("SHARDS", "Training shards: a tar, folder, pattern, {0000..0123}.tar; repeatable.", "--train"),
    ],
    tasks: Annotated[str, option("TASK", "Names, groups or .toml files.", "--tasks", autocompletion=names.tasks)],
    data_root: DataRoot = Path("data"),
    distance: Annotated[int, option("BITS", "Up to so many differing bits of the hashes, images are one.", min=0)] = 4,
    output: Annotated[Path, option("FILE", "Where to write what was found.")] = Path("overlap.json"),
    cache: Cache = None,
) -> None:
    """Find evaluation images that are near-duplicates of training images, by perceptual hashes of 64 bits.

    `compare RESULTS --overlap FILE` shows every metric with and without them.

    Example: cocabench data overlap --train 'shards/*.tar' --tasks imagenet1k --data-root /data
    """
    from cocabench.cli.execution import bar
    from cocabench.core.cache import open_cache, spaces_folder
    from cocabench.core.types import silent
    from cocabench.results.store import write_atomically
    from cocabench.run.overlap import find
    from cocabench.specs.registry import find_tasks

    chosen = find_tasks(names_of(tasks))
    with (
        open_cache(spaces_folder(cache), lambda note: labelled("note", note.text)) as held,
        bar("overlap") if err.is_terminal else nullcontext(silent) as progress,
    ):
        found = find(train, chosen, data_root, distance, held, progress)
    write_atomically(output, lambda path: path.write_text(found.model_dump_json(indent=1) + "\n", encoding="utf-8"))
    for name, task in found.tasks.items():
        say(f"{name}: {len(task.overlap)} of {plural(task.images, 'image', form=',')} {found.text}")
    if found.unreadable:
        labelled("note", f"{found.unreadable:,} training images cannot be read and were not compared")
    say(str(output))


def _dataset(
    loader: str, words: list[str], root: Path, template: str | None, limit: int | None, download: bool
) -> Dataset:
    from cocabench.data.base import limited
    from cocabench.train.data import build

    dataset = limited(build(loader, _keys(words), root, template=template, download=download), limit, 0)
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
            raise UsageError(f"{key!r}", "unexpected argument", wanted="--KEY VALUE for a key of the loader")
        if not rest or rest[0].startswith("--"):
            raise UsageError(key, "no value", wanted=f"{key} VALUE")
        keys[key.removeprefix("--").replace("-", "_")] = rest.pop(0)
    return keys


def _captions_of_images(written: Written) -> str:
    return f"{plural(written.captions, 'caption', form=',')} of {plural(written.images, 'image', form=',')}"


def _print_written(output: Path, content: str) -> None:
    say(f"{output}: {content}")
    dim(f"next: cocabench train coca-scratch --set train_data={output}")


def train(
    recipe: Annotated[
        str | None,
        typer.Argument(
            metavar="RECIPE",
            autocompletion=names.recipes,
            help="Name of a recipe, or your own .toml file.",
            show_default="list the recipes",
        ),
    ] = None,
    settings: Annotated[
        list[str] | None, option("KEY=VALUE", "Set model, architecture.PATH, or a flag of open_clip_train.", "--set")
    ] = None,
    output: Annotated[Path | None, option("DIR", "Folder of the run.", show_default="runs/RECIPE")] = None,
    nproc: Annotated[int, option("N", "Number of processes, one per GPU, started by torchrun.", min=1)] = 1,
    device: Annotated[str, option("DEVICE", "auto, cpu, cuda, cuda:1 …")] = "auto",
    resume: Annotated[bool, flag("--resume", "Resume from the newest checkpoint in --output.")] = False,
    dry_run: Annotated[bool, flag("--dry-run", "Print the commands and run nothing.")] = False,
    allow_pipe: Annotated[
        bool,
        flag("--allow-pipe", "Allow data of pipe:COMMAND, which runs in a shell: only for recipes that you trust."),
    ] = False,
    memory_check: Annotated[
        bool, flag("--memory-check/--no-memory-check", "Check that the training fits into memory.")
    ] = True,
) -> None:
    """Train a CoCa or CLIP with open_clip's trainer, from scratch or from a checkpoint.

    Example: cocabench train coca-caption-finetune --set train_data=coco.csv --nproc 4
    """
    from cocabench.core.packages import check_open_clip

    check_open_clip()
    from cocabench.train.recipe import find_recipe
    from cocabench.train.training import check_folder, shortage, training

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
    _run(made)


def _run(made: Training) -> None:
    """Train, and print what was written and what to run next."""
    from cocabench.train.training import run

    try:
        written = run(made)
    except KeyboardInterrupt:
        err.print(f"\nstopped; rerun with --resume to continue from {made.checkpoints}", markup=False, soft_wrap=True)
        raise typer.Exit(130) from None
    say(f"{plural(len(written), 'checkpoint')} in {made.checkpoints}")
    quick = " --quick-gelu" if made.settings["force_quick_gelu"] else ""
    dim(f"next: cocabench run --model '{made.model}'{quick} --tasks …")


def _print_recipes() -> None:
    from cocabench.train.recipe import find_recipe, shipped

    recipes = [find_recipe(name) for name in shipped()]
    print_table(["recipe", "model", "summary"], [[recipe.name, recipe.model, recipe.summary] for recipe in recipes])
