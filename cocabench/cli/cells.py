"""A plan on the terminal: what it would do, running it, and what came of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer
from rich.markup import escape

from cocabench.cli.console import by_reason, err, out, print_table

if TYPE_CHECKING:
    from cocabench.models.hardware import Hardware
    from cocabench.run.execute import Outcome
    from cocabench.run.plan import Cell, Plan, Planner, Step
    from cocabench.run.prepare import Settings


def preflight(plan: Plan, planner: Planner, quiet: bool) -> dict[str, str]:
    """Say before anything runs which metrics cannot, and how to mend it."""
    missing = planner.unavailable(plan)
    for phrase in by_reason(missing) if not quiet else ():
        err.print(f"[yellow]skipped[/yellow] {escape(phrase)}", soft_wrap=True)
    return missing


def print_plan(plan: Plan, planner: Planner, machine: Hardware) -> None:
    """Print what a run would do, with the images whose features an earlier one has kept."""
    steps = [(cell, step) for cell in plan.cells for step in cell.steps]
    held = [_kept(cell, step, planner, machine) if step.state == "ready" else 0 for cell, step in steps]
    rows = [
        [cell.model, step.task, str(step.state), str(step.work.get("images", "")), str(kept or "")]
        for (cell, step), kept in zip(steps, held, strict=True)
    ]
    print_table(["model", "task", "state", "images", "kept"], [[escape(text) for text in row] for row in rows])
    told = [step for _, step in steps if step.reason and step.state != "not applicable"]
    for reason in dict.fromkeys(f"{step.task}: {step.reason}" for step in told):
        out.print(escape(reason), soft_wrap=True)
    ready = [step for _, step in steps if step.state == "ready"]
    images = sum(step.work.get("images", 0) for step in ready)
    kept = f", {sum(held):,} of them known from earlier runs" if any(held) else ""
    out.print(f"{len(ready)} of {len(steps)} to run, {images:,} images to process{kept}")


def _kept(cell: Cell, step: Step, planner: Planner, machine: Hardware) -> int:
    """Return how many images of a ready step the cache holds features of; captioning reads its images in any case."""
    from cocabench.core.cache import DiskCache, size_limit
    from cocabench.models.cached import count_images
    from cocabench.run.plan import DECODING

    job = planner.job(cell.model, step)
    folder = planner.settings.cache
    if not (job.data and job.signature and folder) or job.task.kind.needs() & DECODING:
        return 0
    images = [image for example in job.data.dataset.examples for image in example.images]
    return count_images(DiskCache(folder, size_limit()), job.signature.model, machine.device.type, images)


def execute(plan: Plan, planner: Planner, machine: Hardware, *, show: bool, as_json: bool) -> None:
    """Run a plan, print the summary, say what failed.

    Exits with 1 where a step failed, 2 where none could be started, and 130 when interrupted.
    """
    from cocabench.cli.watch import Bars, Quiet
    from cocabench.core.cache import open_cache
    from cocabench.results.store import Store
    from cocabench.run.engines import InProcess

    settings = planner.settings
    assert settings.output, "the command line stores its results"
    store = Store(settings.output)
    store.check_writable()
    outcomes: list[Outcome] = []
    try:
        with (
            Bars() if show else Quiet() as observer,
            open_cache(settings.cache, lambda note: observer.note(note.text)) as cache,
        ):
            for outcome in InProcess(planner, machine).run(plan, cache, store, observer):
                outcomes.append(outcome)
    except KeyboardInterrupt:
        done = sum(outcome.record is not None for outcome in outcomes)
        total = sum(len(cell.steps) for cell in plan.cells)
        kept = f"{done} of {total} results are saved in {settings.output}; rerun to resume"
        err.print(f"\nstopped; {escape(kept)}", soft_wrap=True)
        raise typer.Exit(130) from None
    _summary(outcomes, settings, as_json)
    if code := _tell_failures(outcomes):
        raise typer.Exit(code)


def _tell_failures(outcomes: Sequence[Outcome]) -> int:
    """Print each error once, with the models and tasks that it ended; return the exit code."""
    ended: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        if outcome.error is not None:
            ended.setdefault(str(outcome.error), []).append(outcome)
    for said, some in ended.items():
        models = ", ".join(dict.fromkeys(outcome.model for outcome in some))
        tasks = list(dict.fromkeys(outcome.step.task for outcome in some))
        where = f"{models} on {tasks[0] if len(tasks) == 1 else f'{len(tasks)} tasks'}"
        err.print(f"[red]failed[/red] {escape(f'{where}: {said}')}", soft_wrap=True)
    started = any(outcome.record is not None or outcome.step.state == "ready" for outcome in outcomes)
    return (1 if started else 2) if ended else 0


def _summary(outcomes: Sequence[Outcome], settings: Settings, as_json: bool) -> None:
    from cocabench.cli.compare import print_results
    from cocabench.cli.epochs import print_best
    from cocabench.cli.published import print_published
    from cocabench.results.compare import compare
    from cocabench.results.efficiency import sentences, training_costs
    from cocabench.results.store import Store

    assert settings.output, "the command line stores its results"
    records = [outcome.record for outcome in outcomes if outcome.record is not None]
    if as_json:
        print(json.dumps([record.model_dump(mode="json") for record in records], ensure_ascii=False, allow_nan=False))
    elif records:
        results = Store(settings.output).results(records)
        print_results(results, compare(results))
        print_published(records)
        print_best(records)
        for cost in training_costs(records):
            for sentence in sentences(cost):
                out.print(escape(sentence), soft_wrap=True)
