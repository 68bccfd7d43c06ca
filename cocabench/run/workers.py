"""Workers of several devices, and a model on them. A worker runs in a process of Ray and holds a device.

What a call needs travels with it: the model's source, and a block of the inputs as paths or texts; features come back.
So a worker that Ray restarts needs nothing else. What is handed out is one whole batch of images or block of texts:
then results do not depend on the number of workers.
"""

from __future__ import annotations

import functools
import platform
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple, ParamSpec, TypeVar, cast

import torch
from pydantic import JsonValue

from cocabench.core.cache import Cache, MemoryCache, open_cache
from cocabench.core.errors import CocabenchError, DataError, ModelError, named
from cocabench.core.types import (
    Ability,
    Captions,
    Features,
    ImageOutput,
    ImageSource,
    Likelihoods,
    Model,
    Note,
    Progress,
    Record,
    Source,
    Workload,
    silent,
)
from cocabench.metrics.base import Samples
from cocabench.models import contents
from cocabench.models.base import TEXTS_PER_BLOCK
from cocabench.models.base import Model as Base
from cocabench.models.cached import streams
from cocabench.models.hardware import Hardware
from cocabench.models.loading import Batch, batches, start_worker, worker_context
from cocabench.models.pixels import Transform
from cocabench.models.streams import Encoded, Joined
from cocabench.models.tokens import TokenCounts
from cocabench.run import thumbnails
from cocabench.run.execute import Outcome, Runner, Unobserved, planner_for
from cocabench.run.measure import Site, site_of
from cocabench.run.plan import Cell, Step, hashes
from cocabench.run.prepare import Settings, identity_of
from cocabench.specs.surprise import surprise

MODELS_HELD = 2
"""A task may need two models in turns: the one that captions, and the one that scores captions."""

SWITCH_S = 0.0005
"""How long a worker's thread that reads may keep the one that computes waiting, in place of Python's 5 ms, of which a
block of images pays several."""

P = ParamSpec("P")
T = TypeVar("T")
Made = dict[str, JsonValue]
TextHook = Literal["class_prompts", "count_tokens"]
"""Methods of a model that compute nothing on the device."""


class Failed(NamedTuple):
    """An error of a worker, with its machine's name."""

    error: CocabenchError


class Block(NamedTuple):
    """Images (k,) and their content hashes as the first machine found them; None where they cannot be read."""

    images: Sequence[ImageSource]
    keys: Sequence[bytes | None]


class Described(NamedTuple):
    """A loaded model. made: the model part of its signature. split: whether its inputs can be split into blocks.

    logit_scale: see ``Model.logit_scale``.
    """

    made: Made
    parameters: dict[str, int]
    split: bool
    logit_scale: float | None = None


class Computed(NamedTuple):
    """Parts of a block, positions relative to it, and the model's notes so far."""

    parts: list[Any]
    notes: tuple[Note, ...]


class Measured(NamedTuple):
    """The outcome of a step that ran whole, its samples (None after an error), and thumbnails that were missing."""

    outcome: Outcome
    samples: Samples | None
    thumbnails: Mapping[str, bytes]


def _returning_errors(method: Callable[P, T]) -> Callable[P, T | Failed]:
    """Return errors instead of raising them, which would bury them in Ray's."""

    @functools.wraps(method)
    def call(*args: P.args, **kwargs: P.kwargs) -> T | Failed:
        node = f"on {platform.node()}"
        try:
            return method(*args, **kwargs)
        except CocabenchError as error:
            return Failed(named(error, node))
        except Exception as error:  # noqa: BLE001 — one block's surprise must not end the worker
            return Failed(surprise(node, error))

    return call


@dataclass
class _Kept:
    """A Sink that keeps what is put until it is sent."""

    samples: Samples | None = None

    def put(self, record: Record, samples: Samples) -> Record:
        self.samples = samples
        return record

    def put_record(self, record: Record) -> None:
        raise AssertionError("the driver renews Records")

    def thumbnails(self, fingerprint: str) -> Mapping[str, bytes]:
        return {}

    def put_thumbnails(self, fingerprint: str, images: Mapping[str, bytes]) -> None:
        raise AssertionError("the driver keeps thumbnails")


