"""What the terminal shows of a plan before anything runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.markup import escape

from cocabench.cli.console import by_reason, err, out, print_table

if TYPE_CHECKING:
    from cocabench.models.hardware import Hardware
    from cocabench.run.plan import Job, Settings


def preflight(jobs: Sequence[Job], quiet: bool) -> dict[str, str]:
    """Say before anything runs which metrics cannot, and how to mend it."""
    missing = {
        name: why
        for job in jobs
        if job.state in ("ready", "done") and job.data
        for name, why in job.data.missing.items()
    }
    for phrase in by_reason(missing) if not quiet else ():
        err.print(f"[yellow]skipped[/yellow] {escape(phrase)}", soft_wrap=True)
    return missing


def print_plan(jobs: Sequence[Job], settings: Settings, machine: Hardware) -> None:
    """Print what a run would do, with the images whose features an earlier one has kept."""
    held = {id(job): _kept(job, settings, machine) for job in jobs if job.state == "ready"}
    rows = [
        [
            job.plan.id,
            job.task.name,
            str(job.state),
            str(_images(job)) if job.data else "",
            str(held.get(id(job)) or ""),
        ]
        for job in jobs
    ]
    print_table(["model", "task", "state", "images", "kept"], [[escape(cell) for cell in row] for row in rows])
    reasons = {f"{job.task.name}: {job.reason}": None for job in jobs if job.reason and job.state != "not applicable"}
    for reason in reasons:
        out.print(escape(reason), soft_wrap=True)
    ready = [job for job in jobs if job.state == "ready"]
    images = sum(map(_images, ready))
    kept = f", {sum(held.values()):,} of them known from earlier runs" if any(held.values()) else ""
    out.print(f"{len(ready)} of {len(jobs)} to run, {images:,} images to process{kept}")


def _images(job: Job) -> int:
    return sum(len(example.images) for example in job.data.dataset.examples) if job.data else 0


def _kept(job: Job, settings: Settings, machine: Hardware) -> int:
    """Return how many images of a ready job the cache holds features of; captioning reads its images in any case."""
    from cocabench.core.cache import DiskCache, size_limit
    from cocabench.models.cached import count_images
    from cocabench.run.plan import DECODED

    if not (job.data and job.signature and settings.cache) or job.task.kind.needs() & DECODED:
        return 0
    images = [image for example in job.data.dataset.examples for image in example.images]
    cache = DiskCache(settings.cache, size_limit())
    return count_images(cache, job.signature.model, machine.device.type, images)
