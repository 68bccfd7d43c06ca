"""Engines run the cells of a plan; each cell is run by ``run_cell``."""

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
        runner = Runner(self._load, cache, sink, observer, self.planner, self.hardware)
        for cell in plan.cells:
            yield from runner.run(cell)

    def _load(self, source: Source) -> Model:
        start_server(self.hardware.workers, type(source).__module__)
        return source.load(self.hardware)
