"""Measure one job: a model on a task's data, into a Record and its samples."""

from __future__ import annotations

import platform
import time
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import torch

from cocabench import __version__
from cocabench.core.types import Model, Progress, Record
from cocabench.metrics.base import Samples, estimate, stack
from cocabench.models.hardware import Hardware, machine_name
from cocabench.run.plan import INTERVAL_SEED, Job, Settings, measurable


def measure(
    job: Job, model: Model, settings: Settings, hardware: Hardware, progress: Progress
) -> tuple[Record, Samples]:
    """Return the Record of a ready job, and its samples."""
    assert job.data, "a ready job has data"
    assert job.signature, "a ready job has a signature"
    evaluator, dataset, spec = job.task.evaluator, job.data.dataset, job.task.spec
    start = time.perf_counter()
    samples = stack(evaluator.score(model, dataset, progress=progress))
    seconds = time.perf_counter() - start
    metrics, skipped = measurable(job.task, dataset)
    unread = tuple(sorted({e.id for e in dataset.examples} - set(samples["image_id"])))
    record = Record(
        task=spec.name,
        model=job.plan.id,
        evaluator=spec.evaluator,
        primary=spec.primary,
        groups=spec.groups,
        signature=job.signature,
        metrics={name: estimate(metric, samples, seed=settings.seed) for name, metric in metrics.items()},
        definitions={name: metric.info for name, metric in metrics.items()},
        skipped_metrics=skipped,
        skipped_images=unread,
        warnings=(
            *(note.text for note in model.notes),
            *_departures(job),
            *dataset.notes,
            *evaluator.notes(dataset),
            *evaluator.remarks(dataset, samples),
        ),
        timing={"seconds": round(seconds, 3)},
        parameters=dict(model.parameters),
        environment={**environment(hardware), INTERVAL_SEED: str(settings.seed)},
        created=datetime.now(UTC).isoformat(timespec="milliseconds"),
    )
    return record, samples


def _departures(job: Job) -> list[str]:
    assert job.data
    return [f"not the standard protocol: {departure}" for departure in job.data.departures]


def environment(hardware: Hardware) -> dict[str, str]:
    """Return versions and hardware: kept for the reader, never compared."""
    packages = ("torch", "torchvision", "pillow", "open_clip_torch", "numpy", "pycocoevalcap", "transformers")
    versions = {name: _version(name) for name in packages}
    cuda = hardware.device.type == "cuda"
    device = machine_name(hardware.device)
    run = {"cocabench": __version__, "python": platform.python_version()}
    machine = {"system": platform.system(), "device": device, "threads": str(torch.get_num_threads())}
    return {**run, **versions, **machine, **({"cuda": str(torch.version.cuda), "driver": _driver()} if cuda else {})}


def _driver() -> str:
    """Return the version line of the NVIDIA driver, where Linux tells it."""
    path = Path("/proc/driver/nvidia/version")
    return path.read_text(encoding="utf-8").partition("\n")[0] if path.is_file() else "unknown"


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "absent"
