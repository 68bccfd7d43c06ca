"""What a run will do: every model on every task, with its data found or missing, and what is already done."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from importlib import metadata
from pathlib import Path

from pydantic import JsonValue

from cocabench.core.errors import CocabenchError, DataError, ResultsError
from cocabench.core.signature import digest
from cocabench.core.types import Dataset, Record, Signature, Source
from cocabench.data.base import fingerprint, limited
from cocabench.metrics.base import DEFINITIONS, Metric, estimate
from cocabench.results.store import Store
from cocabench.specs.registry import FailedSource, Task, check_primary

INTERVAL_SEED = "interval_seed"
"""Where a Record's environment holds --seed. It moves no value: the ends of resampled intervals alone, and --limit's
subset, whose hash is in the signature."""


class State(StrEnum):
    READY = "ready"
    DONE = "done"
    FAILED = "cannot run"
    NOT_APPLICABLE = "not applicable"


@dataclass(frozen=True)
class Settings:
    """What to measure and where to keep it; how to compute is the Hardware.

    cache: the folder of features; None keeps them for one run only.
    """

    data_root: Path = Path("data")
    output: Path = Path("results")
    cache: Path | None = None
    limit: int | None = None
    seed: int = 0
    download: bool = False
    fresh: bool = False
    skip_bad_images: bool = False


@dataclass(frozen=True)
class Data:
    """A task's data as they will be used, the protocol part of the signature, and departures from the standard."""

    dataset: Dataset
    protocol: dict[str, JsonValue]
    departures: tuple[str, ...]

    @property
    def fingerprint(self) -> str:
        return digest(self.protocol["data"])


@dataclass(frozen=True)
class Job:
    """One model on one task. signature is None where it cannot be known yet (no data, weights not downloaded)."""

    plan: Source
    task: Task
    state: State
    reason: str = ""
    error: CocabenchError | None = None
    data: Data | None = None
    signature: Signature | None = None
    record: Record | None = None


def prepare(task: Task, settings: Settings) -> Data:
    """Find a task's data and say how they will be measured. Reads no image."""
    root = settings.data_root.expanduser().resolve()
    whole = task.loader.build(root, download=settings.download)
    if not len(whole):
        raise DataError(task.name, f"no images in {root}", wanted="one at least")
    found = {**fingerprint(whole), "classes": len(task.evaluator.classes(whole))}
    departures = [
        f"{found[name]} {name}, the standard protocol has {wanted}"
        for name, wanted in task.spec.expect
        if wanted is not None and found[name] != wanted
    ]
    dataset = limited(whole, settings.limit, settings.seed) if settings.limit else whole
    check_primary(task, dataset)
    protocol: dict[str, JsonValue] = {
        "task": task.name,
        "version": task.spec.version,
        "evaluator": task.spec.evaluator,
        "metrics": DEFINITIONS,
        "data": fingerprint(dataset),
        "standard": not departures,
        **({"limit": len(dataset)} if dataset.whole else {}),
        **task.evaluator.protocol(dataset),
    }
    return Data(dataset, protocol, tuple(departures))


Prepared = tuple[Task, Data | CocabenchError]
"""A task and its data, or why there are none."""


def plan(
    models: Iterable[Source], tasks: Iterable[Task], settings: Settings, precision: str, *, compiled: bool = False
) -> list[Job]:
    """Return a Job for every model and task, models outermost, so that each is loaded once.

    Tasks keep their order, but captioning comes before others on the same images: it must encode them in any case, and
    the others find the features that it made. precision, compiled: the Hardware's, which move numbers.
    """
    prepared = _captions_first([(task, _data_or_error(task, settings)) for task in tasks])
    store = Store(settings.output)
    return [
        _job(model, identity, task, data, settings, store)
        for model in models
        for identity in [_identity(model, precision, compiled)]
        for task, data in prepared
    ]


def _captions_first(tasks: Sequence[Prepared]) -> list[Prepared]:
    """Put each captioning task before the first other one that reads an image of its own."""
    ordered: list[Prepared] = []
    for task, data in tasks:
        own = _images(data) if task.evaluator.needs == "captioner" else set()
        readers = (i for i, (other, its) in enumerate(ordered) if own and _reads(other, its, own))
        ordered.insert(next(readers, len(ordered)), (task, data))
    return ordered


