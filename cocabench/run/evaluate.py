"""cocabench.evaluate and cocabench.prepare: evaluate a model string or an object in memory from Python."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from cocabench.core.cache import Cache, MemoryCache, open_cache, spaces_folder
from cocabench.core.errors import ModelError, UsageError
from cocabench.core.types import Dataset, Note, Progress, Record, Source, silent
from cocabench.metrics.base import Samples
from cocabench.models import objects, plain
from cocabench.models.contexts import unchanged_random_state
from cocabench.models.hardware import Hardware
from cocabench.models.hf import memory as transformers
from cocabench.models.pixels import with_resize
from cocabench.report.results import Results
from cocabench.results.store import RecordSet, Store, as_stored
from cocabench.run.execute import Runner, Sink, Unobserved, planner_for
from cocabench.run.plan import Plan, Planner, State
from cocabench.run.prepare import Settings
from cocabench.run.prepare import prepare as data_of
from cocabench.specs.registry import Task, find_tasks, one_model


@dataclass(frozen=True)
class Prepared:
    """A task with its data located and parsed, for repeated evaluation. len() is the number of examples.

    >>> import cocabench
    >>> (task,) = cocabench.prepare("emoji_flags", limit=50)
    >>> task.name, len(task)
    ('emoji_flags', 50)
    """

    task: Task = field(repr=False)
    found: Mapping[str, Dataset] = field(repr=False)
    modes: Mapping[str, int] = field(repr=False)
    settings: Settings = field(repr=False)
    name: str

    def __len__(self) -> int:
        return min(len(self.found[""]), self.settings.limit or sys.maxsize)


def prepare(
    tasks: str | Sequence[str | Prepared],
    *,
    data_root: str | Path = "data",
    limit: int | None = None,
    seed: int = 0,
    download: bool = False,
) -> list[Prepared]:
    """Locate and parse the data of tasks once, for use in a training loop. Decodes no image.

    tasks: names, groups, or paths of TOML files, as for ``cocabench run --tasks``. data_root: the folder of the data
    sets. limit: use a random subset of this many images, drawn with seed. download: allow downloads of data sets.

    Raises UsageError for an unknown task, SpecError for an invalid file, DataError for missing or invalid data.

    >>> import cocabench
    >>> tasks = cocabench.prepare("emoji_retrieval", limit=50)
    >>> cocabench.evaluate("demo/clip", tasks)
    1 result
    demo/clip  emoji_retrieval  t2i_recall@5  ... (n=50)
    """
    settings = Settings(data_root=Path(data_root), limit=limit, seed=seed, download=download)
    given = [tasks] if isinstance(tasks, str) else list(tasks)
    names = [item for item in given if isinstance(item, str)]
    made = {task.name: _prepared(task, settings) for task in (find_tasks(names) if names else ())}
    made |= {item.name: item for item in given if isinstance(item, Prepared)}
    if not made:
        raise UsageError("tasks", "no tasks given", fix="see `cocabench list tasks`")
    return list(made.values())


def _prepared(task: Task, settings: Settings) -> Prepared:
    data = data_of(task, settings)
    return Prepared(task, data.loaded.found, data.loaded.modes, settings, task.name)


def evaluate(
    model: str | Any,
    tasks: str | Sequence[str | Prepared],
    *,
    data_root: str | Path = "data",
    preprocess: Callable[[Any], Any] | None = None,
    tokenizer: Any = None,
    processor: Any = None,
    name: str = "",
    output: str | Path | None = None,
    cache: Cache | str | Path | None = None,
    device: str | None = None,
    precision: str = "auto",
    resize: Literal["own", "fast"] = "own",
    batch_size: int | None = None,
    workers: int | None = None,
    limit: int | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> Results:
    """Evaluate a model on tasks and return the Results: a Record per task, with its samples.

    model: one of
      a model string, as for ``cocabench run --model``;
      an open_clip network, with its preprocess (maps a PIL image to a float tensor (3, h, w)) and its tokenizer (maps a
      list of n texts to int64 token ids (n, context_length));
      a transformers network, with its processor (``AutoProcessor``'s);
      any object with ``encode_images(images)`` and ``encode_texts(texts)`` that return a row per image or text, (n, d)
      of any scale, as a tensor or array. images: a list of n PIL images, or with a preprocess its tensors, stacked.
    tasks: names, groups, paths of TOML files, or the result of ``prepare``. data_root: the folder of the data sets.
    name: the model's name in the Records. output: a results folder for the Records; finished results in it are not
    measured again. By default nothing is stored. cache: a folder or cache object that keeps features between calls.
    device, precision, resize, batch_size: as for ``cocabench run``; a network in memory is evaluated on its own device.
    workers: processes that decode images, started by Python's configured start method; None: chosen automatically.
    limit, seed: evaluate a random subset of this many images, for tasks that are not prepared. progress: called with
    (stage, done, total).

    What is in memory is left as it was: training mode, device, dtype and weights, and the random states of Python,
    numpy and torch. A hash of the weights identifies it (0.6 s of processor time per GB). DistributedDataParallel and
    torch.compile are taken off, so that no collective is started: call it on one rank, while the others wait at a
    barrier of theirs. A network sharded by FSDP must be gathered before.

    The first error is raised: UsageError, DataError or ModelError for invalid arguments, NumericsError for NaN.
    Results finished before it are in output.

    >>> import cocabench
    >>> results = cocabench.evaluate("demo/clip", ["emoji_retrieval"], limit=50)
    >>> results[0].metrics["t2i_recall@5"].n
    50
    """
    with unchanged_random_state():
        source = _source(model, preprocess, tokenizer, processor, name, resize)
        _check_kept(source, output=output, cache=cache)
        settings = Settings(
            data_root=Path(data_root),
            output=None if output is None else Path(output),
            limit=limit,
            seed=seed,
            device=_device(source, device),
            precision=precision,
            resize=resize,
            batch_size=batch_size,
            workers=workers,
        )
        hardware = replace(settings.hardware(), host_start=True)
        planner = planner_for(settings, hardware)
        plan = _plan(planner, source, prepare(tasks, data_root=data_root, limit=limit, seed=seed))
        sink: Memory | Store = Memory() if settings.output is None else Store(settings.output)
        sink.check_writable()
        with _opened(cache) as opened:
            records = list(_measured(plan, planner, hardware, opened, sink, progress))
        found = sink.results(records)
        return Results(found.records, found.paths, found.held)


def _source(model: str | Any, preprocess: Any, tokenizer: Any, processor: Any, name: str, resize: str) -> Source:
    if resize not in ("own", "fast"):
        raise UsageError("resize", f"got {resize!r}", wanted="own or fast")
    given = {"preprocess": preprocess, "tokenizer": tokenizer, "processor": processor, "name": name or None}
    if isinstance(model, str):
        _refuse(given, "a model string", "which says it all")
        return one_model(model, download=True, resize=resize, typed=True)
    if isinstance(model, tuple):
        got, fix = f"a tuple of {len(model)}", "evaluate(net, tasks, preprocess=preprocess, tokenizer=tokenizer)"
        raise UsageError("model", got, wanted="the network alone", fix=fix)
    if preprocess is not None:
        preprocess = with_resize(preprocess, resize)
    elif resize != "own":
        raise UsageError("resize", f"got {resize!r} without preprocess, whose resize it replaces", fix="give both")
    if transformers.is_of_transformers(model):
        _refuse(
            {k: given[k] for k in ("preprocess", "tokenizer")}, "a network of transformers", "whose processor does it"
        )
        return transformers.in_memory(model, processor, name=name)
    _refuse({"processor": processor}, f"a {type(model).__name__}", "which is no network of transformers")
    if objects.is_of_open_clip(model):
        return objects.in_memory(model, preprocess, tokenizer, name=name)
    if plain.has_encoders(model):
        _refuse({"tokenizer": tokenizer}, "an object with encode_texts", "which gets texts")
        return plain.in_memory(model, preprocess, name=name)
    wanted = (
        "a model string, a network of open_clip or transformers, or an object with encode_images(images) and "
        "encode_texts(texts)"
    )
    raise UsageError("model", f"an object of type {type(objects.unwrapped(model)).__name__}", wanted=wanted)


def _refuse(given: Mapping[str, Any], what: str, why: str) -> None:
    """Raise UsageError for arguments that would be ignored."""
    for name, value in given.items():
        if value is not None:
            raise UsageError(name, f"given with {what}, {why}", fix="leave it out")


def _check_kept(source: Source, *, output: object, cache: object) -> None:
    """Raise UsageError if features or results are kept of an object whose weights are not known."""
    if isinstance(source, plain.PlainSource) and source.unknown:
        for name, value in (("output", output), ("cache", cache)):
            if value is not None:
                fix = 'give it a method signature() that returns what determines its features: {"weights": …}'
                raise UsageError(name, f"given {source.unknown}", fix=fix)


def _measured(
    plan: Plan, planner: Planner, hardware: Hardware, cache: Cache, sink: Sink, progress: Progress
) -> Iterator[Record]:
    """Run the plan in this process and yield its Records; raise the first error."""
    runner = Runner(lambda source: source.load(hardware), cache, sink, Unobserved(progress), planner, hardware)
    for cell in plan.cells:
        for outcome in runner.run(cell):
            if outcome.error is not None:
                raise outcome.error
            if outcome.record is not None:
                yield outcome.record


@dataclass
class Memory:
    """A Sink that keeps samples in memory, and no thumbnails."""

    samples: list[Samples] = field(default_factory=list)

    def check_writable(self) -> None:
        pass

    def results(self, records: Sequence[Record]) -> RecordSet:
        """Return the Records that were put, in that order, with their samples."""
        return RecordSet(tuple(records), (None,) * len(records), tuple(self.samples))

    def put(self, record: Record, samples: Samples) -> Record:
        self.samples.append(as_stored(samples))
        return record

    def put_record(self, record: Record) -> None:
        raise AssertionError("nothing was stored before, so no Record is recomputed")

    def thumbnails(self, fingerprint: str) -> Mapping[str, bytes]:
        return {}

    def put_thumbnails(self, fingerprint: str, images: Mapping[str, bytes]) -> None:
        pass


def _device(source: Source, device: str | None) -> str:
    """Return the device: the caller's, or else the network's."""
    if device is not None:
        return device
    net = getattr(source, "net", None)
    return "auto" if net is None else str(objects.device_of(net))


def _plan(planner: Planner, source: Source, prepared: Sequence[Prepared]) -> Plan:
    """Plan one model; raise an error for tasks that cannot run, before anything is loaded."""
    own = planner.settings
    for item in prepared:
        if own.limit not in (None, item.settings.limit):
            raise UsageError(item.name, f"prepared with limit={item.settings.limit}", wanted=f"limit={own.limit}")
        known = data_of(item.task, item.settings, own.precision, planner.machine, found=item.found, modes=item.modes)
        planner.know(item.task, known)
    plan = planner.plan([source], [item.task for item in prepared])
    for cell in plan.cells:
        for step in cell.steps:
            if step.state is State.NOT_APPLICABLE:
                raise ModelError(f"{source.id} on {step.task}", step.reason, fix="leave the task out")
            if step.state is State.FAILED:
                error = planner.job(cell.model, step).error
                assert error, "a failed step has an error"
                raise error
    return plan


@contextmanager
def _opened(cache: Cache | str | Path | None) -> Iterator[Cache]:
    """Yield the cache: in memory by default, in a folder, or the given object."""
    if isinstance(cache, str | Path):
        with open_cache(spaces_folder(Path(cache)), _ignore) as opened:
            yield opened
    else:
        yield MemoryCache() if cache is None else cache


def _ignore(note: Note) -> None:
    """Ignore a note; the Records have the cache's notes."""
