"""cocabench run"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from cocabench.cli.console import by_reason, err
from cocabench.cli.epochs import follow
from cocabench.cli.executed import execute
from cocabench.cli.options import (
    Cache,
    DataRoot,
    Decoding,
    Java,
    Precision,
    RequireMetrics,
    SkipBadImages,
    beam_groups_of,
    names_of,
)
from cocabench.cli.planned import preflight, print_plan
from cocabench.errors import MetricUnavailableError, UsageError
from cocabench.spec import parse_models

if TYPE_CHECKING:
    from cocabench.registry import ModelPlan, Task

MODEL_HELP = "Models, comma-separated: NAME, NAME:TAG, NAME:FILE, a folder, hf-hub:ORG/REPO, demo, NAME:random@SEED."
TASKS_OWN = "Captioning: overrides the task file's {}."


def run(
    model: Annotated[list[str], typer.Option("--model", help=MODEL_HELP)],
    tasks: Annotated[list[str], typer.Option("--tasks", help="Tasks, groups, or .toml files, comma-separated.")],
    data_root: DataRoot = Path("data"),
    output: Annotated[Path, typer.Option(help="The results folder.")] = Path("results"),
    device: Annotated[
        str,
        typer.Option("--device", "--devices", help="auto, cpu, cuda:1; a process each: all, 0,1, cpu,cpu."),
    ] = "auto",
    precision: Annotated[Precision, typer.Option(help="auto: fp32 on the CPU, fp16 on CUDA.")] = Precision.AUTO,
    compiled: Annotated[
        bool, typer.Option("--compile", help="torch.compile image towers; on a CPU this needs a C++ compiler.")
    ] = False,
    batch_size: Annotated[str, typer.Option(help="auto or a number; halved when memory runs out.")] = "auto",
    workers: Annotated[
        int | None, typer.Option(min=0, help="Processes that decode images.", show_default="auto")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Use a random subset of this many images; labelled.")] = None,
    seed: Annotated[int, typer.Option(help="Of --limit's subset and of the intervals.")] = 0,
    quick_gelu: Annotated[
        bool | None,
        typer.Option(
            "--quick-gelu/--no-quick-gelu",
            help="For checkpoint files trained with it.",
            show_default="the architecture's",
        ),
    ] = None,
    download: Annotated[bool, typer.Option("--download", help="Let data sets be downloaded.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan; load nothing.")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Run again what is already done.")] = False,
    skip_bad_images: SkipBadImages = False,
    cache: Cache = None,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Read and keep no features of other runs.")] = False,
    beams: Annotated[
        int | None, typer.Option(min=1, help=TASKS_OWN.format("num_beams"), show_default="the task's")
    ] = None,
    beam_groups: Annotated[
        int | None, typer.Option(min=1, help=TASKS_OWN.format("num_beam_groups"), show_default="the task's")
    ] = None,
    max_length: Annotated[
        int | None, typer.Option(min=2, help=TASKS_OWN.format("seq_len"), show_default="the task's")
    ] = None,
    min_length: Annotated[
        int | None, typer.Option(min=0, help=TASKS_OWN.format("min_seq_len"), show_default="the task's")
    ] = None,
    decoding: Annotated[
        Decoding | None, typer.Option(help=TASKS_OWN.format("decoding"), show_default="the task's")
    ] = None,
    java: Java = None,
    require_metrics: RequireMetrics = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the Records as a JSON array, and nothing else, on stdout.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress; errors and the summary only.")] = False,
    watch: Annotated[
        Path | None,
        typer.Option(help="A training's checkpoints: evaluate each as it comes; --model is its architecture."),
    ] = None,
    watch_timeout: Annotated[
        float | None,
        typer.Option(min=0, help="Seconds without a new checkpoint that end --watch.", show_default="never"),
    ] = None,
) -> None:
    """Evaluate models on tasks. Finished results are kept and not run again."""
    from cocabench.models.features import folder
    from cocabench.models.hardware import hardware
    from cocabench.models.processes import device_names, joined, processes
    from cocabench.plan import Settings, plan

    if joined(devices := device_names(device)):
        return
    with processes(devices) as group:
        groups = beam_groups_of(beams) if beams and not beam_groups else beam_groups
        decoder = {
            "num_beams": beams,
            "num_beam_groups": groups,
            "seq_len": max_length,
            "min_seq_len": min_length,
            "decoding": decoding,
            "device": group.devices[0],
        }
        chosen = _tasks(tasks, decoder)
        settings = Settings(
            data_root=data_root,
            output=output,
            cache=None if no_cache else folder(),
            limit=limit,
            seed=seed,
            download=download,
            fresh=fresh,
            skip_bad_images=skip_bad_images,
        )
        computing = partial(
            hardware,
            precision=precision,
            batch_size=_batch_size(batch_size),
            workers=workers,
            skip_bad_images=skip_bad_images,
            compile=compiled,
        )
        machine, *_ = [computing(device=name) for name in group.devices]

        def evaluate(models: Sequence[str]) -> None:
            plans = _models(models, quick_gelu, dry_run, quiet)
            jobs = plan(plans, chosen, settings, machine.precision, compiled=machine.compile)
            unavailable = preflight(jobs, quiet)
            if require_metrics and unavailable:
                raise MetricUnavailableError("--require-metrics", "; ".join(by_reason(unavailable)))
            if dry_run:
                print_plan(jobs, settings, machine)
            else:
                execute(jobs, settings, machine, group, show=not (quiet or as_json), as_json=as_json)

        if watch is None:
            evaluate(model)
        else:
            follow(watch, model, lambda one: evaluate([one]), output, timeout=watch_timeout)


def _models(texts: Sequence[str], quick_gelu: bool | None, dry_run: bool, quiet: bool) -> list[ModelPlan]:
    """Return what --model stands for, and tell the choices that were made."""
    from cocabench.registry import model_plans

    specs = [spec for text in texts for spec in parse_models(text)]
    plans = model_plans(specs, quick_gelu=quick_gelu, download=not dry_run)
    for plan in plans:
        for note in plan.notes if not quiet else ():
            err.print(f"[yellow]note[/yellow] {escape(note)}")
    return plans


def _tasks(texts: Sequence[str], decoder: Mapping[str, Any]) -> list[Task]:
    """Return the tasks that --tasks names, with what is set of the decoder's options."""
    from cocabench.registry import find_tasks

    names = [name for text in texts for name in names_of(text)]
    if not names:
        raise UsageError("--tasks", "no task named", fix="see `cocabench list tasks`")
    set_here = {key: value for key, value in decoder.items() if value is not None}
    return [task.with_params(set_here) for task in find_tasks(names)]


def _batch_size(text: str) -> int | None:
    if text == "auto":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise UsageError("--batch-size", f"got {text!r}", wanted="auto or a number, 1 or more")
    return int(text)
