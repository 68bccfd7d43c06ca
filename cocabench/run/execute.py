"""Execute a plan: models and tasks in, Records out. Prints nothing; an Observer is told what happens."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Protocol

from cocabench.core.cache import Cache, open_cache
from cocabench.core.errors import CocabenchError, ResultsError
from cocabench.core.types import Model, Note, Progress, Record
from cocabench.metrics.base import Samples
from cocabench.models.cached import Cached
from cocabench.models.hardware import Hardware
from cocabench.models.loading import start_server
from cocabench.results.store import Store, settle
from cocabench.run import thumbnails
from cocabench.run.measure import measure, renewed
from cocabench.run.plan import Job, Settings, State, identity_of


class Observer(Protocol):
    """Is told how a run goes on."""

    def note(self, text: str) -> None:
        """Something that the user should know and that changes no number."""

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

    An error ends its job and no other. What was finished before an interruption is in the store; features and captions
    that were computed for an unfinished job are in the cache.
    """
    with open_cache(settings.cache, lambda note: observer.note(note.text)) as cache:
        run = _Run(settings, hardware, observer, Store(settings.output), cache)
        for _, of_one in groupby(jobs, key=lambda job: job.plan.id):
            yield from run.model(list(of_one))


@dataclass(frozen=True)
class _Run:
    settings: Settings
    hardware: Hardware
    observer: Observer
    store: Store
    cache: Cache
    extra: dict[str, Model] = field(default_factory=dict)

    def model(self, jobs: list[Job]) -> Iterator[Outcome]:
        """Run the jobs of one model, loaded for the first of them that needs it."""
        model: Model | CocabenchError | None = None
        for job in jobs:
            outcome = self._settled(job)
            if outcome is None:
                model = model or self._loaded(job)
                outcome = Outcome(job, error=model) if isinstance(model, CocabenchError) else self._attempt(job, model)
            self.observer.finished(outcome)
            yield outcome

    def _settled(self, job: Job) -> Outcome | None:
        """Return the Outcome of a job that needs no work; a Record whose metrics were made anew is kept."""
        if job.state is State.READY:
            return None
        if (record := job.record) is not None:
            settle(self.store.path(record.model, record.task, record.signature))
            if job.renew:
                record = renewed(job, self.settings, self.store.samples(record))
                self.store.put_record(record)
        return Outcome(job, record, job.error)

    def _loaded(self, job: Job) -> Model | CocabenchError:
        assert job.signature, "a ready job has a signature"
        self.observer.loading(job.plan.id)
        try:
            start_server(self.hardware.workers, type(job.plan).__module__)
            model = job.plan.load(self.hardware)
        except CocabenchError as error:
            return error
        except Exception as error:  # noqa: BLE001 — one model's surprise must not lose the others' results
            return _surprise(job.plan.id, error)
        return Cached(model, self.cache, job.signature.model, self.hardware.device.type)

    def _attempt(self, job: Job, model: Model) -> Outcome:
        progress = self.observer.started(job)
        try:
            beside = self._beside(job)
            record, samples = measure(job, model, self.settings, self.hardware, progress, beside=beside)
            record = self._with_thumbnails(job, record, samples)
            self.store.put(record, samples)
        except CocabenchError as error:
            return Outcome(job, error=error)
        except Exception as error:  # noqa: BLE001 — one task's surprise must not lose the others' results
            return Outcome(job, error=_surprise(job.task.name, error))
        return Outcome(job, record)

    def _beside(self, job: Job) -> dict[str, Model]:
        """Return the kind's extra models, on this run's hardware and with its cache; the next job finds them loaded."""
        assert job.data, "a ready job has data"
        wanted = {plan.id: plan for plan in job.data.beside.values()}
        for name in self.extra.keys() - wanted.keys():
            del self.extra[name]
        for name, plan in wanted.items():
            if name not in self.extra:
                identity = identity_of(plan, self.hardware.precision, self.hardware.compile)
                self.extra[name] = Cached(plan.load(self.hardware), self.cache, identity, self.hardware.device.type)
        return {key: self.extra[plan.id] for key, plan in job.data.beside.items()}

    def _with_thumbnails(self, job: Job, record: Record, samples: Samples) -> Record:
        """Keep pictures for reports, and return the Record; it says so where that could not be."""
        try:
            self._keep_thumbnails(job, samples)
        except ResultsError as error:
            said = Note("no_pictures", f"no pictures for reports: {error}")
            return record.model_copy(update={"notes": (*record.notes, said)})
        return record

    def _keep_thumbnails(self, job: Job, samples: Samples) -> None:
        assert job.data, "a ready job has data"
        known = self.store.thumbnails(job.data.fingerprint)
        new = (
            e for e in thumbnails.wanted(job.data.dataset.examples, samples, type(job.task.kind)) if e.id not in known
        )
        made = {e.id: data for e in new if (data := thumbnails.jpeg(e)) is not None}
        if made or not known:
            self.store.put_thumbnails(job.data.fingerprint, known | made)


def _surprise(where: str, error: Exception) -> CocabenchError:
    """Return an error that nobody foresaw as one of ours; its traceback goes to the log."""
    logging.getLogger(__name__).critical("unforeseen error in %s", where, exc_info=error)
    return CocabenchError(where, f"{type(error).__name__}: {error}", fix="this is a bug; please report the traceback")
