"""Execute a plan: models and tasks in, Records out. Prints nothing; an Observer is told what happens."""

from __future__ import annotations

import logging
import os
import platform
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from itertools import groupby
from typing import Protocol

import torch

from cocabench import __version__, thumbnails
from cocabench.errors import CocabenchError
from cocabench.metrics.base import Samples, estimate, stack
from cocabench.models.hardware import Hardware
from cocabench.plan import Job, Settings, State, measurable
from cocabench.registry import ModelPlan
from cocabench.store import Store
from cocabench.types import Model, Progress, Record


class Observer(Protocol):
    """Is told how a run goes on."""

    def loading(self, model: str) -> None: ...

    def started(self, job: Job) -> Progress:
        """A job begins; what is returned is told of its progress."""

    def finished(self, outcome: Outcome) -> None: ...


@dataclass(frozen=True)
class Outcome:
    """What became of a Job: a Record, an error, or neither where the task is not applicable."""

    job: Job
    record: Record | None = None
    error: CocabenchError | None = None


def execute(jobs: Sequence[Job], settings: Settings, hardware: Hardware, observer: Observer) -> Iterator[Outcome]:
    """Run the jobs model by model and yield each Outcome as it is known; Records are stored before they are yielded.

    An error ends its job and no other. What was finished before an interruption is in the store.
    """
    store = Store(settings.output)
    for _, group in groupby(jobs, key=lambda job: job.plan.id):
        yield from _execute_model(list(group), settings, hardware, observer, store)


def _execute_model(
    jobs: list[Job], settings: Settings, hardware: Hardware, observer: Observer, store: Store
) -> Iterator[Outcome]:
    model: Model | CocabenchError | None = None
    for job in jobs:
        outcome = _settled(job, store)
        if outcome is None:
            model = model or _loaded(job.plan, hardware, observer)
            outcome = _attempt(job, model, settings, hardware, observer, store)
        observer.finished(outcome)
        yield outcome


def _settled(job: Job, store: Store) -> Outcome | None:
    """Return the Outcome of a job that needs no work; a Record whose metrics were made anew is kept."""
    if job.state is State.READY:
        return None
    if job.record is not None and job.record != store.get(job.record.model, job.record.task, job.record.signature):
        store.put_record(job.record)
    return Outcome(job, job.record, job.error)


def _loaded(plan: ModelPlan, hardware: Hardware, observer: Observer) -> Model | CocabenchError:
    observer.loading(plan.id)
    try:
        return plan.load(hardware)
    except CocabenchError as error:
        return error
    except Exception as error:  # noqa: BLE001 — one model's surprise must not lose the others' results
        return _surprise(plan.id, error)


def _attempt(
    job: Job,
    model: Model | CocabenchError,
    settings: Settings,
    hardware: Hardware,
    observer: Observer,
    store: Store,
) -> Outcome:
    if isinstance(model, CocabenchError):
        return Outcome(job, error=model)
    progress = observer.started(job)
    try:
        record, samples = measure(job, model, settings, hardware, progress)
        _keep_thumbnails(job, store)
        store.put(record, samples)
    except CocabenchError as error:
        return Outcome(job, error=error)
    except Exception as error:  # noqa: BLE001 — one task's surprise must not lose the others' results
        return Outcome(job, error=_surprise(job.task.name, error))
    return Outcome(job, record)


def _surprise(where: str, error: Exception) -> CocabenchError:
    """Return an error that nobody foresaw as one of ours; its traceback goes to the log."""
    logging.getLogger(__name__).error("unforeseen error in %s", where, exc_info=error)
    return CocabenchError(where, f"{type(error).__name__}: {error}", fix="this is a bug; please report the traceback")


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
            *model.warnings,
            *_departures(job),
            *dataset.notes,
            *evaluator.notes(dataset),
            *evaluator.remarks(dataset, samples),
        ),
        timing={"seconds": round(seconds, 3)},
        parameters=dict(model.parameters),
        environment=environment(hardware),
        created=datetime.now(UTC).isoformat(timespec="milliseconds"),
    )
    return record, samples


def _departures(job: Job) -> list[str]:
    assert job.data
    return [f"not the standard protocol: {departure}" for departure in job.data.departures]


def _keep_thumbnails(job: Job, store: Store) -> None:
    assert job.data
    fingerprint = job.data.fingerprint
    if not store.thumbnails_path(fingerprint).exists():
        pictures = {e.id: thumbnails.jpeg(e) for e in thumbnails.chosen(job.data.dataset.examples)}
        store.put_thumbnails(fingerprint, {key: data for key, data in pictures.items() if data is not None})


def environment(hardware: Hardware) -> dict[str, str]:
    """Return versions and hardware: kept for the reader, never compared."""
    packages = ("torch", "torchvision", "pillow", "open_clip_torch", "numpy", "pycocoevalcap", "transformers")
    versions = {name: _version(name) for name in packages}
    cuda = hardware.device.type == "cuda"
    device = (
        torch.cuda.get_device_name(hardware.device) if cuda else f"{platform.machine()} CPU, {os.cpu_count()} cores"
    )
    python = platform.python_version()
    return {"cocabench": __version__, "python": python, **versions, "system": platform.system(), "device": device}


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "absent"
