"""cocabench run"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.markup import escape

from cocabench.cli import decoder
from cocabench.cli import options as o
from cocabench.cli.console import by_reason, err
from cocabench.cli.epochs import follow
from cocabench.cli.executed import execute
from cocabench.cli.planned import preflight, print_plan
from cocabench.core.errors import MetricUnavailableError, UsageError
from cocabench.specs.spec import parse_models

if TYPE_CHECKING:
    from cocabench.core.types import Source
    from cocabench.models.hardware import Hardware
    from cocabench.run.plan import Settings
    from cocabench.specs.registry import Task


def run(
    model: o.Models,
    tasks: o.Tasks,
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
    skip_bad_images: o.SkipBadImages = False,
    num_beams: decoder.TaskNumBeams = None,
    num_beam_groups: decoder.TaskNumBeamGroups = None,
    seq_len: decoder.TaskSeqLen = None,
    min_seq_len: decoder.TaskMinSeqLen = None,
    decoding: decoder.TaskDecoding = None,
    java: o.Java = None,
    require_metrics: o.RequireMetrics = False,
    dry_run: o.DryRun = False,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
    watch: o.Watch = None,
    watch_timeout: o.WatchTimeout = None,
) -> None:
    """Evaluate models on tasks. Finished results are kept and not run again."""
    from cocabench.core.cache import spaces_folder
    from cocabench.models.hardware import hardware, one_device
    from cocabench.run.plan import Settings

    chosen_device = one_device(device)
    kept = None if no_cache else spaces_folder(cache)
    settings = Settings(data_root, output, kept, limit, seed, download, fresh, skip_bad_images)
    machine = hardware(
        device=chosen_device,
        precision=precision,
        batch_size=_batch_size(batch_size),
        workers=workers,
        skip_bad_images=skip_bad_images,
        compile=compiled,
    )
    set_here = decoder.options(
        num_beams=num_beams,
        num_beam_groups=num_beam_groups,
        seq_len=seq_len,
        min_seq_len=min_seq_len,
        decoding=decoding,
    )
    evaluation = _Evaluation(
        _tasks(tasks, set_here), settings, machine, quick_gelu, require_metrics, dry_run, quiet, as_json
    )
    if watch is None:
        evaluation(model)
    else:
        follow(watch, model, lambda one: evaluation([one]), output, timeout=watch_timeout)


@dataclass(frozen=True)
class _Evaluation:
    """What ``run`` does with models, however many times: plan, then tell the plan or execute it."""

    tasks: Sequence[Task]
    settings: Settings
    machine: Hardware
    quick_gelu: bool | None
    require_metrics: bool
    dry_run: bool
    quiet: bool
    as_json: bool

    def __call__(self, models: Sequence[str]) -> None:
        from cocabench.run.measure import machine_of
        from cocabench.run.plan import plan

        sources = _models(models, self.quick_gelu, self.dry_run, self.quiet)
        machine = machine_of(self.machine.device)
        precision, compiled = self.machine.precision, self.machine.compile
        jobs = plan(sources, self.tasks, self.settings, precision, compiled=compiled, machine=machine)
        unavailable = preflight(jobs, self.quiet)
        if self.require_metrics and unavailable:
            raise MetricUnavailableError("--require-metrics", "; ".join(by_reason(unavailable)))
        if self.dry_run:
            print_plan(jobs, self.settings, self.machine)
        else:
            show = not (self.quiet or self.as_json)
            execute(jobs, self.settings, self.machine, show=show, as_json=self.as_json)


def _models(texts: Sequence[str], quick_gelu: bool | None, dry_run: bool, quiet: bool) -> list[Source]:
    """Return what --model stands for, and tell the choices that were made."""
    from cocabench.specs.registry import model_sources

    specs = [spec for text in texts for spec in parse_models(text)]
    sources = model_sources(specs, quick_gelu=quick_gelu, download=not dry_run)
    for source in sources:
        for note in source.notes if not quiet else ():
            err.print(f"[yellow]note[/yellow] {escape(note.text)}", soft_wrap=True)
    return sources


def _tasks(texts: Sequence[str], set_here: Mapping[str, Any]) -> list[Task]:
    """Return the tasks that --tasks names, with what is set of the decoder's options."""
    from cocabench.specs.registry import find_tasks

    names = [name for text in texts for name in o.names_of(text)]
    if not names:
        raise UsageError("--tasks", "no task named", fix="see `cocabench list tasks`")
    return [task.with_params(set_here) for task in find_tasks(names)]


def _batch_size(text: str) -> int | None:
    if text == "auto":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise UsageError("--batch-size", f"got {text!r}", wanted="auto or a number, 1 or more")
    return int(text)
