"""What a run will do: cells, each one model on the tasks that share its loading, with what is already done.

A Plan is plain data: it can be written as JSON and run elsewhere, cell by cell. A Planner makes it, and finds for a
step of it what this machine has: the Job. A cell may be planned, and run, any number of times: a Record is found again
by its signature.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property, partial
from importlib import metadata
from pathlib import Path
from typing import TypeVar

from pydantic import JsonValue, TypeAdapter, ValidationError

from cocabench.core.cache import DiskCache, size_limit
from cocabench.core.errors import CocabenchError, ResultsError, UnknownNameError, UsageError
from cocabench.core.signature import digest, remembering_files
from cocabench.core.types import Ability, Cache, Machine, Record, Signature, Source
from cocabench.results.store import Store
from cocabench.run.prepare import HERE, Data, Settings, prepare
from cocabench.specs.registry import FailedSource, Task, all_tasks, model_sources, read_tasks, task_folders
from cocabench.specs.spec import parse_model

INTERVAL_SEED = "interval_seed"
"""Where a Record's environment holds --seed. It moves no value: the ends of resampled intervals alone, and --limit's
subset, whose hash is in the signature."""

WORDS: Mapping[Ability, str] = {
    "caption": "caption",
    "encode": "encode images and texts",
    "profile": "be profiled",
    "score_captions": "score captions",
}


DECODING: frozenset[Ability] = frozenset({"caption", "score_captions"})
"""Who does these encodes images on the way."""


class State(StrEnum):
    READY = "ready"
    DONE = "done"
    FAILED = "cannot run"
    NOT_APPLICABLE = "not applicable"


@dataclass(frozen=True)
class Step:
    """One task of a cell, as plain data.

    task: its name. file: the absolute path of its task file, '' for a task that cocabench or a plugin ships. params:
    those that were set over the file's. record: where its Record lies below the results folder, '' while that is not
    known. parts: a hash of each part of the protocol. work: images, texts and captions to make, as an estimate.
    """

    task: str
    state: State
    reason: str = ""
    record: str = ""
    file: str = ""
    params: dict[str, JsonValue] = field(default_factory=dict)
    work: dict[str, int] = field(default_factory=dict)
    parts: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Cell:
    """A model and its tasks, captioning first. parts: a hash of each part of the model's signature."""

    model: str
    steps: tuple[Step, ...]
    parts: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """What a run does, with the settings that every cell needs."""

    settings: Settings
    cells: tuple[Cell, ...]

    def to_json(self) -> str:
        """Return the plan as JSON, its paths absolute, so that it can be run from any folder."""
        own = self.settings
        output, cache = (None if path is None else _absolute(path) for path in (own.output, own.cache))
        java = _absolute(own.java) if own.java and own.java.exists() else own.java  # else a command's name
        settings = replace(own, data_root=_absolute(own.data_root), output=output, cache=cache, java=java)
        return _PLANS.dump_json(replace(self, settings=settings), indent=1).decode()

    @classmethod
    def read(cls, path: Path) -> Plan:
        """Return the plan in a file; UsageError where there is none."""
        try:
            return _PLANS.validate_json(path.read_bytes())
        except OSError as error:
            raise UsageError(str(path), f"cannot be read ({error.strerror})", wanted=_A_PLAN) from None
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise UsageError(str(path), f"not a plan: {where}: {first['msg']}", wanted=_A_PLAN) from None


_PLANS = TypeAdapter(Plan)
_A_PLAN = "what `cocabench run … --dry-run --json` prints"


def _absolute(path: Path) -> Path:
    return path.expanduser().resolve()


@dataclass(frozen=True)
class Job:
    """One model on one task, as this machine has them. signature is None where it cannot be known yet.

    renew: the record lacks a metric, or has another primary one; execution makes it anew from its samples.
    """

    source: Source
    task: Task
    state: State
    reason: str = ""
    error: CocabenchError | None = None
    data: Data | None = None
    signature: Signature | None = None
    record: Record | None = None
    renew: bool = False


T = TypeVar("T")


