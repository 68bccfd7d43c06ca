"""Plans of runs: cells of one model and its tasks, with the steps that are already done.

A Plan is plain data: it can be written as JSON and run elsewhere, cell by cell. A Planner makes plans, and turns a step
into a Job on this machine. Cells can be planned and run repeatedly: existing Records are found by their signature.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from functools import cached_property, partial
from pathlib import Path
from typing import NamedTuple, TypeVar

from pydantic import JsonValue, TypeAdapter, ValidationError

from cocabench.core.cache import DiskCache, size_limit
from cocabench.core.errors import CocabenchError, DataError, ResultsError, UnknownNameError, UsageError, unreadable
from cocabench.core.files import expanded, read_regular
from cocabench.core.signature import Allowance, UnhashedError, digest
from cocabench.core.types import Ability, Cache, Machine, Note, Record, Signature, Source
from cocabench.data.remote import url_of
from cocabench.results.store import Store
from cocabench.run.prepare import HERE, Data, Settings, identity_of, prepare
from cocabench.specs.registry import FailedSource, Task, all_tasks, model_sources, read_tasks, task_folders
from cocabench.specs.spec import parse_model
from cocabench.specs.surprise import surprise

HASH_ON_LOAD = "weights will be hashed when they are loaded"
HASHED_WHEN_PLANNING = 1 << 29
"""Bytes of weights that a plan hashes, about a second; what is beyond waits until it is loaded, unless the cache knows
it. Hundreds of checkpoints take longer to hash than to plan."""

INTERVAL_SEED = "interval_seed"
"""The key of --seed in a Record's environment. The seed changes no value, only the ends of bootstrap intervals and the
subset of --limit, whose hash is in the signature."""

ABILITY_VERBS: Mapping[Ability, str] = {
    "caption": "caption",
    "encode": "encode images and texts",
    "profile": "be profiled",
    "score_captions": "score captions",
}

DECODING: frozenset[Ability] = frozenset({"caption", "score_captions"})
"""Abilities that encode images as a by-product."""


class State(StrEnum):
    READY = "ready"
    DONE = "done"
    FAILED = "cannot run"
    NOT_APPLICABLE = "not applicable"


@dataclass(frozen=True)
class Step:
    """One task of a cell, as plain data.

    task: its name. file: the absolute path of the task file, '' for a task shipped by cocabench or a plugin. params:
    overrides of the file's params. record: the path of the Record in the results folder, '' if unknown yet. parts: a
    hash of each part of the protocol. work: estimated numbers of images, texts and captions. pictures: the hash of the
    images' ids and contents, '' if unknown yet.
    """

    task: str
    state: State
    reason: str = ""
    record: str = ""
    file: str = ""
    params: dict[str, JsonValue] = field(default_factory=dict)
    work: dict[str, int] = field(default_factory=dict)
    parts: dict[str, str] = field(default_factory=dict)
    pictures: str = ""


@dataclass(frozen=True)
class Cell:
    """A model and its tasks, captioning first. parts: a hash of each part of the model's signature."""

    model: str
    steps: tuple[Step, ...]
    parts: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """The cells of a run, and its settings. created: when it was made (ISO 8601), '' by an older version."""

    settings: Settings
    cells: tuple[Cell, ...]
    created: str = ""

    def to_json(self) -> str:
        """Return the plan as JSON with absolute paths, so that it can be run from any folder."""
        own = self.settings
        output, cache = (None if path is None else _absolute(path) for path in (own.output, own.cache))
        java = _absolute(own.java) if own.java and own.java.exists() else own.java  # else a command's name
        root = own.data_root if url_of(own.data_root) else _absolute(own.data_root)
        settings = replace(own, data_root=root, output=output, cache=cache, java=java)
        return _PLANS.dump_json(replace(self, settings=settings), indent=1).decode()

    @classmethod
    def read(cls, path: Path) -> Plan:
        """Read a plan from a file; UsageError if it cannot be read."""
        try:
            found = _PLANS.validate_json(read_regular(path))
        except OSError as error:
            raise UsageError(str(path), unreadable(error), wanted=_A_PLAN) from None
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            said = f"not a plan: {where}{': ' if where else ''}{first['msg']}"
            raise UsageError(str(path), said, wanted=_A_PLAN) from None
        if found.settings.output is None:
            raise UsageError(str(path), "not a plan: settings.output: null", wanted=_A_PLAN)
        try:
            datetime.fromisoformat(found.created or "2000-01-01")
        except ValueError:
            raise UsageError(str(path), f"not a plan: created: {found.created!r}", wanted=_A_PLAN) from None
        return found