class Worker:
    """A device. Its methods may be called in several threads: one computes while others read images.

    settings: of the run, with this worker's device. readers: processes that decode images; 0: threads.
    """

    def __init__(self, settings: Settings, threads: int, readers: int) -> None:
        self.settings, self.threads = replace(settings, output=None, workers=readers), threads
        sys.setswitchinterval(SWITCH_S)
        self.hardware = self.settings.hardware()
        self.files: Cache = MemoryCache()
        self.device, self.holding = threading.Lock(), threading.Lock()
        self.models: OrderedDict[str, Model] = OrderedDict()
        self.readers = readers
        self.pool: ProcessPoolExecutor | None = None
        self.stage = ("", 0, 0)
        self.open = ExitStack()
        self.runner: Runner | None = None

    def greet(self) -> tuple[str, Site]:
        """Return the node's name and the machine."""
        torch.set_num_threads(self.threads)
        return platform.node(), site_of(self.hardware)

    def cpu_seconds(self) -> float:
        """Return the processor time of this worker so far, without that of its data-loading processes."""
        return time.process_time()

    def done(self) -> tuple[str, int, int]:
        """Return stage, done and total of the step that runs."""
        return self.stage

    @_returning_errors
    def describe(self, source: Source, made: Made | None) -> Described:
        """Load a model, and return what the driver must know of it. made: as the plan has it, None: not known yet."""
        made = self._identity(source) if made is None else made
        model = self._model(source, made)
        scale = getattr(model, "logit_scale", None)  # of plain objects
        return Described(made, dict(model.parameters), isinstance(model, Base), scale() if scale else None)

    @_returning_errors
    def images(self, source: Source, made: Made, block: Block, output: ImageOutput, normalize: bool) -> Computed:
        how: dict[str, Any] = {} if output == "projected" and normalize else {"output": output, "normalize": normalize}
        return self._over_images(source, made, block, lambda model: model.stream_images(block.images, **how))

    @_returning_errors
    def captions(
        self, source: Source, made: Made, block: Block, options: Mapping[str, Any], prompts: Sequence[str]
    ) -> Computed:
        return self._over_images(
            source, made, block, lambda model: model.stream_captions(block.images, options, prompts=prompts)
        )

    @_returning_errors
    def likelihoods(
        self, source: Source, made: Made, block: Block, texts: Sequence[Sequence[str]], prefixes: Sequence[str] | None
    ) -> Computed:
        return self._over_images(
            source, made, block, lambda model: model.stream_likelihoods(block.images, texts, prefixes=prefixes)
        )

    @_returning_errors
    def texts(self, source: Source, made: Made, texts: Sequence[str]) -> Computed:
        model = self._model(source, made)
        with self._computing():
            return Computed(list(streams(model).stream_texts(texts)), tuple(model.notes))

    @_returning_errors
    def said_of_texts(self, source: Source, made: Made, hook: TextHook, texts: Sequence[str]) -> Computed:
        """Return what a model's hook says of texts; [] where it has none: a plain object."""
        model = self._model(source, made)
        asked = getattr(model, hook, None)
        return Computed([asked(texts)] if asked else [], tuple(model.notes))

    @_returning_errors
    def costs(self, source: Source, made: Made, work: Workload, site: Site) -> Computed:
        """Measure costs. site: the machine that the signature names."""
        model = self._model(source, made)
        with self._computing():
            if site_of(self.hardware).machine != site.machine:
                wanted = f"{site.machine.name}, {site.machine.threads} threads"
                raise ModelError(source.id, "costs on another machine than planned", wanted=wanted)
            return Computed(list(model.costs(work)), tuple(model.notes))

    @_returning_errors
    def step(self, source: Source, cell: Cell, step: Step, known: Collection[str]) -> Measured:
        """Run one step whole. step: as the driver planned it. known: ids of examples whose thumbnails are there."""
        runner, sink = self._runner(), _Kept()
        runner.planner.sources[source.id] = source
        with self._computing():
            (outcome,) = replace(runner, sink=sink).run(replace(cell, steps=(step,)))
        if sink.samples is None:
            return Measured(outcome, None, {})
        job = runner.planner.job(cell.model, step)
        assert job.data, "what was measured has data"
        made = thumbnails.missing(job.data.dataset.examples, sink.samples, type(job.task.kind), known)
        return Measured(outcome, sink.samples, made)

    def _runner(self) -> Runner:
        if self.runner is None:
            cache = self.open.enter_context(open_cache(self.settings.cache, lambda note: None))

            def load(source: Source) -> Model:
                return self._model(source, identity_of(source, self.hardware.precision, self.hardware.compile, cache))

            def progress(stage: str, done: int, total: int) -> None:
                self.stage = (stage, done, total)

            planner = planner_for(self.settings, self.hardware, download=False)
            self.runner = Runner(load, cache, _Kept(), Unobserved(progress), planner, self.hardware)
        return self.runner

    def _identity(self, source: Source) -> Made:
        if not source.available:
            raise ModelError(source.id, "its weights are not on this machine", fix="copy them to the same path")
        return identity_of(source, self.hardware.precision, self.hardware.compile, self.files)

    def _model(self, source: Source, made: Made) -> Model:
        """Return a model, loaded if it is not held. ModelError where it is another one on this machine."""
        with self.holding:
            if source.id not in self.models:
                here, wanted = hashes(self._identity(source)), hashes(made)
                if other := [
                    name for name in sorted(here.keys() | wanted.keys()) if here.get(name) != wanted.get(name)
                ]:
                    raise ModelError(source.id, f"{', '.join(other)} other than on the first machine", fix=_SAME)
                while len(self.models) >= MODELS_HELD:
                    self.models.popitem(last=False)
                torch.set_num_threads(self.threads)
                self.models[source.id] = source.load(self.hardware)
            self.models.move_to_end(source.id)
            return self.models[source.id]

    def _over_images(self, source: Source, made: Made, block: Block, work: Callable[[Any], Iterator[Any]]) -> Computed:
        """Read a block while others compute, then compute it."""
        model = self._model(source, made)
        self._check(block)
        if not isinstance(model, Base):
            with self._computing():
                return Computed(list(work(streams(model))), tuple(model.notes))
        read = self._read(block.images, model.transform, type(model).__module__)
        with self._computing():
            model.reader = lambda *_, **__: iter(read)
            parts = list(work(model))
            del model.reader
        return Computed(parts, tuple(model.notes))

    def _check(self, block: Block) -> None:
        """Raise DataError where an image is another one than on the first machine."""
        here = contents.of_images(block.images, self.files).keys
        for image, found, wanted in zip(block.images, here, block.keys, strict=True):
            if found != wanted:
                got = "cannot be read" if found is None else "another image than on the first machine"
                raise DataError(str(image), got, fix="use the same data on all machines")

    def _read(self, images: Sequence[ImageSource], transform: Transform, preload: str) -> list[Batch]:
        how = (images, transform, self.hardware.skip_bad_images)
        if not self.readers:
            return _read(*how)
        with self.holding:
            if self.pool is None:
                self.pool = ProcessPoolExecutor(self.readers, worker_context(preload), start_worker)
        return self.pool.submit(_read, *how).result()

    def _computing(self) -> ExitStack:
        """Return a context in which this thread alone computes."""
        stack = ExitStack()
        stack.enter_context(self.device)
        torch.set_num_threads(self.threads)  # a property of each thread
        return stack