@dataclass
class Planner:
    """Plans cells, and keeps what they share: tasks, their data, sources and the hashes of their weights.

    settings: with a precision that is not auto. machine: what kinds are told of it. download: whether weights that are
    not on this machine are fetched. sources, tasks, data: what is known already, by model, and by task (``_key``).
    """

    settings: Settings
    machine: Machine = HERE
    download: bool = True
    sources: dict[str, Source] = field(default_factory=dict)
    tasks: dict[str, Task] = field(default_factory=dict)
    data: dict[str, Data | CocabenchError] = field(default_factory=dict)
    identities: dict[str, dict[str, JsonValue] | CocabenchError | None] = field(default_factory=dict)

    def plan(
        self, sources: Iterable[Source], tasks: Iterable[Task], params: Mapping[str, JsonValue] | None = None
    ) -> Plan:
        """Return a cell for each model, with a step for each task. No metric is computed here.

        params: set over the task files' for the kinds that have such. Tasks keep their order, but captioning comes
        before others on the same images: it must encode them in any case, and the others find the features in the
        cache. A task or model that cannot run fails its steps alone.
        """
        models = list(sources)
        self.sources |= {source.id: source for source in models}
        steps = _captions_first([self._add(task, params or {}) for task in tasks], self._captioned, self._read)
        return Plan(self.settings, tuple(self._cell(source, steps) for source in models))

    def job(self, model: str, step: Step) -> Job:
        """Return what a step is here and now. UsageError or ModelError where its task or model is unknown here."""
        return self._job(self._source(model), self._task(step), self._data(step))

    def know(self, task: Task, data: Data) -> None:
        """Keep a task's data that were prepared before."""
        self.data[_key(self._add(task, {}))] = data

    def step(self, step: Step, job: Job) -> Step:
        """Return a step as it is here and now."""
        record = self.record_path(job)
        return replace(
            step,
            state=job.state,
            reason=job.reason,
            record=record,
            work=_work(job),
            parts=_hashes(job.signature.protocol if job.signature else {}),
        )

    def record_path(self, job: Job) -> str:
        if job.signature is None:
            return ""
        return Store(Path()).path(job.source.id, job.task.name, job.signature).as_posix()

    def unavailable(self, plan: Plan) -> dict[str, str]:
        """Return the metrics of a plan that cannot run on this machine, and why."""
        steps = {_key(s): s for cell in plan.cells for s in cell.steps if s.state in (State.READY, State.DONE)}
        found = [_or_error(step.task, partial(self._data, step)) for step in steps.values()]
        return {name: why for data in found if isinstance(data, Data) for name, why in data.missing.items()}

    def _add(self, task: Task, params: Mapping[str, JsonValue]) -> Step:
        own = {name: value for name, value in params.items() if name in type(task.kind).model_fields}
        file = "" if self._is_shipped(task) else str(task.path.resolve())
        step = Step(task.name, State.READY, file=file, params=own)
        self.tasks[_key(step)] = task.with_params(own)
        return step

    def _cell(self, source: Source, steps: Sequence[Step]) -> Cell:
        made = tuple(self._planned(source, step) for step in steps)
        identity = self._identity(source)
        return Cell(source.id, made, _hashes(identity) if isinstance(identity, dict) else {})

    def _planned(self, source: Source, step: Step) -> Step:
        made = _or_error(step.task, lambda: self.step(step, self._job(source, self._task(step), self._data(step))))
        return replace(step, state=State.FAILED, reason=str(made)) if isinstance(made, CocabenchError) else made

    def _source(self, model: str) -> Source:
        if model not in self.sources:
            own = self.settings
            found = model_sources(
                [parse_model(model)], quick_gelu=own.quick_gelu, preprocess=own.preprocess, download=self.download
            )
            self.sources |= {source.id: source for source in found}
        if model not in self.sources:
            raise UsageError(f"model {model}", "no such model here", wanted=f"one of {', '.join(self.sources)}")
        return self.sources[model]

    def _task(self, step: Step) -> Task:
        if (key := _key(step)) not in self.tasks:
            here = {task.name: task for task in read_tasks(Path(step.file))} if step.file else self._shipped
            if step.task not in here:
                raise UnknownNameError("task", step.task, here)
            self.tasks[key] = here[step.task].with_params(step.params)
        return self.tasks[key]

    @cached_property
    def _shipped(self) -> dict[str, Task]:
        return all_tasks()

    def _is_shipped(self, task: Task) -> bool:
        return any(task.path.is_relative_to(folder) for folder in self._folders)

    @cached_property
    def _cache(self) -> Cache | None:
        """Where the hashes of weights and the modes of images are remembered."""
        return DiskCache(self.settings.cache, size_limit()) if self.settings.cache else None

    @cached_property
    def _folders(self) -> list[Path]:
        return task_folders()

    def _data(self, step: Step) -> Data | CocabenchError:
        if (key := _key(step)) not in self.data:
            task = self._task(step)
            self.data[key] = _or_error(
                task.name,
                lambda: prepare(task, self.settings, self.settings.precision, self.machine, cache=self._cache),
            )
        return self.data[key]

    def _identity(self, source: Source) -> dict[str, JsonValue] | CocabenchError | None:
        """Return the model part of the signature; None while the weights are not on this machine."""
        if source.id not in self.identities:
            own = self.settings
            self.identities[source.id] = _or_error(
                source.id,
                lambda: identity_of(source, own.precision, own.compile, self._cache) if source.available else None,
            )
        return self.identities[source.id]

    def _captioned(self, step: Step) -> set[str]:
        """Return the images that a task reads which captions them, or scores captions; none for another task."""
        return _images(self._data(step)) if self._task(step).kind.needs() & DECODING else set()

    def _read(self, step: Step) -> set[str]:
        """Return the images that another task reads; none for one that captions."""
        return _images(self._data(step)) if not self._task(step).kind.needs() & DECODING else set()

    def _job(self, source: Source, task: Task, data: Data | CocabenchError) -> Job:
        job = Job(source, task, State.READY)
        if isinstance(source, FailedSource):
            return _failed(job, source.error)
        if lacking := task.kind.needs() - source.abilities:
            return replace(job, state=State.NOT_APPLICABLE, reason=f"the model cannot {WORDS[min(lacking)]}")
        if isinstance(data, CocabenchError):
            return _failed(job, data)
        identity = self._identity(source)
        if isinstance(identity, CocabenchError):
            return _failed(job, identity)
        if identity is None:
            return replace(job, data=data, reason="weights to be downloaded")
        job = replace(job, data=data, signature=Signature(protocol=data.protocol, model=identity))
        try:
            record = None if self.settings.fresh else finished(job, self.settings)
        except ResultsError as error:
            return _failed(job, error)
        if record is None:
            return job
        return replace(job, state=State.DONE, record=record, renew=bool(_lacking(job, record)))