_PLANS = TypeAdapter(Plan)
_A_PLAN = "the output of `cocabench run … --dry-run --json`"


def _absolute(path: Path) -> Path:
    return expanded(path).resolve()


@dataclass(frozen=True)
class Job:
    """One model on one task on this machine. signature: None if it cannot be known yet.

    renew: the Record lacks a metric or has another primary metric; it is then recomputed from its samples.
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


class _Facts(NamedTuple):
    """Work and parts of the protocol of a task's data, and which parts depend on the machine."""

    work: dict[str, int]
    parts: dict[str, str]
    varying: frozenset[str]


T = TypeVar("T")
Table = Mapping[str, JsonValue]
Tables = Sequence[Table]
Identify = Callable[[], dict[str, JsonValue] | CocabenchError | None]


@dataclass
class Planner:
    """Plans cells, and caches what they share: tasks, data, sources and hashes of weights.

    settings: with a precision other than auto. machine: passed to kinds. download: whether to fetch missing weights.
    since: when the plan was made; with ``fresh``, results from then on are not measured again.
    for_others: the plans are run by other processes, which check that they read the same images; this reads them all.
    elsewhere: they run on machines that are not known: the Record's path of a step whose protocol names the machine is
    left open. sources, tasks, data: what is known already, by model, and by task (``step_key``). planned: whether it
    made a plan. facts, pictures: what is known of a task's data, for all models. allowance, unhashed: how much a plan
    still hashes, and the models whose weights that leaves out.
    """

    settings: Settings
    machine: Machine = HERE
    download: bool = True
    for_others: bool = False
    planned: bool = False
    sources: dict[str, Source] = field(default_factory=dict)
    tasks: dict[str, Task] = field(default_factory=dict)
    data: dict[str, Data | CocabenchError] = field(default_factory=dict)
    identities: dict[str, dict[str, JsonValue] | CocabenchError | None] = field(default_factory=dict)
    allowance: Allowance = field(default_factory=lambda: Allowance(HASHED_WHEN_PLANNING))
    unhashed: set[str] = field(default_factory=set)
    since: str = ""
    elsewhere: bool = False
    facts: dict[str, _Facts] = field(default_factory=dict)
    pictures: dict[str, str] = field(default_factory=dict)

    def plan(
        self, sources: Iterable[Source], tasks: Iterable[Task], params: Table | None = None, variants: Tables = ({},)
    ) -> Plan:
        """Return a cell per model, with a step per task and variant. Computes no metric.

        params: override the task files' params, for kinds that have them. variants: further ones of each measurement of
        a task, which is measured once if it has none of them. Tasks keep their order, except that
        captioning runs before other tasks on the same images: it encodes them anyway, and the others use the cached
        features. A task or model that cannot run fails its own steps only.
        """
        models, self.planned = list(sources), True
        self.sources |= {source.id: source for source in models}
        added = [self._add(task, {**(params or {}), **variant}) for task in tasks for variant in variants]
        steps = _captions_first({step_key(step): step for step in added}.values(), self._is_read_before)
        cells = tuple(self._cell(source, steps) for source in models)
        self.since = datetime.now(UTC).isoformat(timespec="milliseconds")
        return Plan(self.settings, cells, self.since)

    def job(self, model: str, step: Step) -> Job:
        """Return the Job of a step. UsageError or ModelError if its task or model is unknown on this machine."""
        source = self.source(model)
        return self._job(source, self._task(step), self._data(step), partial(self._identity, source))

    def hashes_on_load(self, model: str) -> bool:
        """Return whether a model's weights are here and were too large to be hashed for the plan."""
        return model in self.unhashed and model not in self.identities

    def know(self, task: Task, data: Data) -> None:
        """Store a task's prepared data."""
        self.data[step_key(self._add(task, {}))] = data

    def step(self, step: Step, job: Job) -> Step:
        """Return the step with its current state on this machine."""
        data = self._facts(step, job) if job.data else _Facts({}, {}, frozenset())
        hashes_pictures = job.data and job.state is State.READY and (self.for_others or step.pictures)
        return replace(
            step,
            state=job.state,
            reason=job.reason,
            record="" if data.varying else self.record_path(job),
            work=data.work,
            parts=data.parts,
            pictures=self._pictures(step, job) if hashes_pictures else "",
        )

    def _facts(self, step: Step, job: Job) -> _Facts:
        """Return what a step's data say, for any model."""
        assert job.data, "called for jobs with data"
        if (key := step_key(step)) not in self.facts:
            varying = frozenset(job.data.outline.varying if self.elsewhere else ())
            parts = {name: part for name, part in hashes(job.data.protocol).items() if name not in varying}
            self.facts[key] = _Facts(job.data.outline.work, parts, varying)
        return self.facts[key]

    def _pictures(self, step: Step, job: Job) -> str:
        assert job.data, "called for jobs with data"
        if (key := step_key(step)) not in self.pictures:
            self.pictures[key] = job.data.pictures(self._cache).by_id
        return self.pictures[key]

    def record_path(self, job: Job) -> str:
        if job.signature is None:
            return ""
        return Store(Path()).path(job.source.id, job.task.name, job.signature).as_posix()

    def unavailable(self, plan: Plan) -> dict[str, str]:
        """Return {metric: reason} for the metrics of a plan that are unavailable on this machine."""
        steps = {step_key(s): s for cell in plan.cells for s in cell.steps if s.state in (State.READY, State.DONE)}
        found = [_or_error(step.task, partial(self._data, step)) for step in steps.values()]
        return {name: why for data in found if isinstance(data, Data) for name, why in data.missing.items()}

    def data_notes(self, plan: Plan) -> list[tuple[str, Note]]:
        """Return (task, note) for what a run will say of the data: counts, what was left out, absent classes …"""
        steps = {step_key(step): step for cell in plan.cells for step in cell.steps}
        found = []
        for step in steps.values():
            if isinstance(data := self._data(step), Data):
                found += [(step.task, note) for note in data.outline.said]
        return found

    def _add(self, task: Task, params: Mapping[str, JsonValue]) -> Step:
        own = {name: value for name, value in params.items() if name in task.param_names}
        file = "" if self._is_shipped(task) else str(task.path.resolve())
        step = Step(task.name, State.READY, file=file, params=own)
        self.tasks[step_key(step)] = task.with_params(own)
        return step

    def _cell(self, source: Source, steps: Sequence[Step]) -> Cell:
        made = tuple(self._planned(source, step) for step in steps)
        identity = self._cheap_identity(source)
        return Cell(source.id, made, hashes(identity) if isinstance(identity, dict) else {})

    def _planned(self, source: Source, step: Step) -> Step:
        def plan() -> Step:
            job = self._job(source, self._task(step), self._data(step), partial(self._cheap_identity, source))
            return self.step(step, job)

        made = _or_error(step.task, plan)
        return replace(step, state=State.FAILED, reason=str(made)) if isinstance(made, CocabenchError) else made

    def source(self, model: str) -> Source:
        """Return the Source of a model string; UsageError or ModelError if it is unknown on this machine."""
        if model not in self.sources:
            own = self.settings
            found = model_sources(
                [parse_model(model)],
                quick_gelu=own.quick_gelu,
                preprocess=own.preprocess,
                resize=own.resize,
                download=self.download,
            )
            self.sources |= {source.id: source for source in found}
        if model not in self.sources:
            raise UsageError(f"model {model}", "no such model", wanted=f"one of {', '.join(self.sources)}")
        return self.sources[model]

    def _task(self, step: Step) -> Task:
        if (key := step_key(step)) not in self.tasks:
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
        """The cache for hashes of weights and modes of images."""
        return DiskCache(self.settings.cache, size_limit()) if self.settings.cache else None

    @cached_property
    def _folders(self) -> list[Path]:
        return task_folders()

    def _data(self, step: Step) -> Data | CocabenchError:
        if (key := step_key(step)) not in self.data:
            task = self._task(step)
            self.data[key] = _or_error(
                task.name,
                lambda: prepare(task, self.settings, self.settings.precision, self.machine, cache=self._cache),
                task.kind,
                task.loader,
            )
        return self.data[key]

    def _identity(self, source: Source) -> dict[str, JsonValue] | CocabenchError | None:
        """Return the model part of the signature; None if the weights are not on this machine."""
        if source.id not in self.identities:
            self.identities[source.id] = _or_error(source.id, partial(self._new_identity, source, None), source)
        return self.identities[source.id]

    def _cheap_identity(self, source: Source) -> dict[str, JsonValue] | CocabenchError | None:
        """Return what ``_identity`` does, or None if that takes hashing more than the allowance for a plan."""
        if source.id not in self.identities and source.id not in self.unhashed:
            try:
                identity = partial(self._new_identity, source, self.allowance)
                self.identities[source.id] = _or_error(source.id, identity, source)
            except UnhashedError:
                self.unhashed.add(source.id)
        return self.identities.get(source.id)

    def _new_identity(self, source: Source, allowance: Allowance | None) -> dict[str, JsonValue] | None:
        own = self.settings
        if not source.available:
            return None
        return identity_of(source, own.precision, own.compile, self._cache, allowance)

    def _is_read_before(self, step: Step, other: Step) -> bool:
        """Return whether a task captions images, or scores their captions, that the other task only encodes."""
        if [bool(self._task(each).kind.needs() & DECODING) for each in (step, other)] != [True, False]:
            return False
        one, two = self._data(step), self._data(other)
        if not (isinstance(one, Data) and isinstance(two, Data)):
            return False
        near = not set(one.outline.folders).isdisjoint(two.outline.folders)  # else none is read to tell
        return near and not _images(one).isdisjoint(_images(two))

    def _job(self, source: Source, task: Task, data: Data | CocabenchError, identify: Identify) -> Job:
        job = Job(source, task, State.READY)
        if isinstance(source, FailedSource):
            return _failed(job, source.error)
        if lacking := task.kind.needs() - source.abilities:
            return replace(job, state=State.NOT_APPLICABLE, reason=f"the model cannot {ABILITY_VERBS[min(lacking)]}")
        if isinstance(data, CocabenchError):
            return _failed(job, data)
        identity = identify()
        if isinstance(identity, CocabenchError):
            return _failed(job, identity)
        if identity is None:
            return replace(job, data=data, reason=HASH_ON_LOAD if source.available else "weights will be downloaded")
        job = replace(job, data=data, signature=Signature(protocol=data.protocol, model=identity))
        try:
            record = None if self.settings.fresh and not self.since else finished(job, self.settings)
            if record is not None and self.settings.fresh and record.created < self.since:
                record = None
            if record is not None and not same_pictures(data, record, self._cache):
                return replace(job, reason="measures again: the images are others than those of the stored result")
        except (ResultsError, DataError) as error:
            return _failed(job, error)
        if record is None:
            return job
        reason = "" if record.pictures else PICTURES_UNKNOWN
        return replace(job, state=State.DONE, reason=reason, record=record, renew=bool(_lacking(job, record)))