def _reads(task: Task, data: Data | CocabenchError, images: set[str]) -> bool:
    """Tell whether a task that does not caption reads one of the images."""
    return task.evaluator.needs != "captioner" and not images.isdisjoint(_images(data))


def _images(data: Data | CocabenchError) -> set[str]:
    return (
        {str(image) for example in data.dataset.examples for image in example.images}
        if isinstance(data, Data)
        else set()
    )


def _data_or_error(task: Task, settings: Settings) -> Data | CocabenchError:
    try:
        return prepare(task, settings)
    except CocabenchError as error:
        return error


def _job(
    model: Source,
    identity: dict[str, JsonValue] | None,
    task: Task,
    data: Data | CocabenchError,
    settings: Settings,
    store: Store,
) -> Job:
    job = Job(model, task, State.READY)
    if isinstance(model, FailedSource):
        return replace(job, state=State.FAILED, reason=str(model.error), error=model.error)
    if task.evaluator.needs == "captioner" and "caption" not in model.abilities:
        return replace(job, state=State.NOT_APPLICABLE, reason="the model cannot caption")
    if isinstance(data, CocabenchError):
        return replace(job, state=State.FAILED, reason=str(data), error=data)
    if identity is None:
        return replace(job, data=data, reason="weights to be downloaded")
    signature = Signature(protocol=data.protocol, model=identity)
    job = replace(job, data=data, signature=signature)
    try:
        record = None if settings.fresh else finished(job, settings, store)
    except ResultsError as error:
        return replace(job, state=State.FAILED, reason=str(error), error=error)
    return replace(job, state=State.READY if record is None else State.DONE, record=record)


def _identity(model: Source, precision: str, compiled: bool) -> dict[str, JsonValue] | None:
    """Return the model part of the signature, or None while the weights are not at hand.

    The weights file is hashed: once per model. compile and the version of features are in it where they are set only,
    so that signatures without them stay.
    """
    if not model.available:
        return None
    packages: dict[str, JsonValue] = {name: metadata.version(name) for name in model.packages}
    version = model.features_version
    return {
        **model.signature(),
        "precision": precision,
        **({"compile": True} if compiled else {}),
        **({"features_version": version} if version > 1 else {}),
        "packages": packages,
    }


def finished(job: Job, settings: Settings, store: Store) -> Record | None:
    """Return the stored Record of a job, or None where it must run.

    A Record with skipped images is not that of a run that may skip none. Metrics that it lacks (another K) are
    computed from its samples; None where these do not hold what such a metric reads. Metrics that it has are kept
    although this machine could not measure them.
    """
    assert job.data, "called for jobs with data"
    assert job.signature, "called for jobs with a signature"
    record = store.get(job.plan.id, job.task.name, job.signature)
    if record is None or (record.skipped_images and not settings.skip_bad_images):
        return None
    measured, missing = measurable(job.task, job.data.dataset)
    primary = job.task.spec.primary
    lacking = measured.keys() - record.metrics.keys()
    if not lacking and primary == record.primary:
        return record
    samples = store.samples(record)
    able = {m.name: m for m in job.task.evaluator.metrics(job.data.dataset) if m.column in samples}
    if lacking - able.keys():
        return None
    changed = {
        "metrics": {name: estimate(metric, samples, seed=settings.seed) for name, metric in able.items()},
        "definitions": {name: metric.info for name, metric in able.items()},
        "skipped_metrics": {name: why for name, why in missing.items() if name not in able},
        "primary": primary,
        "environment": {**record.environment, INTERVAL_SEED: str(settings.seed)},
    }
    return record.model_copy(update=changed)


def measurable(task: Task, dataset: Dataset) -> tuple[dict[str, Metric], dict[str, str]]:
    """Return the metrics that can run here by name, and why the others cannot."""
    missing = task.evaluator.unavailable()
    metrics = task.evaluator.metrics(dataset)
    return {m.name: m for m in metrics if m.name.partition("[")[0] not in missing}, missing