def _key(step: Step) -> str:
    return f"{step.task}\n{step.file}\n{json.dumps(step.params, sort_keys=True)}"


def _failed(job: Job, error: CocabenchError) -> Job:
    return replace(job, state=State.FAILED, reason=str(error), error=error)


def _or_error(where: str, find: Callable[[], T]) -> T | CocabenchError:
    """Return what is found, or why nothing is: one task's or model's surprise must not lose the others' results."""
    try:
        return find()
    except CocabenchError as error:
        return error
    except Exception as error:  # noqa: BLE001 — see above
        return surprise(where, error)


def surprise(where: str, error: Exception) -> CocabenchError:
    """Return an error that nobody foresaw as one of ours; its traceback goes to the log."""
    logging.getLogger(__name__).critical("unforeseen error in %s", where, exc_info=error)
    told = CocabenchError(where, f"{type(error).__name__}: {error}", fix="this is a bug; please report the traceback")
    told.__cause__ = error
    return told


def _captions_first(
    steps: Sequence[Step], captioned: Callable[[Step], set[str]], read: Callable[[Step], set[str]]
) -> list[Step]:
    """Put each captioning task before the first other one that reads an image of its own."""
    ordered: list[Step] = []
    for step in steps:
        own = captioned(step)
        readers = (i for i, other in enumerate(ordered) if own and not own.isdisjoint(read(other)))
        ordered.insert(next(readers, len(ordered)), step)
    return ordered


def _images(data: Data | CocabenchError) -> set[str]:
    return {str(image) for e in data.dataset.examples for image in e.images} if isinstance(data, Data) else set()


def _work(job: Job) -> dict[str, int]:
    """Return how many images a job reads, and how many texts and captions it makes of them."""
    return job.task.kind.work(job.data.dataset) if job.data else {}


def _hashes(table: Mapping[str, JsonValue]) -> dict[str, str]:
    return {name: digest(value)[:8] for name, value in table.items()}


def identity_of(source: Source, precision: str, compiled: bool, cache: Cache | None = None) -> dict[str, JsonValue]:
    """Return what of a model, and of how it runs, can move a number.

    The weights file is hashed, unless the cache knows the file. compile and the version of features are in it where
    they are set only, so that signatures without them stay.
    """
    packages: dict[str, JsonValue] = {name: metadata.version(name) for name in source.packages}
    version = source.features_version
    with remembering_files(cache):
        signature = source.signature()
    return {
        **signature,
        "precision": precision,
        **({"compile": True} if compiled else {}),
        **({"features_version": version} if version > 1 else {}),
        "packages": packages,
    }


def finished(job: Job, settings: Settings) -> Record | None:
    """Return the stored Record of a job, or None where it must run.

    A Record with skipped images is not that of a run that may skip none. Metrics that it lacks (another K) can be
    computed from its samples; None where these do not hold what such a metric reads.
    """
    assert job.data, "called for jobs with data"
    assert job.signature, "called for jobs with a signature"
    if settings.output is None:
        return None
    store = Store(settings.output)
    record = store.get(job.source.id, job.task.name, job.signature)
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


def differences(cell: Cell, step: Step, here: Step, job: Job) -> list[str]:
    """Return what of a step is other here than in the plan (``data``, ``weights`` …); empty where all is the same."""
    if not (step.record and here.record) or step.record == here.record:
        return []
    assert job.signature, "a step with a Record's path has a signature"
    pairs = ((step.parts, here.parts), (cell.parts, _hashes(job.signature.model)))
    names = [key for then, now in pairs for key in sorted(then.keys() | now.keys()) if then.get(key) != now.get(key)]
    return names or ["signature"]
