"""What a run will do: every model on every task, with its data found or missing, and what is already done."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from importlib import metadata
from pathlib import Path

from pydantic import JsonValue

from cocabench.data.fingerprint import fingerprint
from cocabench.data.sampling import limited
from cocabench.errors import CocabenchError, DataError
from cocabench.registry import ModelPlan, Task
from cocabench.store import Store
from cocabench.types import Dataset, Record, Signature


class State(StrEnum):
    READY = "ready"
    DONE = "done"
    NO_DATA = "data missing"
    NOT_APPLICABLE = "not applicable"


@dataclass(frozen=True)
class Settings:
    """What to measure and where to keep it; how to compute is the Hardware."""

    data_root: Path = Path("data")
    output: Path = Path("results")
    limit: int | None = None
    seed: int = 0
    download: bool = False
    fresh: bool = False


@dataclass(frozen=True)
class Data:
    """A task's data set as it will be used, its fingerprint, and how it departs from the standard protocol."""

    dataset: Dataset
    fingerprint: dict[str, JsonValue]
    departures: tuple[str, ...]


@dataclass(frozen=True)
class Job:
    """One model on one task. signature is None where it cannot be known yet (no data, weights not downloaded)."""

    plan: ModelPlan
    task: Task
    state: State
    reason: str = ""
    error: CocabenchError | None = None
    data: Data | None = None
    signature: Signature | None = None
    record: Record | None = None


def prepare(task: Task, settings: Settings) -> Data:
    """Find a task's data and hold it against the protocol's counts. Reads no image."""
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
    return Data(dataset, fingerprint(dataset), tuple(departures))


def plan(models: Iterable[ModelPlan], tasks: Iterable[Task], settings: Settings, precision: str) -> list[Job]:
    """Return a Job for every model and task, models outermost, so that each is loaded once."""
    tasks = list(tasks)
    data = {task.name: _data_or_error(task, settings) for task in tasks}
    store = Store(settings.output)
    return [
        _job(model, task, found, identity, settings, store)
        for model in models
        for identity in [_identity(model, precision)]
        for task, found in zip(tasks, data.values(), strict=True)
    ]


def _data_or_error(task: Task, settings: Settings) -> Data | CocabenchError:
    try:
        return prepare(task, settings)
    except CocabenchError as error:
        return error


def _identity(model: ModelPlan, precision: str) -> dict[str, JsonValue] | None:
    """Return the model part of the signature, or None while the weights are not at hand."""
    if not model.at_hand:
        return None
    packages: dict[str, JsonValue] = {name: metadata.version(name) for name in ("open_clip_torch", "torch")}
    return {**model.signature(), "precision": precision, "packages": packages}


def _job(
    model: ModelPlan,
    task: Task,
    data: Data | CocabenchError,
    identity: dict[str, JsonValue] | None,
    settings: Settings,
    store: Store,
) -> Job:
    job = Job(model, task, State.READY)
    if task.evaluator.needs == "captioner" and not model.captions:
        return replace(job, state=State.NOT_APPLICABLE, reason="the model cannot caption")
    if isinstance(data, CocabenchError):
        return replace(job, state=State.NO_DATA, reason=str(data), error=data)
    if identity is None:
        return replace(job, data=data, reason="weights to be downloaded")
    signature = Signature(protocol=_protocol(task, data), model=identity)
    record = None if settings.fresh else store.get(model.id, task.name, signature)
    state = State.READY if record is None else State.DONE
    return replace(job, state=state, data=data, signature=signature, record=record)


def _protocol(task: Task, data: Data) -> dict[str, JsonValue]:
    return {
        "task": task.name,
        "version": task.spec.version,
        "evaluator": task.spec.evaluator,
        "data": data.fingerprint,
        "standard": not data.departures,
        **({"limit": len(data.dataset)} if data.dataset.whole else {}),
        **task.evaluator.protocol(data.dataset),
    }