def step_key(step: Step) -> str:
    """Return what tells a step from the others of its cell."""
    return f"{step.task}\n{step.file}\n{json.dumps(step.params, sort_keys=True)}"


def _failed(job: Job, error: CocabenchError) -> Job:
    return replace(job, state=State.FAILED, reason=str(error), error=error)


def _or_error(where: str, find: Callable[[], T], *parts: object) -> T | CocabenchError:
    """Return the result, or the error: an unexpected error of one task or model must not stop the others."""
    try:
        return find()
    except CocabenchError as error:
        return error
    except UnhashedError:
        raise
    except Exception as error:  # noqa: BLE001 — see above
        return surprise(where, error, *parts)


def _captions_first(steps: Iterable[Step], is_read_before: Callable[[Step, Step], bool]) -> list[Step]:
    """Move each captioning task before the first other task that reads one of its images."""
    ordered: list[Step] = []
    for step in steps:
        readers = (i for i, other in enumerate(ordered) if is_read_before(step, other))
        ordered.insert(next(readers, len(ordered)), step)
    return ordered


def _images(data: Data) -> set[str]:
    return {str(image) for example in data.dataset.examples for image in example.images}


def hashes(table: Mapping[str, JsonValue]) -> dict[str, str]:
    """Return a short hash of each part of a protocol or of a model's signature."""
    return {name: digest(value)[:8] for name, value in table.items()}


