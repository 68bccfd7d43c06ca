"""What a run will do: every model on every task, with its data found or missing, and what is already done."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from pydantic import JsonValue

from cocabench.core.errors import CocabenchError, DataError, ResultsError
from cocabench.core.signature import digest
from cocabench.core.types import Ability, Dataset, Machine, Note, Record, Signature, Source
from cocabench.data.base import fingerprint, limited
from cocabench.metrics.base import Metric
from cocabench.results.store import Store
from cocabench.specs.registry import FailedSource, Loader, Task, check_primary, one_model

INTERVAL_SEED = "interval_seed"
"""Where a Record's environment holds --seed. It moves no value: the ends of resampled intervals alone, and --limit's
subset, whose hash is in the signature."""

HERE = Machine()
WORDS: Mapping[Ability, str] = {
    "caption": "caption",
    "encode": "encode images and texts",
    "profile": "be profiled",
    "score_captions": "score captions",
}
DECODED: frozenset[Ability] = frozenset({"caption", "score_captions"})
"""What the decoder does; it encodes the images on the way."""

EXTRA_DATA = "extra_data"
"""Where a protocol holds the fingerprints of a kind's further splits."""


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
    """A task's data as they will be used, and what is measured on them.

    protocol: that part of the signature. departures: from the standard protocol. metrics: those that can run here, by
    name; missing: why the others cannot. further: the kind's extra data. beside: the plans of its extra models that
    are here.
    """

    dataset: Dataset
    protocol: dict[str, JsonValue]
    departures: tuple[Note, ...] = ()
    metrics: Mapping[str, Metric] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)
    further: Mapping[str, Dataset] = field(default_factory=dict)
    beside: Mapping[str, Source] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        return digest(self.protocol["data"])


@dataclass(frozen=True)
class Job:
    """One model on one task. signature is None where it cannot be known yet (no data, weights not downloaded).

    renew: the record lacks a metric, or has another primary one; execution makes it anew from its samples.
    """

    plan: Source
    task: Task
    state: State
    reason: str = ""
    error: CocabenchError | None = None
    data: Data | None = None
    signature: Signature | None = None
    record: Record | None = None
    renew: bool = False


def prepare(task: Task, settings: Settings, precision: str = "fp32", machine: Machine = HERE) -> Data:
    """Find a task's data and say how they will be measured. Reads no image. precision: of the run."""
    kind = task.kind
    whole = _built(task, task.loader, settings)
    further = {key: _built(task, task.with_split(split), settings) for key, split in kind.extra_data().items()}
    found: dict[str, JsonValue] = {**fingerprint(whole), **kind.counts(whole)}
    departures = [
        *_departures(found, dict(task.spec.expect)),
        *(
            said
            for key, data in further.items()
            for said in _departures(fingerprint(data), task.spec.expected(key), key)
        ),
    ]
    dataset = limited(whole, settings.limit, settings.seed) if settings.limit else whole
    check_primary(task, dataset)
    beside = {key: ExtraModel.of(name, precision) for key, name in kind.extra_models().items()}
    protocol: dict[str, JsonValue] = {
        "task": task.name,
        "version": task.spec.version,
        "evaluator": task.spec.evaluator,
        "metrics": kind.version,
        "data": fingerprint(dataset),
        "standard": not departures,
        **({"limit": len(dataset)} if dataset.whole else {}),
        **kind.protocol(dataset, machine),
        **({EXTRA_DATA: {key: fingerprint(data) for key, data in further.items()}} if further else {}),
        **{key: one.identity for key, one in beside.items()},
    }
    missing = kind.unavailable()
    metrics = kind.metrics(dataset)
    missing |= {m.name: one.problem for m in metrics if (one := beside.get(m.model)) is not None and one.problem}
    return Data(
        dataset,
        protocol,
        tuple(departures),
        {m.name: m for m in metrics if m.plain not in missing},
        missing,
        further,
        {key: one.plan for key, one in beside.items() if one.plan is not None},
    )


def _built(task: Task, loader: Loader, settings: Settings) -> Dataset:
    root = settings.data_root.expanduser().resolve()
    found = loader.build(root, download=settings.download)
    if not len(found):
        raise DataError(task.name, f"no images in {root}", wanted="one at least")
    return found


def _departures(found: Mapping[str, JsonValue], wanted: Mapping[str, object], split: str = "") -> Iterator[Note]:
    of = f" in {split}" if split else ""
    for name, count in wanted.items():
        if count is not None and not isinstance(count, dict) and found[name] != count:
            text = f"not the standard protocol: {found[name]} {name}{of}, the standard protocol has {count}"
            yield Note("not_standard", text)


