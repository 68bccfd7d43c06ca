"""Plans on the terminal: print one, or execute it with progress, summary and errors."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Self

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn
from rich.text import Text

from cocabench.cli.console import by_reason, dim, err, labelled, out, print_json, print_table, say
from cocabench.cli.tables import print_published, print_results
from cocabench.core.cache import DiskCache, open_cache, size_limit
from cocabench.core.errors import ResultsError
from cocabench.core.formatting import number, plural
from cocabench.core.types import Progress as Report
from cocabench.core.types import Record
from cocabench.models.cached import count_images, space
from cocabench.models.hardware import Hardware
from cocabench.results.compare import compare_models
from cocabench.results.efficiency import sentences, training_costs
from cocabench.results.epochs import best_epochs
from cocabench.results.prompts import HEADER, cells, legend, prompt_rows, several
from cocabench.results.records import prompts_label
from cocabench.results.store import Store
from cocabench.results.trackers import track
from cocabench.run.engines import Engine
from cocabench.run.execute import Outcome, Unobserved
from cocabench.run.outcomes import keep
from cocabench.run.plan import DECODING, Cell, Plan, Planner, State, Step, step_key
from cocabench.run.prepare import Settings


def unavailable_metrics(plan: Plan, planner: Planner, quiet: bool) -> dict[str, str]:
    """Return the metrics that cannot run with the reasons, and print them."""
    missing = planner.unavailable(plan)
    for phrase in by_reason(missing) if not quiet else ():
        labelled("skipped", phrase)
    return missing


def print_plan(plan: Plan, planner: Planner, machine: Hardware) -> None:
    """Print the steps of a plan, the number of images whose features are cached, and the notes on the data."""
    steps = [(cell, step) for cell in plan.cells for step in cell.steps]
    held = [_cached(cell, step, planner, machine) if step.state == State.READY else 0 for cell, step in steps]
    rows = [
        [cell.model, _title(step), str(step.state), str(step.work.get("images", "")), str(cached or "")]
        for (cell, step), cached in zip(steps, held, strict=True)
    ]
    print_table(["model", "task", "state", "images", "cached"], rows)
    for reason in dict.fromkeys(_reason(cell, step) for cell, step in steps if step.reason):
        say(reason)
    for task, note in planner.data_notes(plan):
        labelled("note", f"{task}: {note.text}", console=out)
    ready = [step for _, step in steps if step.state == State.READY]
    images = sum(step.work.get("images", 0) for step in ready)
    cached = f", {sum(held):,} of them cached" if any(held) else ""
    pairs = sum(n for step in ready if (n := step.work.get("captions", 0)) > step.work.get("images", 0))
    scored = f", {plural(pairs, 'caption', form=',')} to score" if pairs else ""
    say(f"{len(ready)} of {len(steps)} to run, {plural(images, 'image', form=',')} to process{cached}{scored}")


def print_refusals(plan: Plan) -> int:
    """Print why nothing of a plan can run; return the exit code, 0 if a step can run or is done."""
    steps = [(cell, step) for cell in plan.cells for step in cell.steps]
    if any(step.state in (State.READY, State.DONE) for _, step in steps):
        return 0
    reasons = dict.fromkeys(_reason(cell, step) for cell, step in steps)
    labelled("failed", f"nothing can run; {'; '.join(reasons)}", colour="red")
    return 2


def _reason(cell: Cell, step: Step) -> str:
    model = f" with {cell.model}" if step.state == State.NOT_APPLICABLE else ""
    return f"{_title(step)}{model}: {step.reason}"


def _title(step: Step) -> str:
    """Return ``pets``, or ``pets [templates cifar10]`` with other prompts than the task's."""
    return f"{step.task} [{label}]" if (label := prompts_label(step.params)) else step.task


