"""cocabench run: evaluate models on tasks, once or for each new checkpoint of a training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import typer

from cocabench.cli import options as o
from cocabench.cli.console import by_reason, err, labelled, say
from cocabench.core.errors import MetricUnavailableError, UsageError
from cocabench.core.formatting import plural
from cocabench.specs.spec import check_preprocess, parse_models

if TYPE_CHECKING:
    from cocabench.core.types import Machine, Source
    from cocabench.models.hardware import Hardware
    from cocabench.results.store import RecordSet
    from cocabench.run.cluster import Chosen
    from cocabench.run.devices import Crew
    from cocabench.run.engines import Engine
    from cocabench.run.plan import Plan, Planner
    from cocabench.run.prepare import Settings
    from cocabench.specs.registry import Task

BESIDE_A_PLAN = {"plan", "cell", "as_json", "quiet", "java", "require_metrics", "device", "ray", "track"}
"""Options that are allowed with --plan."""


def run(
    context: typer.Context,
    model: o.Models = None,
    tasks: o.Tasks = None,
    param: o.Params = None,
    templates: o.Templates = "",
    classnames: o.Classnames = "",
    data_root: o.DataRoot = Path("data"),
    limit: o.Limit = None,
    seed: o.Seed = 0,
    download: o.Download = False,
    output: o.Output = Path("results"),
    fresh: o.Fresh = False,
    cache: o.Cache = None,
    no_cache: o.NoCache = False,
    device: o.Devices = "auto",
    ray: o.Ray = "",
    precision: o.PrecisionOption = o.Precision.AUTO,
    compile: o.Compile = False,  # noqa: A002
    batch_size: o.BatchSize = "auto",
    workers: o.Workers = None,
    quick_gelu: o.QuickGelu = None,
    preprocess: o.Preprocess = "",
    resize: o.ResizeOption = o.Resize.OWN,
    skip_bad_images: o.SkipBadImages = False,
    num_beams: o.TaskNumBeams = None,
    num_beam_groups: o.TaskNumBeamGroups = None,
    seq_len: o.TaskSeqLen = None,
    min_seq_len: o.TaskMinSeqLen = None,
    decoding: o.TaskDecoding = None,
    java: o.Java = None,
    require_metrics: o.RequireMetrics = False,
    dry_run: o.DryRun = False,
    plan: o.PlanFile = None,
    cell: o.CellNumber = None,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
    track: o.Track = None,
    watch: o.Watch = None,
    watch_timeout: o.WatchTimeout = None,
    report: o.WatchReport = Path("reports/latest"),
) -> None:
    """Evaluate models on tasks and store the results. Finished results are not run again.

    Example: cocabench run --model coca_ViT-L-14 --tasks imagenet1k,flickr30k --data-root /data
    """
    if track is not None:
        from cocabench.results.trackers import imported

        imported(track)  # an error before anything is computed
    action = Action(require_metrics, dry_run, quiet, as_json, summary=watch is None, track=track)
    if plan is not None:
        _check_alone(context)
        _run_plan(context, plan, cell, action)
        return
    if cell is not None:
        raise UsageError("--cell", "given without --plan", wanted="--plan FILE")
    _check_given(context, "model", "tasks")
    place, chosen = _place(context, _settings(context.params)), _tasks(tasks or ())
    evaluation = Evaluation(place, chosen, *_params(context.params, chosen), action)
    if watch is None:
        evaluation(model or ())
    else:
        _follow(watch, model or (), lambda one: evaluation([one]), output, report, timeout=watch_timeout)


def _params(params: Mapping[str, Any], tasks: Sequence[Task]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return what replaces the tasks' params, and further params of each variant of their prompts."""
    known = {name for task in tasks for name in task.param_names}
    return o.decoding(params) | o.params_of(params["param"] or (), known), o.prompts_of(params, known)


