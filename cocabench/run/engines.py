"""Engines run the cells of a plan; each cell is run by ``run_cell``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from cocabench.core.cache import Cache
from cocabench.core.types import Model, Source
from cocabench.models.hardware import Hardware
from cocabench.run.execute import Observer, Outcome, Runner, Sink
from cocabench.run.plan import Plan, Planner, State

if TYPE_CHECKING:
    from cocabench.models.shelf import Shelf


class Engine(Protocol):
    """Runs the cells of a plan. tests/run/contract.py checks for every engine:

    Records (except timing, environment and time of creation) and samples equal those of one process to the bit. A lost
    worker loses its unfinished work only. Different data or weights on another machine are one error that names them.
    Ctrl-C stops everything within seconds and keeps finished results.
    """

    def run(self, plan: Plan, cache: Cache, sink: Sink, observer: Observer) -> Iterator[Outcome]:
        """Yield the Outcome of each step when it is finished and its Record is in the sink."""


@dataclass(frozen=True)
class InProcess:
    """Runs the cells one after the other in this process. planner: the Planner of the plan."""

    planner: Planner
    hardware: Hardware

    def run(self, plan: Plan, cache: Cache, sink: Sink, observer: Observer) -> Iterator[Outcome]:
        together = _together(plan)
        with _shelf(cache) if together else nullcontext() as pixels:

            def load(source: Source) -> Model:
                return _loaded(source, self.hardware, pixels if source.id in together else None)

            runner = Runner(load, cache, sink, observer, self.planner, self.hardware)
            for cell in plan.cells:
                yield from runner.run(cell)


def _loaded(source: Source, hardware: Hardware, pixels: Shelf | None) -> Model:
    """Return a loaded model. pixels: shared with others. Imports torch, which a run that is done does without."""
    from cocabench.models.base import Model as Base
    from cocabench.models.loading import start_server

    start_server(hardware.workers, getattr(source, "model_module", type(source).__module__))
    model = source.load(hardware)
    if pixels is not None and isinstance(model, Base):
        model.reader = pixels.batches
    return model


def _shelf(cache: Cache) -> AbstractContextManager[Shelf]:
    from cocabench.models.shelf import shelf

    return shelf(cache)


def _together(plan: Plan) -> set[str]:
    """Return the models with steps to run whose preprocessing is also that of another one, as far as it is known."""
    made = {
        cell.model: cell.parts.get("preprocess", "")  # '': weights that were too large to be hashed for the plan
        for cell in plan.cells
        if any(step.state is State.READY for step in cell.steps)
    }
    count = Counter(made.values())
    return {model for model, own in made.items() if len(made) > 1 and (not own or count[own] + count[""] > 1)}
