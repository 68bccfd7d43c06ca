"""What the terminal shows while a run goes on."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

from cocabench.cli.console import err
from cocabench.core.formatting import number
from cocabench.core.types import Progress as Told
from cocabench.core.types import silent
from cocabench.run.execute import Outcome
from cocabench.run.plan import State, Step


class Quiet:
    """An Observer that shows nothing but notes."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def note(self, text: str) -> None:
        err.print(f"[yellow]note[/yellow] {escape(text)}", soft_wrap=True)

    def loading(self, model: str) -> None:
        pass

    def started(self, model: str, step: Step) -> Told:
        return silent

    def finished(self, outcome: Outcome) -> None:
        pass


class Bars:
    """An Observer with a progress bar per stage (images/s, time left) and a line per finished step, on stderr."""

    def __init__(self) -> None:
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
        )
        self.progress = Progress(*columns, console=err, transient=True)

    def __enter__(self) -> Self:
        self.progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.progress.stop()

    def note(self, text: str) -> None:
        self.progress.console.print(f"[yellow]note[/yellow] {escape(text)}", soft_wrap=True)

    def loading(self, model: str) -> None:
        self.progress.console.print(f"[bold]{escape(model)}[/bold]")

    def started(self, model: str, step: Step) -> Told:
        return _Stages(self.progress, step.task)

    def finished(self, outcome: Outcome) -> None:
        for task in self.progress.task_ids:
            self.progress.remove_task(task)
        self.progress.console.print(_line(outcome))


@contextmanager
def stages(name: str) -> Iterator[Told]:
    """Show one bar for work that is no job of a run."""
    with Bars() as bars:
        yield _Stages(bars.progress, name)


class _Stages:
    """Moves one bar through the stages of a step."""

    def __init__(self, progress: Progress, name: str) -> None:
        self.progress, self.name, self.stage = progress, name, ""
        self.task = progress.add_task(name, total=None, rate="")
        self.start = time.perf_counter()

    def __call__(self, stage: str, done: int, total: int) -> None:
        if stage != self.stage:
            self.stage, self.start = stage, time.perf_counter()
            self.progress.reset(self.task, total=total, description=f"{self.name}: {stage}")
        rate = done / max(time.perf_counter() - self.start, 1e-9)
        self.progress.update(self.task, completed=done, rate=f"{rate:,.0f}/s" if done else "")


def _line(outcome: Outcome) -> str:
    step, record = outcome.step, outcome.record
    name = escape(step.task)
    if outcome.error is not None:
        return f"  [red]✗ {name}[/red]  [dim]failed, see below[/dim]"
    if record is None:
        return f"  [dim]– {name}  not applicable: {escape(step.reason)}[/dim]"
    known = record.primary in record.metrics
    value = number(record.metrics[record.primary], record.definitions[record.primary]) if known else "no score"
    tail = "(done before)" if step.state is State.DONE else f"{record.timing.get('seconds', 0):.0f} s"
    return f"  [green]✓[/green] {name}  {escape(record.primary)} {escape(value)}  [dim]{tail}[/dim]"