def _settings(params: Mapping[str, Any]) -> Settings:
    """Return the options as Settings, whose fields have the same names."""
    from cocabench.core.cache import spaces_folder
    from cocabench.run.prepare import Settings

    parsed = {
        "cache": None if params["no_cache"] else spaces_folder(params["cache"]),
        "batch_size": _batch_size(params["batch_size"]),
        "resize": params["resize"].value,
    }
    return Settings(**{field.name: params[field.name] for field in fields(Settings)} | parsed)


@dataclass(frozen=True)
class Place:
    """Where a run computes. hardware, machine: of each device. chosen: several devices, None: this process alone.

    crew: the workers on a cluster, which run already.
    """

    settings: Settings
    hardware: Hardware
    machine: Machine
    chosen: Chosen | None = None
    crew: Crew | None = None

    def planner(self, *, download: bool) -> Planner:
        from cocabench.run.plan import Planner

        settings = replace(self.settings, precision=self.hardware.precision)
        return Planner(settings, self.machine, download, for_others=self.chosen is not None)

    def engine(self, planner: Planner) -> Engine:
        from cocabench.run.engines import InProcess

        if self.chosen is None:
            return InProcess(planner, self.hardware)
        from cocabench.run.devices import Devices

        return Devices(planner, self.chosen, self.crew)


def _place(context: typer.Context, settings: Settings) -> Place:
    """Return where a run computes; connects to a cluster for the rest of the command."""
    from cocabench.models.hardware import devices
    from cocabench.run.measure import planned_machine

    address = context.params["ray"]
    names = settings.device.split(",") if address else devices(settings.device)
    if len(names) == 1 and not address:
        settings = replace(settings, device=names[0])
        hardware = settings.hardware()
        return Place(settings, hardware, planned_machine(hardware))
    from cocabench.run.cluster import connected, imported_ray, on_cluster, on_this_machine
    from cocabench.run.devices import Crew

    module = imported_ray()
    if not address:
        chosen = on_this_machine(names)
        settings = replace(settings, device=chosen.kind)
        return Place(settings, chosen.hardware(settings), chosen.machine(), chosen)
    context.with_resource(connected(module, address))
    chosen = on_cluster(module, address, names)
    settings = replace(settings, device=chosen.kind)
    crew = Crew(module, chosen, settings, lambda text: labelled("note", text))
    return Place(settings, chosen.hardware(settings), crew.wait_for_one().machine, chosen, crew)


def _batch_size(text: str) -> int | None:
    if text == "auto":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise UsageError("--batch-size", f"got {text!r}", wanted="auto or a number, 1 or more")
    return int(text)


@dataclass(frozen=True)
class Action:
    """What to do with a plan: print it, or execute it with more or less output. summary: print tables of results.

    track: where to log results, too."""

    require_metrics: bool
    dry_run: bool
    quiet: bool
    as_json: bool
    summary: bool = True
    track: str | None = None

    def __call__(self, plan: Plan, planner: Planner, place: Place) -> None:
        """Print the plan, or execute it. Exits with 2 if it is printed and nothing of it can run."""
        from cocabench.cli.execution import execute, print_plan, print_refusals, unavailable_metrics

        unavailable = unavailable_metrics(plan, planner, self.quiet or (self.dry_run and self.as_json))
        if self.require_metrics and unavailable:
            raise MetricUnavailableError("--require-metrics", "; ".join(by_reason(unavailable)))
        if self.dry_run and self.as_json:
            print(plan.to_json())
        elif self.dry_run:
            print_plan(plan, planner, place.hardware)
        else:
            show, tables = not (self.quiet or self.as_json), self.summary or self.as_json
            engine = place.engine(planner)
            execute(plan, planner.settings, engine, show=show, as_json=self.as_json, summary=tables, tracker=self.track)
        if self.dry_run and (code := print_refusals(plan)):
            raise typer.Exit(code)