def finished(job: Job, settings: Settings) -> Record | None:
    """Return the stored Record of a job, or None if the job must run.

    A Record with skipped images does not count for a run that may not skip any. Metrics that it lacks, such as another
    K, must be computable from its samples.
    """
    assert job.data, "called for jobs with data"
    assert job.signature, "called for jobs with a signature"
    if settings.output is None:
        return None
    store = Store(settings.output)
    record = store.get(job.source.id, job.task.name, job.signature)
    if record is None or (record.skipped_images and not settings.skip_bad_images):
        return None
    lacking = _lacking(job, record) & job.data.versions.keys()
    if lacking:
        columns = store.columns(record)
        if not all(job.data.metrics[name].readable(columns) for name in lacking):
            return None
    return record


PICTURES_UNKNOWN = "done by a version that did not record which images it read; --fresh measures again"


def same_pictures(data: Data, record: Record, cache: Cache | None) -> bool:
    """Return whether a Record's images are those of the data, as far as it says which they were.

    Reads images whose files are not those that the Record names, unless the cache knows their contents.
    """
    if not record.pictures_by_id or record.image_files == data.image_files:
        return True
    return data.pictures(cache).by_id == record.pictures_by_id


def _lacking(job: Job, record: Record) -> set[str]:
    """Return the metrics that a Record lacks or has in another version, and the primary metric if it differs."""
    assert job.data, "called for jobs with data"
    stored = {name: record.definitions[name].version for name in record.metrics if name in record.definitions}
    other = {job.task.spec.primary} - {record.primary}
    return other | {name for name, version in job.data.versions.items() if stored.get(name) != version}


def differences(cell: Cell, step: Step, here: Step, job: Job) -> list[str]:
    """Return the parts of a step that differ from the plan (``data``, ``weights`` …); empty if none do."""
    if not (step.record and here.record):
        return []
    if step.record == here.record:
        return ["pictures"] if step.pictures and here.pictures and step.pictures != here.pictures else []
    assert job.signature, "a step with a Record's path has a signature"
    pairs = ((step.parts, here.parts), (cell.parts, hashes(job.signature.model)))
    names = [key for then, now in pairs for key in sorted(then.keys() | now.keys()) if then.get(key) != now.get(key)]
    return names or ["signature"]
