"""Run cells of a plan. Prints nothing; an Observer is notified."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from cocabench.core.cache import Cache
from cocabench.core.errors import CocabenchError, ResultsError, named
from cocabench.core.types import Machine, Model, Note, Progress, Record, Source, silent
from cocabench.metrics.base import Samples
from cocabench.models.cached import Cached
from cocabench.models.hardware import Hardware
from cocabench.results.store import Store
from cocabench.run import thumbnails
from cocabench.run.measure import Site, measure, planned_machine, renewed, site_of
from cocabench.run.plan import (
    PICTURES_UNKNOWN,
    Cell,
    Job,
    Planner,
    State,
    Step,
    differences,
)
from cocabench.run.prepare import Settings, identity_of
from cocabench.specs.surprise import surprise

Load = Callable[[Source], Model]
"""Loads a source, on the device that the engine chooses."""


class Observer(Protocol):
    """Is notified of the progress of a run."""

    def note(self, text: str) -> None:
        """Report something to the user that changes no number."""

    def loading(self, model: str) -> None: ...

    def started(self, model: str, step: Step) -> Progress:
        """Report that a step starts, and return a Progress for it."""

    def finished(self, outcome: Outcome) -> None: ...


class Unobserved:
    """An Observer that does nothing."""

    def __init__(self, progress: Progress = silent) -> None:
        self.progress = progress

    def note(self, text: str) -> None:
        pass

    def loading(self, model: str) -> None:
        pass

    def started(self, model: str, step: Step) -> Progress:
        return self.progress

    def finished(self, outcome: Outcome) -> None:
        pass


class Sink(Protocol):
    """A destination of results: a ``Store``, or memory."""

    def put(self, record: Record, samples: Samples) -> Record:
        """Store a Record with its samples, both or neither, and return the stored Record."""

    def put_record(self, record: Record) -> Any:
        """Store a Record whose samples are already stored."""

    def thumbnails(self, fingerprint: str) -> Mapping[str, bytes]:
        """Return the stored thumbnails of a data set: {example id: JPEG}."""

    def put_thumbnails(self, fingerprint: str, images: Mapping[str, bytes]) -> None:
        """Add to what is kept of a data set."""


@dataclass(frozen=True)
class Outcome:
    """The outcome of a step: a Record, an error, or neither if the task is not applicable. Picklable.

    step: as planned when it ran; its state is done if the Record is from an earlier run.
    """

    model: str
    step: Step
    record: Record | None = None
    error: CocabenchError | None = None


def run_cell(
    cell: Cell,
    settings: Settings,
    load: Load,
    cache: Cache,
    sink: Sink,
    *,
    observer: Observer | None = None,
    planner: Planner | None = None,
) -> Iterator[Outcome]:
    """Run the steps of a cell that have no Record yet, and yield each Outcome when it is known.

    The cell is planned again, so that it can run repeatedly and in any process. Differences from the plan (data,
    weights, packages) are an error that names them. An error ends its own step only. After an interruption, finished
    results are in the sink, and features and captions of the unfinished step in the cache.
    planner: a Planner that has already read the data saves reading them again.
    """
    hardware = settings.hardware()
    yield from Runner(
        load, cache, sink, observer or Unobserved(), planner or planner_for(settings, hardware), hardware
    ).run(cell)


def planner_for(settings: Settings, hardware: Hardware, *, download: bool = True) -> Planner:
    """Return a Planner for this machine. download: whether to fetch missing weights."""
    return Planner(replace(settings, precision=hardware.precision), planned_machine(hardware), download)


def planner_elsewhere(settings: Settings, *, download: bool) -> Planner:
    """Return a Planner for runs on other machines, with their device (``cpu`` or ``cuda``)."""
    kind = settings.device.partition(":")[0]
    precision = settings.precision if settings.precision != "auto" else "fp16" if kind == "cuda" else "fp32"
    return Planner(replace(settings, precision=precision), Machine(device=kind), download, elsewhere=True)


@dataclass(frozen=True)
class Runner:
    """Runs cells one after the other in this process. extra: loaded extra models of kinds. site: the machine that
    computes, None: this one with its hardware."""

    load: Load
    cache: Cache
    sink: Sink
    observer: Observer
    planner: Planner
    hardware: Hardware
    extra: dict[str, Model] = field(default_factory=dict)
    site: Site | None = None

    @property
    def settings(self) -> Settings:
        return self.planner.settings

    def run(self, cell: Cell) -> Iterator[Outcome]:
        """Run a cell; its model is loaded for the first step that needs it."""
        model: Cached | CocabenchError | None = None
        for planned in cell.steps:
            found = self.settled(cell, planned)
            if isinstance(found, Outcome):
                outcome = found
            else:
                step, job = found
                model = model or self._loaded(job)
                outcome = (
                    Outcome(cell.model, step, error=model)
                    if isinstance(model, CocabenchError)
                    else self._attempt(step, job, model)
                )
            outcome = self._with_node(outcome)
            self.observer.finished(outcome)
            yield outcome

    def settled(self, cell: Cell, planned: Step) -> Outcome | tuple[Step, Job]:
        """Return the Outcome of a step that need not run, or the step and its job on this machine."""
        step, job = self._here(cell, planned)
        if isinstance(job, CocabenchError):
            return Outcome(cell.model, replace(step, state=State.FAILED, reason=str(job)), error=job)
        return (step, job) if job.state is State.READY else self._settled(step, job)

    def stored(
        self, step: Step, job: Job, record: Record, samples: Samples, made: Mapping[str, bytes] | None = None
    ) -> Outcome:
        """Store what was measured, with thumbnails for reports. made: those that were missing, None: not made yet."""
        try:
            if self.settings.output is not None:
                record = self._with_thumbnails(job, record, samples, made)
            record = self.sink.put(record, samples)
        except CocabenchError as error:
            return Outcome(job.source.id, step, error=error)
        return Outcome(job.source.id, step, record)

    def _here(self, cell: Cell, planned: Step) -> tuple[Step, Job | CocabenchError]:
        """Return a step as planned on this machine, with its job or an error."""
        try:
            job = self.planner.job(cell.model, planned)
            step = self.planner.step(planned, job)
        except CocabenchError as error:
            return planned, error
        except Exception as error:  # noqa: BLE001 — one task's surprise must not lose the others' results
            return planned, surprise(planned.task, error)
        if other := differences(cell, planned, step, job):
            where = f"{cell.model} on {planned.task}"
            fix = "use the same data and versions, or plan again with `--dry-run --json`"
            verb = "differs" if len(other) == 1 and other[0] != "pictures" else "differ"
            got = f"{', '.join(other)} {verb} from the plan"
            return planned, CocabenchError(where, got, fix=fix)
        return step, job

    def _with_node(self, outcome: Outcome) -> Outcome:
        """Name this machine in an error, if another one may have made the plan."""
        if outcome.error is None or self.planner.planned:
            return outcome
        return replace(outcome, error=named(outcome.error, f"on {platform.node()}"))

    def _settled(self, step: Step, job: Job) -> Outcome:
        """Return the Outcome of a step that need not run; metrics missing from its Record are computed from samples."""
        record = job.record
        try:
            if record is not None and self.settings.output is not None and job.renew:
                record = renewed(job, self.settings, Store(self.settings.output).samples(record))
                self.sink.put_record(record)
        except CocabenchError as error:
            return Outcome(job.source.id, step, error=error)
        if record is not None and job.reason == PICTURES_UNKNOWN:
            note = Note("pictures_unknown", PICTURES_UNKNOWN)
            record = record.model_copy(update={"notes": (*record.notes, note)})
        return Outcome(job.source.id, step, record, job.error)

    def _loaded(self, job: Job) -> Cached | CocabenchError:
        assert job.signature, "a ready job has a signature"
        self.observer.loading(job.source.id)
        try:
            model = self.load(job.source)
        except CocabenchError as error:
            return error
        except Exception as error:  # noqa: BLE001 — an unexpected error of one model must not stop the others
            return surprise(job.source.id, error, job.source)
        return Cached(model, self.cache, job.signature.model, self.hardware.device_type)

    def _attempt(self, step: Step, job: Job, model: Cached) -> Outcome:
        progress = self.observer.started(job.source.id, step)
        try:
            beside = self._beside(job)
            site = self.site or site_of(self.hardware)
            record, samples = measure(job, model, self.settings, site, progress, beside=beside)
        except CocabenchError as error:
            return Outcome(job.source.id, step, error=error)
        except Exception as error:  # noqa: BLE001 — an unexpected error of one task must not stop the others
            return Outcome(
                job.source.id, step, error=surprise(job.task.name, error, job.task.kind, job.task.loader, job.source)
            )
        return self.stored(step, job, record, samples)

    def _beside(self, job: Job) -> dict[str, Model]:
        """Return the kind's extra models, loaded on this run's hardware and kept for the next job.

        The cache holds their image features but no texts: a score must not depend on the models that ran before.
        """
        assert job.data, "a ready job has data"
        wanted = {source.id: source for source in job.data.beside.values()}
        for name in self.extra.keys() - wanted.keys():
            del self.extra[name]
        for name, source in wanted.items():
            if name not in self.extra:
                identity = identity_of(source, self.hardware.precision, self.hardware.compile, self.cache)
                model, device = self.load(source), self.hardware.device_type
                self.extra[name] = Cached(model, self.cache, identity, device, keep_texts=False)
        return {key: self.extra[source.id] for key, source in job.data.beside.items()}

    def _with_thumbnails(self, job: Job, record: Record, samples: Samples, made: Mapping[str, bytes] | None) -> Record:
        """Store thumbnails for reports, and return the Record, with a note if that failed."""
        try:
            self._keep_thumbnails(job, samples, made)
        except ResultsError as error:
            note = Note("no_pictures", f"no pictures for reports: {error}")
            return record.model_copy(update={"notes": (*record.notes, note)})
        return record

    def _keep_thumbnails(self, job: Job, samples: Samples, made: Mapping[str, bytes] | None) -> None:
        assert job.data, "a ready job has data"
        known = self.sink.thumbnails(job.data.fingerprint)
        if made is None:
            made = thumbnails.missing(job.data.dataset.examples, samples, type(job.task.kind), known)
        if made or not known:
            self.sink.put_thumbnails(job.data.fingerprint, made)