def _cached(cell: Cell, step: Step, planner: Planner, machine: Hardware) -> int:
    """Return the number of images of a ready step with cached features; 0 for captioning, which reads all images, and
    for models whose weights are not hashed yet."""
    if not step.record:
        return 0
    job = planner.job(cell.model, step)
    folder = planner.settings.cache
    if not (job.data and job.signature and folder) or job.task.kind.needs() & DECODING:
        return 0
    cache, made = DiskCache(folder, size_limit()), (job.signature.model, machine.device_type)
    if not cache.path(space("images", *made)).is_file():
        return 0
    return count_images(cache, *made, job.data.known_contents(cache))


class Terminated(KeyboardInterrupt):
    """Raised by SIGTERM, with which Slurm and Kubernetes ask a process to stop."""


@contextmanager
def stopping_when_asked() -> Iterator[None]:
    """Let SIGTERM stop the body as Ctrl-C does: what is computed is kept. Only in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: object) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def execute(
    plan: Plan,
    settings: Settings,
    engine: Engine,
    *,
    show: bool,
    as_json: bool,
    summary: bool = True,
    tracker: str | None = None,
) -> None:
    """Run a plan, print the summary (if wanted) and the errors. tracker: where to log the results, too.

    Exits with 1 if a step failed, 2 if none could be started, 130 if interrupted, and 143 after SIGTERM.
    """
    assert settings.output, "the command line stores its results"
    store = Store(settings.output)
    store.check_writable()
    planned = {(cell.model, step_key(step)): step for cell in plan.cells for step in cell.steps}
    outcomes: list[Outcome] = []
    try:
        with (
            stopping_when_asked(),
            Bars() if show else Quiet() as observer,
            open_cache(settings.cache, lambda note: observer.note(note.text)) as cache,
        ):
            for outcome in engine.run(plan, cache, store, observer):
                _keep(settings.output, planned[outcome.model, step_key(outcome.step)], outcome, observer)
                outcomes.append(outcome)
    except KeyboardInterrupt as stopped:
        done = sum(outcome.record is not None for outcome in outcomes)
        total = sum(len(cell.steps) for cell in plan.cells)
        saved = f"{done} of {total} results are saved in {settings.output}; rerun to resume"
        err.print(f"\nstopped; {saved}", soft_wrap=True, markup=False)
        raise typer.Exit(143 if isinstance(stopped, Terminated) else 130) from None
    places = {key: place for place, key in enumerate(planned)}
    outcomes.sort(key=lambda outcome: places[outcome.model, step_key(outcome.step)])  # several devices end in any order
    records = [outcome.record for outcome in outcomes if outcome.record is not None]
    if summary:
        _print_summary(records, store, as_json)
    if tracker is not None and records:
        runs = track(tracker, store.results(records), settings.output)
        err.print(f"logged {plural(len(records), 'result')} of {plural(runs, 'run')} to {tracker}", highlight=False)
    if code := _print_failures(outcomes):
        raise typer.Exit(code)


def _keep(output: Path, planned: Step, outcome: Outcome, observer: Quiet) -> None:
    try:
        keep(output, planned, outcome)
    except ResultsError as error:  # `cocabench status` then knows less; what is measured is not affected
        observer.note(str(error))


def _print_failures(outcomes: Sequence[Outcome]) -> int:
    """Print each error once, with the failed models and tasks; return the exit code, 2 if nothing was evaluated."""
    ended: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        if outcome.error is not None:
            ended.setdefault(str(outcome.error), []).append(outcome)
    for error, failed in ended.items():
        models = ", ".join(dict.fromkeys(outcome.model for outcome in failed))
        tasks = list(dict.fromkeys(_title(outcome.step) for outcome in failed))
        labelled(
            "failed", f"{models} on {tasks[0] if len(tasks) == 1 else f'{len(tasks)} tasks'}: {error}", colour="red"
        )
    started = any(outcome.record is not None or outcome.step.state == State.READY for outcome in outcomes)
    if not ended and not any(outcome.record is not None for outcome in outcomes):
        reasons = {f"{_title(outcome.step)} with {outcome.model}: {outcome.step.reason}" for outcome in outcomes}
        said = f"; {'; '.join(sorted(reasons))}" if reasons else ": no task"
        labelled("failed", f"nothing was evaluated{said}", colour="red")
        return 2
    return (1 if started else 2) if ended else 0


def _print_summary(records: Sequence[Record], store: Store, as_json: bool) -> None:
    if as_json:
        print_json([record.model_dump(mode="json") for record in records])
    elif records:
        results = store.results(records)
        ablation = several(records)
        comparison = compare_models(results)
        print_results(results, replace(comparison, left_out=()) if ablation else comparison)
        if ablation:
            rows = prompt_rows(results)
            print_table(HEADER, [cells(row) for row in rows])
            for sentence in legend(rows):
                dim(sentence)
        print_published(records)
        print_best(records)
        for cost in training_costs(records):
            for sentence in sentences(cost):
                say(sentence)


def print_best(records: Iterable[Record]) -> None:
    """Print the best epoch of each run, task and metric of quality, with its interval."""
    for best in best_epochs(records):
        if best.info.kind == "quality":
            epoch = f"best of {best.n_epochs} is {best.epoch.unit} {best.epoch.number}"
            value = number(best.estimate, best.info)
            say(f"{best.epoch.run}, {best.task}, {best.metric}: {epoch} with {value}")


class Quiet(Unobserved):
    """An Observer that prints notes only."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def note(self, text: str) -> None:
        labelled("note", text)


