"""Who runs the cells of a plan. An engine sees that each is finished; what a cell is, it leaves to ``run_cell``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from cocabench.core.cache import Cache
from cocabench.core.types import Model, Source
from cocabench.models.hardware import Hardware
from cocabench.models.loading import start_server
from cocabench.run.execute import Observer, Outcome, Runner, Sink
from cocabench.run.plan import Plan, Planner


class Engine(Protocol):
    """Runs the cells of a plan, wherever. tests/run/contract.py holds every engine to this:

    Records (but for timing, environment and time of creation) and samples equal those of one process by bits. A
    worker that is lost costs its unfinished work alone. Other data or weights elsewhere are one error that names them.
    Ctrl-C ends all within seconds, and what is finished is kept.
    """

    def run(self, plan: Plan, cache: Cache, sink: Sink, observer: Observer) -> Iterator[Outcome]:
        """Yield the Outcome of each step of each cell as it is known; its Record is in the sink by then."""


@dataclass(frozen=True)
class InProcess:
    """Runs the cells in this process, one after the other. planner: the one that made the plan."""

    planner: Planner
    hardware: Hardware

    def run(self, plan: Plan, cache: Cache, sink: Sink, observer: Observer) -> Iterator[Outcome]:
        runner = Runner(self._load, cache, sink, observer, self.planner, self.hardware)
        for cell in plan.cells:
            yield from runner.run(cell)

    def _load(self, source: Source) -> Model:
        start_server(self.hardware.workers, type(source).__module__)
        return source.load(self.hardware)
