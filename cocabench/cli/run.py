"""cocabench run"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import typer
from rich.markup import escape

from cocabench.cli import decoder
from cocabench.cli import options as o
from cocabench.cli.cells import execute, preflight, print_plan
from cocabench.cli.console import by_reason, err
from cocabench.cli.epochs import follow
from cocabench.core.errors import MetricUnavailableError, UsageError
from cocabench.specs.spec import parse_models

if TYPE_CHECKING:
    from cocabench.core.types import Source
    from cocabench.models.hardware import Hardware
    from cocabench.run.plan import Plan, Planner
    from cocabench.run.prepare import Settings
    from cocabench.specs.registry import Task

BESIDE_A_PLAN = {"plan", "cell", "as_json", "quiet", "java", "require_metrics"}
"""Options that a plan file does not hold."""


def run(
    context: typer.Context,
    model: o.Models = None,
    tasks: o.Tasks = None,
    data_root: o.DataRoot = Path("data"),
    limit: o.Limit = None,
    seed: o.Seed = 0,
    download: o.Download = False,
    output: o.Output = Path("results"),
    fresh: o.Fresh = False,
    cache: o.Cache = None,
    no_cache: o.NoCache = False,
    device: o.Devices = "auto",
    precision: o.PrecisionOption = o.Precision.AUTO,
    compiled: o.Compile = False,
    batch_size: o.BatchSize = "auto",
    workers: o.Workers = None,
    quick_gelu: o.QuickGelu = None,
    preprocess: o.Preprocess = "",
    skip_bad_images: o.SkipBadImages = False,
    num_beams: decoder.TaskNumBeams = None,
    num_beam_groups: decoder.TaskNumBeamGroups = None,
    seq_len: decoder.TaskSeqLen = None,
    min_seq_len: decoder.TaskMinSeqLen = None,
    decoding: decoder.TaskDecoding = None,
    java: o.Java = None,
    require_metrics: o.RequireMetrics = False,
    dry_run: o.DryRun = False,
    plan: o.PlanFile = None,
    cell: o.CellNumber = None,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
    watch: o.Watch = None,
    watch_timeout: o.WatchTimeout = None,
) -> None:
    """Evaluate models on tasks. Finished results are kept and not run again."""
    from cocabench.core.cache import spaces_folder
    from cocabench.models.hardware import one_device
    from cocabench.run.prepare import Settings

    shown = _Shown(require_metrics, dry_run, quiet, as_json)
    if plan is not None:
        _check_alone(context)
        _run_plan(plan, cell, shown)
        return
    if cell is not None:
        raise UsageError("--cell", "no plan", wanted="--plan FILE beside it")
    _check_given(context, "model", "tasks")
    settings = Settings(
        data_root=data_root,
        output=output,
        cache=None if no_cache else spaces_folder(cache),
        limit=limit,
        seed=seed,
        download=download,
        fresh=fresh,
        skip_bad_images=skip_bad_images,
        device=one_device(device),
        precision=precision,
        batch_size=_batch_size(batch_size),
        workers=workers,
        compile=compiled,
        quick_gelu=quick_gelu,
        preprocess=preprocess,
        java=java,
    )
    params = decoder.options(
        num_beams=num_beams,
        num_beam_groups=num_beam_groups,
        seq_len=seq_len,
        min_seq_len=min_seq_len,
        decoding=decoding,
    )
    evaluation = _Evaluation(settings, settings.hardware(), _tasks(tasks or ()), params, shown)
    if watch is None:
        evaluation(model or ())
    else:
        follow(watch, model or (), lambda one: evaluation([one]), output, timeout=watch_timeout)


@dataclass(frozen=True)
class _Shown:
    """What of a run is printed, and what must be there."""

    require_metrics: bool
    dry_run: bool
    quiet: bool
    as_json: bool

    def __call__(self, plan: Plan, planner: Planner, machine: Hardware) -> None:
        """Print a plan, or run it and print what came of it."""
        unavailable = preflight(plan, planner, self.quiet or (self.dry_run and self.as_json))
        if self.require_metrics and unavailable:
            raise MetricUnavailableError("--require-metrics", "; ".join(by_reason(unavailable)))
        if self.dry_run and self.as_json:
            print(plan.to_json())
        elif self.dry_run:
            print_plan(plan, planner, machine)
        else:
            execute(plan, planner, machine, show=not (self.quiet or self.as_json), as_json=self.as_json)


@dataclass(frozen=True)
class _Evaluation:
    """What ``run`` does with models, however many times: plan, then tell the plan or execute it."""

    settings: Settings
    machine: Hardware
    tasks: Sequence[Task]
    params: Mapping[str, Any]
    shown: _Shown

    def __call__(self, models: Sequence[str]) -> None:
        from cocabench.run.execute import planner_for

        sources = _models(models, self.settings, self.shown)
        planner = planner_for(self.settings, self.machine, download=not self.shown.dry_run)
        self.shown(planner.plan(sources, self.tasks, self.params), planner, self.machine)


def _run_plan(path: Path, number: int | None, shown: _Shown) -> None:
    """Run a plan file, or one of its cells."""
    from cocabench.models.hardware import one_device
    from cocabench.run.execute import planner_for
    from cocabench.run.plan import Plan

    plan = Plan.read(path)
    if number is not None and number >= len(plan.cells):
        raise UsageError(
            f"--cell {number}", f"{path} has {len(plan.cells)} cells", wanted=f"0 to {len(plan.cells) - 1}"
        )
    chosen = plan if number is None else replace(plan, cells=(plan.cells[number],))
    one_device(plan.settings.device)
    machine = plan.settings.hardware()
    planner = planner_for(plan.settings, machine, download=not shown.dry_run)
    shown(chosen, planner, machine)


def _check_alone(context: typer.Context) -> None:
    """UsageError for options beside --plan that the plan file holds."""
    for param in context.command.params:
        source = context.get_parameter_source(param.name or "")
        if source and source.name == "COMMANDLINE" and param.name not in BESIDE_A_PLAN:
            raise UsageError(
                "--plan", f"{param.opts[0]} beside it", fix="the plan holds it: leave it out, or plan again"
            )


def _check_given(context: typer.Context, *names: str) -> None:
    """What is needed without --plan, told as typer tells what is always needed."""
    for param in context.command.params:
        if param.name in names and not context.params[param.name]:
            raise typer.BadParameter("", ctx=context, param=cast(Any, param))


def _models(texts: Sequence[str], settings: Settings, shown: _Shown) -> list[Source]:
    """Return what --model stands for, and tell the choices that were made."""
    from cocabench.specs.registry import model_sources

    specs = [spec for text in texts for spec in parse_models(text)]
    sources = model_sources(
        specs, quick_gelu=settings.quick_gelu, preprocess=settings.preprocess, download=not shown.dry_run
    )
    for source in sources:
        for note in source.notes if not shown.quiet else ():
            err.print(f"[yellow]note[/yellow] {escape(note.text)}", soft_wrap=True)
    return sources


def _tasks(texts: Sequence[str]) -> list[Task]:
    """Return the tasks that --tasks names."""
    from cocabench.specs.registry import find_tasks

    names = [name for text in texts for name in o.names_of(text)]
    if not names:
        raise UsageError("--tasks", "no task named", fix="see `cocabench list tasks`")
    return find_tasks(names)


def _batch_size(text: str) -> int | None:
    if text == "auto":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise UsageError("--batch-size", f"got {text!r}", wanted="auto or a number, 1 or more")
    return int(text)