class ExtraModel(NamedTuple):
    """A model beside the measured one. plan: None where it cannot be used now, problem then says why.

    identity: what of it can move a number, for the signature; its name (a path) cannot.
    """

    plan: Source | None
    problem: str
    identity: dict[str, JsonValue]

    @classmethod
    def of(cls, name: str, precision: str) -> ExtraModel:
        """Return what is known of a model string. Nothing is loaded."""
        absent: dict[str, JsonValue] = {"weights": "not at hand"}
        try:
            found = one_model(name)
        except CocabenchError as error:
            return cls(None, str(error), absent)
        if isinstance(found, FailedSource):
            return cls(None, str(found.error), absent)
        if not found.available:
            problem = f"the weights of {name} are not here; run `cocabench setup clipscore {name}`"
            return cls(None, problem, absent)
        identity = {key: value for key, value in found.signature().items() if key != "id"}
        return cls(found, "", identity | ({} if precision == "fp32" else {"precision": precision}))


Prepared = tuple[Task, Data | CocabenchError]
"""A task and its data, or why there are none."""


def plan(
    models: Iterable[Source],
    tasks: Iterable[Task],
    settings: Settings,
    precision: str,
    *,
    compiled: bool = False,
    machine: Machine = HERE,
) -> list[Job]:
    """Return a Job for every model and task, models outermost, so that each is loaded once.

    Tasks keep their order, but captioning comes before others on the same images: it must encode them in any case, and
    the others find the features that it made. precision, compiled: the Hardware's, which move numbers.
    No metric is computed here.
    """
    tried = [(task, _data_or_error(task, settings, precision, machine)) for task in tasks]
    prepared = _captions_first(tried)
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
        own = _images(data) if task.kind.needs() & DECODED else set()
        readers = (i for i, (other, its) in enumerate(ordered) if own and _reads(other, its, own))
        ordered.insert(next(readers, len(ordered)), (task, data))
    return ordered


def _reads(task: Task, data: Data | CocabenchError, images: set[str]) -> bool:
    """Tell whether a task that does not caption reads one of the images."""
    return not task.kind.needs() & DECODED and not images.isdisjoint(_images(data))


def _images(data: Data | CocabenchError) -> set[str]:
    return (
        {str(image) for example in data.dataset.examples for image in example.images}
        if isinstance(data, Data)
        else set()
    )


def _data_or_error(task: Task, settings: Settings, precision: str, machine: Machine) -> Data | CocabenchError:
    try:
        return prepare(task, settings, precision, machine)
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
    if lacking := task.kind.needs() - model.abilities:
        return replace(job, state=State.NOT_APPLICABLE, reason=f"the model cannot {WORDS[min(lacking)]}")
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
    if record is None:
        return job
    return replace(job, state=State.DONE, record=record, renew=bool(_lacking(job, record)))


def _identity(model: Source, precision: str, compiled: bool) -> dict[str, JsonValue] | None:
    """Return the model part of the signature, or None while the weights are not at hand."""
    return identity_of(model, precision, compiled) if model.available else None


def identity_of(model: Source, precision: str, compiled: bool) -> dict[str, JsonValue]:
    """Return what of a model, and of how it runs, can move a number.

    The weights file is hashed: once per model. compile and the version of features are in it where they are set only,
    so that signatures without them stay.
    """
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

    A Record with skipped images is not that of a run that may skip none. Metrics that it lacks (another K) can be
    computed from its samples; None where these do not hold what such a metric reads.
    """
    assert job.data, "called for jobs with data"
    assert job.signature, "called for jobs with a signature"
    record = store.get(job.plan.id, job.task.name, job.signature)
    if record is None or (record.skipped_images and not settings.skip_bad_images):
        return None
    lacking = _lacking(job, record) & job.data.metrics.keys()
    if lacking:
        columns = store.columns(record)
        if not all(job.data.metrics[name].readable(columns) for name in lacking):
            return None
    return record


def _lacking(job: Job, record: Record) -> set[str]:
    """Return the metrics of a job that a stored Record lacks, has in another version, or names another primary for."""
    assert job.data, "called for jobs with data"
    stored = {name: record.definitions[name].version for name in record.metrics if name in record.definitions}
    other = {job.task.spec.primary} - {record.primary}
    return other | {name for name, metric in job.data.metrics.items() if stored.get(name) != metric.version}
