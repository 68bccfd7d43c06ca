"""What the terminal shows of a plan before anything runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.markup import escape

from cocabench.cli.console import err, out, print_table

if TYPE_CHECKING:
    from cocabench.plan import Job


def preflight(jobs: Sequence[Job], quiet: bool) -> dict[str, str]:
    """Say before anything runs which metrics cannot, and how to mend it."""
    missing = {
        name: why
        for job in jobs
        if job.state in ("ready", "done")
        for name, why in job.task.evaluator.unavailable().items()
    }
    for name, why in missing.items() if not quiet else ():
        err.print(f"[yellow]skipped[/yellow] {escape(name)}: {escape(why)}")
    return missing


def print_plan(jobs: Sequence[Job]) -> None:
    rows = [
        [job.plan.id, job.task.name, str(job.state), str(len(job.data.dataset)) if job.data else ""] for job in jobs
    ]
    print_table(["model", "task", "state", "images"], [[escape(cell) for cell in row] for row in rows])
    reasons = {f"{job.task.name}: {job.reason}": None for job in jobs if job.reason and job.state != "not applicable"}
    for reason in reasons:
        out.print(escape(reason), soft_wrap=True)
    ready = [job for job in jobs if job.state == "ready"]
    images = sum(len(job.data.dataset) for job in ready if job.data)
    out.print(f"{len(ready)} of {len(jobs)} to run, {images:,} images to process")
