"""The next model is built on the CPU by a thread while this one is in use: two models at most are in memory."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field

from cocabench.core.types import Model
from cocabench.models.hardware import Hardware
from cocabench.specs.registry import BuildablePlan, ModelPlan

Placing = Callable[[Hardware], Model]


@dataclass
class Ahead:
    """Builds one model ahead of its use. An error of the thread is raised when that model is asked for."""

    _plan: ModelPlan | None = None
    _built: Future[Placing] | None = None
    _thread: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "building"))

    def start(self, plan: ModelPlan | None) -> None:
        """Begin to build a model, if a thread may."""
        if isinstance(plan, BuildablePlan) and plan.ahead:
            self._plan, self._built = plan, self._thread.submit(plan.build)

    def settle(self) -> None:
        """Wait until the next model is built, for whoever takes times or memory: the thread has a share of both."""
        wait(() if self._built is None else (self._built,))

    def load(self, plan: ModelPlan, hardware: Hardware) -> Model:
        """Return a plan's model, which may be built already; one that was built for nothing is dropped."""
        expected, built = self._plan, self._built
        self._plan = self._built = None
        return built.result()(hardware) if built and expected == plan else plan.load(hardware)
