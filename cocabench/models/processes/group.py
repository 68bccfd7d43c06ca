"""The processes of a run. The first one asks, all answer; what they say to each other goes through torch.distributed.

Features and captions are small and on the CPU, so gloo carries them whatever the devices are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch.distributed as dist

from cocabench.core.errors import LostProcessError
from cocabench.core.types import Progress, silent
from cocabench.models.processes.worker import Answer, Worker, answer

Ask = tuple[str, Sequence[Any]]
"""A method of Worker and its arguments."""


class Group(Protocol):
    """Processes that are asked together. devices: the names of those that are known here, this process's first."""

    devices: Sequence[str]
    size: int

    def ask(self, method: str, arguments: Sequence[Sequence[Any]], *, progress: Progress = silent) -> list[Any]:
        """Call a Worker's method in every process, each with its own arguments; return what each gives, by rank.

        The first failure by rank is raised when all have answered.
        """


@dataclass
class Alone:
    """A run in one process."""

    devices: Sequence[str] = ("auto",)
    worker: Worker = field(default_factory=lambda: Worker(0))
    size: int = 1

    def ask(self, method: str, arguments: Sequence[Sequence[Any]], *, progress: Progress = silent) -> list[Any]:
        (own,) = arguments
        return [answer(self.worker, method, own, progress=progress).get()]


@dataclass
class Together:
    """The first of several processes. lost says who is gone and why; connect is still to be called, if anything."""

    devices: Sequence[str]
    worker: Worker
    size: int
    lost: Callable[[], str]
    connect: Callable[[], None] | None = None

    def ask(self, method: str, arguments: Sequence[Sequence[Any]], *, progress: Progress = silent) -> list[Any]:
        if self.connect is not None:
            self.connect()
            self.connect = None
        self._send([(method, own) for own in arguments])
        own = answer(self.worker, method, arguments[0], progress=_times(progress, self.size))
        return [one.get() for one in self._gather(own)]

    def dismiss(self) -> None:
        """Let the other processes end. One that is lost now takes nothing with it."""
        if self.connect is None:
            with suppress(LostProcessError):
                self._send([None] * self.size)

    def _send(self, questions: Sequence[Ask | None]) -> None:
        try:
            dist.scatter_object_list([None], list(questions), src=0)
        except RuntimeError as error:
            raise self._error(error) from None

    def _gather(self, own: Answer) -> list[Answer]:
        answers: list[Any] = [None] * self.size
        try:
            dist.gather_object(own, answers, dst=0)
        except RuntimeError as error:
            raise self._error(error) from None
        return answers

    def _error(self, error: RuntimeError) -> LostProcessError:
        return LostProcessError(
            "processes",
            f"{self.lost()} ({str(error).splitlines()[0]})",
            fix="what is finished is kept; the same command goes on",
        )


def serve(worker: Worker) -> None:
    """Answer the first process until it lets this one go, or is gone itself."""
    while True:
        question: list[Ask | None] = [None]
        try:
            dist.scatter_object_list(question, None, src=0)
            if question[0] is None:
                return
            method, arguments = question[0]
            dist.gather_object(answer(worker, method, arguments, progress=silent), None, dst=0)
        except RuntimeError:  # the first process has ended, and says why
            return


def _times(progress: Progress, size: int) -> Progress:
    """Tell of all processes' shares by this one's."""

    def told(stage: str, done: int, total: int) -> None:
        progress(stage, done * size, total * size)

    return told