@dataclass(frozen=True)
class Evaluation:
    """Plans the evaluation of models, then prints or executes the plan. variants: see ``Planner.plan``."""

    place: Place
    tasks: Sequence[Task]
    params: Mapping[str, Any]
    variants: Sequence[Mapping[str, Any]]
    action: Action

    def __call__(self, models: Sequence[str]) -> None:
        download = not self.action.dry_run
        sources = _sources(models, self.place.settings, download, self.action.quiet)
        planner = self.place.planner(download=download)
        planner.for_others |= self.action.dry_run and self.action.as_json
        plan = planner.plan(sources, self.tasks, self.params, variants=self.variants)
        self.action(plan, planner, self.place)


def plan_for_nodes(context: typer.Context, words: Sequence[str], *, gpu: bool, dry_run: bool) -> Plan:
    """Return the plan of a ``run`` command for other machines. gpu: whether they have GPUs if --device does not say."""
    from cocabench.models.hardware import devices
    from cocabench.run.execute import planner_elsewhere

    name, *arguments = words
    command = cast(Any, context.find_root().command).commands["run"]
    if name != "run":
        raise UsageError("submit", f"got {name!r}", wanted="run and its options: submit slurm run --model … --tasks …")
    with command.make_context("run", arguments, parent=context) as inner:
        params = inner.params
        for flag in ("watch", "plan", "cell", "dry_run", "as_json"):
            if params[flag]:
                option = next(param.opts[0] for param in command.params if param.name == flag)
                raise UsageError(option, "given to a submitted run", fix="leave it out")
        _check_given(inner, "model", "tasks")
    settings = _settings(params)
    if params["ray"] or len(devices(settings.device)) > 1:
        fix = "leave --devices and --ray out: Slurm gives each cell a device"
        raise UsageError("submit", "several devices for a cell", fix=fix)
    if settings.device in ("auto", "all"):
        settings = replace(settings, device="cuda" if gpu else "cpu")
        if not gpu:
            labelled("note", "planned for CPUs; for GPUs name them: --gres gpu:1, or run … --device cuda")
    planner = planner_elsewhere(settings, download=not dry_run)
    planner.for_others = True
    sources = _sources(params["model"], settings, not dry_run, quiet=True)
    tasks = _tasks(params["tasks"])
    own, variants = _params(params, tasks)
    return planner.plan(sources, tasks, own, variants=variants)


def _run_plan(context: typer.Context, path: Path, number: int | None, action: Action) -> None:
    """Run a plan file, or one of its cells."""
    from cocabench.run.plan import Plan

    plan = Plan.read(path)
    if number is not None and number >= len(plan.cells):
        wanted = f"0 to {len(plan.cells) - 1}"
        raise UsageError(f"--cell {number}", f"{path} has {plural(len(plan.cells), 'cell')}", wanted=wanted)
    chosen = plan if number is None else replace(plan, cells=(plan.cells[number],))
    given = context.get_parameter_source("device")
    device = context.params["device"] if given and given.name == "COMMANDLINE" else plan.settings.device
    java = context.params["java"]
    if plan.settings.java is not None and java is None:
        fix = f"if you trust it: --java {plan.settings.java}"
        raise UsageError(str(path), f"names a Java, {plan.settings.java}, which would run", fix=fix)
    place = _place(context, replace(plan.settings, device=device, java=java))
    planner = place.planner(download=not action.dry_run)
    planner.since = plan.created
    action(chosen, planner, place)


def _check_alone(context: typer.Context) -> None:
    """Raise UsageError for options that the plan file already sets."""
    for param in context.command.params:
        source = context.get_parameter_source(param.name or "")
        if source and source.name == "COMMANDLINE" and param.name not in BESIDE_A_PLAN:
            fix = "leave it out, or make a new plan with it"
            raise UsageError("--plan", f"given with {param.opts[0]}, which the plan sets", fix=fix)


def _check_given(context: typer.Context, *names: str) -> None:
    """Raise typer's error for a missing option that is required without --plan."""
    for param in context.command.params:
        if param.name in names and not context.params[param.name]:
            raise typer.BadParameter("", ctx=context, param=cast(Any, param))