class Bars(Quiet):
    """An Observer with a progress bar per stage (images/s, time left) and a line per finished step, on stderr."""

    def __init__(self) -> None:
        super().__init__()
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
        )
        self.bars = Progress(*columns, console=err, transient=True)
        self.shown: dict[tuple[str, str], _Bar] = {}
        self.heading = ""

    def __enter__(self) -> Self:
        self.bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bars.stop()

    def loading(self, model: str) -> None:
        if self.heading != model:
            self.heading = model
            err.print(Text(model, "bold"))

    def started(self, model: str, step: Step) -> Report:
        self._remove(model, step)
        self.shown[model, step_key(step)] = bar = _Bar(self.bars, _title(step))
        return bar

    def finished(self, outcome: Outcome) -> None:
        self._remove(outcome.model, outcome.step)
        self.loading(outcome.model)  # what is done or not applicable ends without being loaded
        err.print(_line(outcome))

    def _remove(self, model: str, step: Step) -> None:
        if (bar := self.shown.pop((model, step_key(step)), None)) is not None:
            self.bars.remove_task(bar.task)


@contextmanager
def bar(name: str) -> Iterator[Report]:
    """Show a progress bar for work outside a run."""
    with Bars() as shown:
        yield _Bar(shown.bars, name)


class _Bar:
    """A progress bar for the stages of a step."""

    def __init__(self, progress: Progress, name: str) -> None:
        self.progress, self.name, self.stage = progress, name, ""
        self.task = progress.add_task(name, total=None, rate="")
        self.start = time.perf_counter()

    def __call__(self, stage: str, done: int, total: int) -> None:
        if stage != self.stage:
            self.stage, self.start = stage, time.perf_counter()
            self.progress.reset(self.task, total=total, description=f"{self.name}: {stage}")
        rate = done / max(time.perf_counter() - self.start, 1e-9)
        self.progress.update(self.task, completed=done, rate=f"{rate:,.0f}/s" if done else "")


def _line(outcome: Outcome) -> Text:
    """Return the line of a finished step."""
    name, record = _title(outcome.step), outcome.record
    if outcome.error is not None:
        return Text.assemble("  ", (f"✗ {name}", "red"), "  ", ("failed, see below", "dim"))
    if record is None:
        return Text(f"  – {name}  not applicable: {outcome.step.reason}", "dim")
    known = record.primary in record.metrics
    value = number(record.metrics[record.primary], record.definitions[record.primary]) if known else "no score"
    tail = "(already done)" if outcome.step.state is State.DONE else f"{record.timing.get('seconds', 0):.0f} s"
    return Text.assemble("  ", ("✓", "green"), f" {name}  {record.primary} {value}  ", (tail, "dim"))
