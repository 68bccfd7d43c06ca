"""cocabench train: recipes over open_clip's own trainer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from cocabench.cli import names
from cocabench.cli.console import err, out, print_table
from cocabench.cli.options import flag, option


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
        _list()
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
        err.print(f"[yellow]note[/yellow] {escape(note)}", soft_wrap=True)
    check_folder(made, resume=resume)
    if too_much := shortage(made.plan, made.settings, made.device, nproc) if memory_check else None:
        if not dry_run:
            raise too_much
        err.print(f"[yellow]note[/yellow] {escape(str(too_much))}", soft_wrap=True)
    if dry_run:
        err.print(f"[dim]values: {escape(chosen.source)}[/dim]" if chosen.source else "", soft_wrap=True)
        print(made.script)
        return
    try:
        written = run(made)
    except KeyboardInterrupt:
        err.print(f"\nstopped; rerun with --resume to continue from {made.checkpoints}", soft_wrap=True)
        raise typer.Exit(130) from None
    out.print(f"{len(written)} checkpoints in {made.checkpoints}", soft_wrap=True)
    quick = " --quick-gelu" if made.settings["force_quick_gelu"] else ""
    out.print(f"[dim]next: cocabench run --model '{escape(made.model)}'{quick} --tasks …[/dim]", soft_wrap=True)


def _list() -> None:
    from cocabench.train.recipe import find_recipe, shipped

    recipes = [find_recipe(name) for name in shipped()]
    print_table(["recipe", "model", "summary"], [[escape(r.name), escape(r.model), escape(r.summary)] for r in recipes])