def _sources(texts: Sequence[str], settings: Settings, download: bool, quiet: bool) -> list[Source]:
    """Return the models of --model, and print the choices that were made."""
    from cocabench.specs.registry import model_sources

    specs = [spec for text in texts for spec in parse_models(text, typed=True)]
    check_preprocess(specs, settings.preprocess)
    sources = model_sources(
        specs,
        quick_gelu=settings.quick_gelu,
        preprocess=settings.preprocess,
        resize=settings.resize,
        download=download,
    )
    for source in sources:
        for note in source.notes if not quiet else ():
            labelled("note", note.text)
    return sources


def _tasks(texts: Sequence[str]) -> list[Task]:
    """Return the tasks of --tasks."""
    from cocabench.specs.registry import find_tasks

    names = [name for text in texts for name in o.names_of(text)]
    if not names:
        raise UsageError("--tasks", "no tasks given", fix="see `cocabench list tasks`")
    return find_tasks(names)


def _follow(
    folder: Path,
    models: Sequence[str],
    evaluate: Callable[[str], None],
    output: Path,
    report: Path,
    *,
    timeout: float | None,
) -> None:
    """Evaluate each new checkpoint in a folder, then print the best. A failed checkpoint does not stop the others.

    After each checkpoint the report of the run so far is written anew, and a line with its scores is printed.
    Exits with 1 if one failed, and with 130 after Ctrl-C.
    """
    from cocabench.cli.execution import print_best
    from cocabench.train.checkpoints import arrivals

    if len(models) != 1 or any(mark in models[0] for mark in ",:"):
        raise UsageError("--watch", f"--model {','.join(models)}", wanted="only the architecture: --model ViT-B-32")
    code = 0
    text = f"waiting for checkpoints in {folder}; to stop, press Ctrl-C or create a file named stop in it"
    err.print(text, markup=False, soft_wrap=True)
    try:
        for path in arrivals(folder, timeout=timeout):
            model = f'{models[0]}:"{path}"' if "," in str(path) else f"{models[0]}:{path}"
            failed = _exit_code(evaluate, model)
            code |= failed
            if not failed:
                _report(_records_of(output, models[0], folder), path, report)
    except KeyboardInterrupt:
        code = 130
    print_best(_records_of(output, models[0], folder))
    if code:
        raise typer.Exit(code)


def _exit_code(evaluate: Callable[[str], None], model: str) -> int:
    """Return the exit code of an evaluation; pass on an interruption."""
    try:
        evaluate(model)
    except typer.Exit as ended:
        if ended.exit_code == 130:
            raise KeyboardInterrupt from None
        return int(ended.exit_code != 0)
    return 0


def _records_of(output: Path, name: str, folder: Path) -> RecordSet:
    """Return the stored results of the checkpoints in a folder, in order of epoch."""
    from cocabench.results.epochs import epoch_of
    from cocabench.results.store import RecordSet, load

    run = epoch_of(f"{name}:{folder}/epoch_0.pt")
    found = load(output) if output.is_dir() else RecordSet((), ())
    points = [(epoch_of(record.model), i) for i, record in enumerate(found)]
    places = [i for _, i in sorted((p.number, i) for p, i in points if p and run and p.run == run.run)]
    return RecordSet(tuple(found.records[i] for i in places), tuple(found.paths[i] for i in places))


def _report(results: RecordSet, checkpoint: Path, folder: Path) -> None:
    """Write the report of a run's checkpoints, and print the scores of one in a line."""
    from cocabench.report.write import write_checkpoints
    from cocabench.results.epochs import epoch_of

    point = epoch_of(str(checkpoint))
    models = [r.model for r in results if point and (own := epoch_of(r.model)) and own.number == point.number]
    if models:
        say(f"{write_checkpoints(results, folder, models[0])}  {folder / 'index.html'}")