_SAME = "use the same weights and package versions on all machines"


def _read(images: Sequence[ImageSource], transform: Transform, skip_bad: bool) -> list[Batch]:
    return list(batches(images, transform, batch_size=len(images), workers=0, skip_bad=skip_bad))


Hand = Callable[[str, Iterator[tuple[Any, ...]]], Iterator[Any]]
"""Hands calls of a Worker's method out, and yields their results in order; errors are raised."""


@dataclass
class Pool(Joined):
    """A model on several workers."""

    source: Source
    described: Described
    hand: Hand
    hardware: Hardware
    site: Site
    cache: Cache
    notes: list[Note] = field(default_factory=list)

    @property
    def id(self) -> str:
        return self.source.id

    @property
    def abilities(self) -> frozenset[Ability]:
        return self.source.abilities

    @property
    def parameters(self) -> Mapping[str, int]:
        return self.described.parameters

    def logit_scale(self) -> float | None:
        return self.described.logit_scale

    def class_prompts(self, texts: Sequence[str]) -> list[str]:
        """Return prompts of classes as the model was trained to be asked."""
        (found,) = self._said("class_prompts", texts) or [list(texts)]
        return cast("list[str]", found)

    def count_tokens(self, texts: Sequence[str]) -> TokenCounts | None:
        """Return how many tokens texts have, None if unknown."""
        (found,) = self._said("count_tokens", texts) or [None]
        return cast("TokenCounts | None", found)

    def _said(self, hook: TextHook, texts: Sequence[str]) -> list[Any]:
        """Return what the model's hook says, as a list of one; [] where it has none."""
        return [part for made in self._handed("said_of_texts", iter([(hook, list(texts))])) for part in made.parts]

    @property
    def images_per_batch(self) -> int:
        """The images of a block; 0: all, for a model that cannot be split."""
        return self.hardware.images_per_batch if self.described.split else 0

    def stream_images(
        self,
        images: Sequence[ImageSource],
        *,
        output: ImageOutput = "projected",
        normalize: bool = True,
        progress: Progress = silent,
    ) -> Iterator[Encoded]:
        """Yield the rows of each batch of images, in order."""
        yield from self._over_images("images", images, lambda at: (output, normalize), progress)

    def stream_texts(self, texts: Sequence[str], *, progress: Progress = silent) -> Iterator[Features]:
        """Yield the rows of each block of distinct texts, in order."""
        size = TEXTS_PER_BLOCK if self.described.split else max(len(texts), 1)
        blocks = (list(texts[start : start + size]) for start in range(0, len(texts), size))
        done = 0
        for made in self._handed("texts", ((block,) for block in blocks)):
            for rows in made.parts:
                done += len(rows)
                yield rows
            progress("texts", done, len(texts))

    def stream_captions(
        self,
        images: Sequence[ImageSource],
        options: Mapping[str, Any],
        *,
        prompts: str | Sequence[str] | None = None,
        progress: Progress = silent,
    ) -> Iterator[Captions]:
        """Yield the captions of each batch of images, in order."""
        each = [prompts or ""] * len(images) if prompts is None or isinstance(prompts, str) else prompts
        yield from self._over_images("captions", images, lambda at: (dict(options), list(each[at])), progress)

    def stream_likelihoods(
        self,
        images: Sequence[ImageSource],
        texts: Sequence[Sequence[str]],
        *,
        prefixes: Sequence[str] | None = None,
        progress: Progress = silent,
    ) -> Iterator[Likelihoods]:
        """Yield the likelihoods of each batch of images, in order."""

        def own(at: slice) -> tuple[Any, ...]:
            return texts[at], None if prefixes is None else prefixes[at]

        yield from self._over_images("likelihoods", images, own, progress)

    def costs(self, work: Workload, *, progress: Progress = silent) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield costs, measured on one worker."""
        for made in self._handed("costs", iter([(work, self.site)])):
            yield from made.parts

    def _over_images(
        self, method: str, images: Sequence[ImageSource], own: Callable[[slice], tuple[Any, ...]], progress: Progress
    ) -> Iterator[Any]:
        size = self.images_per_batch or max(len(images), 1)
        starts = range(0, len(images), size)

        def calls() -> Iterator[tuple[Any, ...]]:
            for start in starts:
                at = slice(start, start + size)
                keys = contents.of_images(images[at], self.cache).keys  # found while the workers compute
                yield (Block(images[at], keys), *own(at))

        for start, made in zip(starts, self._handed(method, calls()), strict=True):
            for part in made.parts:
                yield part._replace(kept=start + part.kept)
            progress(method, min(start + size, len(images)), len(images))

    def _handed(self, method: str, calls: Iterator[tuple[Any, ...]]) -> Iterator[Computed]:
        for made in self.hand(method, ((self.source, self.described.made, *call) for call in calls)):
            self.notes += [note for note in made.notes if note not in self.notes]
            yield made
