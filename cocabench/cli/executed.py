"""Execute a plan before the eyes of the terminal, and sum it up."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer
from rich.markup import escape

from cocabench.cli.console import err, out

if TYPE_CHECKING:
    from cocabench.models.hardware import Hardware
    from cocabench.run.execute import Outcome
    from cocabench.run.plan import Job, Settings


def execute(jobs: Sequence[Job], settings: Settings, machine: Hardware, *, show: bool, as_json: bool) -> None:
    """Run the jobs, print the summary, say what failed.

    Exits with 1 where a job failed, 2 where none could be started, and 130 when interrupted.
    """
    from cocabench.cli.watch import Bars, Quiet
    from cocabench.results.store import Store
    from cocabench.run import execute as run

    Store(settings.output).check_writable()
    outcomes: list[Outcome] = []
    try:
        with Bars() if show else Quiet() as observer:
            for outcome in run.execute(jobs, settings, machine, observer):
                outcomes.append(outcome)
    except KeyboardInterrupt:
        done = sum(outcome.record is not None for outcome in outcomes)
        kept = f"{done} of {len(jobs)} results are kept in {settings.output}, the same command goes on"
        err.print(f"\nstopped; {escape(kept)}", soft_wrap=True)
        raise typer.Exit(130) from None
    _summary(outcomes, settings, as_json)
    if code := _tell_failures(outcomes):
        raise typer.Exit(code)


def _tell_failures(outcomes: Sequence[Outcome]) -> int:
    """Print each error once, with the models and tasks that it ended; return the exit code."""
    from cocabench.run.plan import State

    ended: dict[str, list[Job]] = {}
    for outcome in outcomes:
        if outcome.error is not None:
            ended.setdefault(str(outcome.error), []).append(outcome.job)
    for said, jobs in ended.items():
        models = ", ".join(dict.fromkeys(job.plan.id for job in jobs))
        tasks = list(dict.fromkeys(job.task.name for job in jobs))
        where = f"{models} on {tasks[0] if len(tasks) == 1 else f'{len(tasks)} tasks'}"
        err.print(f"[red]failed[/red] {escape(f'{where}: {said}')}", soft_wrap=True)
    started = any(outcome.record is not None or outcome.job.state is State.READY for outcome in outcomes)
    return (1 if started else 2) if ended else 0


def _summary(outcomes: Sequence[Outcome], settings: Settings, as_json: bool) -> None:
    from cocabench.cli.compare import print_results
    from cocabench.cli.epochs import print_best
    from cocabench.cli.published import print_published
    from cocabench.results.compare import compare
    from cocabench.results.efficiency import sentences, training_costs
    from cocabench.results.store import Store

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
