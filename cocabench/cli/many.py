"""cocabench status and submit: runs of many cells."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cocabench.cli.console import labelled, print_json, print_table, say
from cocabench.cli.options import Json, flag, option
from cocabench.cli.usage import Commands
from cocabench.core.errors import UsageError
from cocabench.core.formatting import plural

if TYPE_CHECKING:
    from cocabench.run.outcomes import StepProgress

SLURM = "Options of each job"
MAX_ROWS = 40
"""Models in the table of ``status``; the others are counted."""


def status(
    output: Annotated[Path, typer.Argument(metavar="RESULTS", help="The results folder of the plan.")] = Path(
        "results"
    ),
    plan: Annotated[
        Path | None,
        option(
            "FILE",
            "The plan, as `run --dry-run --json` writes it.",
            show_default="what `submit` wrote last into the results folder",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Say which cells of a plan are done, missing or failed, with the cause. Loads no model and reads no data.

    Example: cocabench status results --plan plan.json
    """
    from cocabench.run import slurm
    from cocabench.run.outcomes import Progress, progress
    from cocabench.run.plan import Plan

    file = plan or slurm.last_plan(output)
    if file is None:
        fix = "name one with --plan; `cocabench run … --dry-run --json` writes it"
        raise UsageError("status", f"no plan in {output}", wanted="a plan", fix=fix)
    if not output.is_dir():
        raise UsageError(str(output), "no such folder", wanted="the results folder of the plan")
    found = progress(Plan.read(file), output)
    waiting = slurm.waiting(output)
    if as_json:
        print_json([{**step._asdict(), "queue": waiting.get(step.model, "")} for step in found])
        return
    _print_models(found, waiting)
    causes: dict[str, list[StepProgress]] = {}
    for step in found:
        if step.state is Progress.FAILED:
            causes.setdefault(step.cause, []).append(step)
    for cause, steps in causes.items():
        where = f"{steps[0].model} on {steps[0].task}" if len(steps) == 1 else plural(len(steps), "step")
        say(f"failed: {where}: {cause}")
    missing = {step.model for step in found if step.state is Progress.MISSING}
    if blind := missing.intersection(slurm.unseen(output, waiting)):
        said = f"their jobs ended without a log: can the nodes see {output.resolve()}?"
        say(f"missing: {', '.join(sorted(blind)[:3])}{' …' if len(blind) > 3 else ''}: {said}")
    for model in sorted(missing):
        if lines := slurm.attempts(output, model):
            say(f"missing: {model}: failed {plural(len(lines), 'time')}, last {lines[-1]}")
    counts = Counter(step.state for step in found if step.state is not Progress.NOT_APPLICABLE)
    parts = [f"{counts[state]} {state}" for state in (Progress.MISSING, Progress.FAILED) if counts[state]]
    say(", ".join([f"{counts[Progress.DONE]} of {counts.total()} done", *parts]))


def _print_models(found: Sequence[StepProgress], waiting: dict[str, str]) -> None:
    """Print a row for each model that is not done."""
    from cocabench.run.outcomes import Progress

    counts: dict[tuple[int, str], Counter[Progress]] = {}
    for step in found:
        counts.setdefault((step.cell, step.model), Counter())[step.state] += 1
    states = (Progress.DONE, Progress.MISSING, Progress.FAILED)
    rows = [
        [str(cell), model, *(str(own[state] or "") for state in states), waiting.get(model, "")]
        for (cell, model), own in counts.items()
        if own[Progress.MISSING] or own[Progress.FAILED]
    ]
    if rows:
        print_table(["cell", "model", *states, "queue"], rows[:MAX_ROWS])
    if len(rows) > MAX_ROWS:
        say(f"… and {len(rows) - MAX_ROWS} more models")


submit = typer.Typer(
    cls=Commands,
    help="Submit a run as jobs of a cluster.\n\nExample: cocabench submit slurm --gres gpu:1 run --model … --tasks …",
    no_args_is_help=True,
)


@submit.command("slurm", context_settings={"allow_interspersed_args": False})
def slurm_command(
    context: typer.Context,
    run: Annotated[
        list[str], typer.Argument(metavar="run …", help="The command: `run --model … --tasks …`.", show_default=False)
    ],
    partition: Annotated[str, option("NAME", "Slurm's partition.", panel=SLURM)] = "",
    gres: Annotated[str, option("LIST", "Resources of each job: gpu:1.", panel=SLURM)] = "",
    time: Annotated[str, option("TIME", "Time limit of each job, as Slurm writes it: 4:00:00.", panel=SLURM)] = "",
    cpus_per_task: Annotated[int | None, option("N", "CPUs of each job.", min=1, panel=SLURM)] = None,
    mem: Annotated[str, option("SIZE", "Memory of each job: 32G.", panel=SLURM)] = "",
    sbatch: Annotated[
        list[str] | None, option("OPTION", "Any other option of sbatch: --sbatch=--account=x; repeatable.", panel=SLURM)
    ] = None,
    array_limit: Annotated[int | None, option("K", "At most this many jobs at once.", min=1)] = None,
    retries: Annotated[int, option("N", "Attempts of a cell before it is reported and left alone.", min=1)] = 3,
    dry_run: Annotated[bool, flag("--dry-run", "Print the script and submit nothing.")] = False,
) -> None:
    """Submit a run as a Slurm job array, one job per model; again: only what is missing.

    Example: cocabench submit slurm --partition gpu --gres gpu:1 --time 4:00:00 run --model a,b --tasks vtab+
    """
    from cocabench.cli.run import plan_for_nodes
    from cocabench.run import slurm

    given = {"partition": partition, "gres": gres, "time": time, "cpus-per-task": cpus_per_task, "mem": mem}
    options = [f"--{name}={value}" for name, value in given.items() if value]
    options += [word if word.startswith("-") else f"--{word}" for word in sbatch or ()]
    plan = plan_for_nodes(context, run, gpu="gpu" in " ".join(options), dry_run=dry_run)
    output = plan.settings.output
    assert output, "the command line stores its results"
    submission = slurm.Submission(plan, output.resolve(), options, array_limit, retries)
    cells, queue, tried = slurm.to_send(plan, output, retries)
    for model, lines in tried.items():
        fix = "see `cocabench status`; to try again, raise --retries"
        labelled("given up", f"{model}: failed {plural(len(lines), 'time')}, last {lines[-1]}; {fix}", colour="red")
    if queue:
        say(f"{plural(len(queue), 'cell')} in the queue already")
    if not cells:
        say(f"nothing to submit: {len(plan.cells) - len(queue) - len(tried)} of {plural(len(plan.cells), 'cell')} done")
    elif dry_run:
        say(submission.script())
        for _, words in submission.commands(cells, slurm.max_array_size()):
            say(" ".join(map(shlex.quote, words)))
    else:
        jobs = submission.submit(cells)
        say(f"submitted {plural(len(cells), 'cell')} as {plural(len(jobs), 'job array')}: {', '.join(jobs)}")
        say(f"watch:  squeue --me; cocabench status {shlex.quote(str(output))}")
        say(f"logs:   {submission.folder / 'logs'}")
        say("finish: the same command again submits what is missing; then `cocabench report`")
    if tried:
        raise typer.Exit(1)
