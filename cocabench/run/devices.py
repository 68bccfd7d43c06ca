"""The engine for several devices and machines, on Ray: cells side by side, and blocks of one cell among the rest.

Ray starts the workers, restarts them when they die, and tells of dead nodes. A call that is lost with its worker is
given out again here, to whichever worker is free: Ray itself would wait for the restarted one, for which no node may be
left. Only this process, the driver, writes results.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

import torch

from cocabench.core.cache import Cache
from cocabench.core.errors import CocabenchError
from cocabench.core.formatting import plural
from cocabench.core.types import Progress, Source, silent
from cocabench.run.cluster import Chosen, imported_ray, started_here
from cocabench.run.execute import Observer, Outcome, Runner, Sink
from cocabench.run.measure import Site
from cocabench.run.plan import Cell, Job, Plan, Planner, State, Step
from cocabench.run.prepare import Settings, identity_of
from cocabench.run.workers import Described, Failed, Measured, Pool, Worker

NO_WORKER_S = 600.0
"""How long to wait for a worker when none is left."""

MAX_DEATHS = 5
"""Workers that may die of one call, whose images may need more memory than there is."""

AHEAD = 2
"""Calls that a worker has at once, besides one per data-loading process: it reads for one and computes another."""

POLL_S = 1.0


@dataclass(eq=False)
class Member:
    """A worker. calls: how many it has; alone: it runs steps of a cell, and gets no blocks."""

    actor: Any
    node: str = ""
    alive: bool = False
    gone: bool = False
    calls: int = 0
    alone: bool = False


@dataclass(eq=False)
class Call:
    """A call of a Worker's method. done gets its result, or a Failed."""

    method: str
    arguments: tuple[Any, ...]
    done: Callable[[Any], None]
    deaths: int = 0


def too_many_deaths(member: Member) -> CocabenchError:
    fix = "is there enough memory? try a smaller --batch-size"
    return CocabenchError(f"on {member.node}", f"{MAX_DEATHS} workers died of the same work", fix=fix)


@dataclass(eq=False)
class _Flight:
    """A call on its way. lost: what to do if its worker dies."""

    member: Member
    done: Callable[[Any], None]
    lost: Callable[[str], None]


class Crew:
    """The workers, and the calls that they have. Runs in the thread that calls ``pump``."""

    def __init__(self, ray: Any, chosen: Chosen, settings: Settings, tell: Callable[[str], None]) -> None:
        self.ray, self.tell, self.n = ray, tell, chosen.n
        readers = chosen.readers(settings.workers)
        self.depth = AHEAD + readers
        remote = ray.remote(Worker)
        options: dict[str, Any] = {
            "num_cpus": chosen.cpus,
            "num_gpus": 1 if chosen.kind == "cuda" else 0,
            "max_restarts": -1,
            "max_task_retries": 0,  # see the module
            "max_concurrency": self.depth + 2,  # and signs of life
            "scheduling_strategy": "SPREAD",
            "runtime_env": {"env_vars": {"OMP_NUM_THREADS": str(chosen.cpus)}},
        }
        made = (remote.options(**options).remote(settings, chosen.cpus, readers) for _ in range(self.n))
        self.members = [Member(actor) for actor in made]
        self.flying: dict[Any, _Flight] = {}
        self.queue: deque[Call] = deque()
        self.site: Site | None = None
        self.free: Callable[[Member], None] = lambda member: None
        self.tick: Callable[[], None] = lambda: None
        self.since = time.monotonic()
        for member in self.members:
            self._greet(member)

    def wait_for_one(self) -> Site:
        """Wait for the first worker, and return its machine."""
        while self.site is None:
            self.pump()
        return self.site

    @property
    def alive(self) -> list[Member]:
        return [member for member in self.members if member.alive]

    def map(self, method: str, calls: Iterator[tuple[Any, ...]]) -> Iterator[Any]:
        """Hand calls out to all workers that are free, and yield the results in order; raise the first error."""
        numbered = enumerate(calls)
        results: dict[int, Any] = {}
        given, taken, more = 0, 0, True
        while True:
            while more and given - taken < 2 * self.depth * self.n:
                try:
                    number, arguments = next(numbered)
                except StopIteration:
                    more = False
                    break
                self.queue.append(Call(method, arguments, partial(results.__setitem__, number)))
                given += 1
            if taken == given:
                return
            while taken not in results:
                self.pump()
            result = results.pop(taken)
            if isinstance(result, Failed):
                raise result.error
            taken += 1
            yield result

    def ask(self, member: Member, call: Call, lost: Callable[[], None]) -> None:
        """Give a call to one worker. lost: what to do if it dies."""

        def done(result: Any) -> None:
            member.calls -= 1
            call.done(result)

        member.calls += 1
        self.send(member, call.method, call.arguments, done, lambda _: lost())

    def pump(self) -> None:
        """Give out what waits, and take what is finished; return after POLL_S at the latest."""
        for member in self.alive:
            if not member.calls and not member.alone:
                self.free(member)
        self._give_out()
        self._check_alive()
        self.tick()
        if not self.flying:
            return
        refs = list(self.flying)
        ready, _ = self.ray.wait(refs, num_returns=1, timeout=POLL_S)
        if ready:
            ready, _ = self.ray.wait(refs, num_returns=len(refs), timeout=0)
        for ref in ready:
            self._take(ref, self.flying.pop(ref))

    def _give_out(self) -> None:
        while self.queue:
            able = [member for member in self.alive if not member.alone and member.calls < self.depth]
            if not able:
                return
            call, member = self.queue.popleft(), min(able, key=lambda member: member.calls)
            self.ask(member, call, partial(self._again, call, member))

    def _again(self, call: Call, member: Member) -> None:
        call.deaths += 1
        if call.deaths < MAX_DEATHS:
            self.queue.appendleft(call)
        else:
            call.done(Failed(too_many_deaths(member)))

    def _take(self, ref: Any, flight: _Flight) -> None:
        try:
            result = self.ray.get(ref)
        except self.ray.exceptions.RayActorError as error:
            self._lose(flight.member, error)
            flight.lost(str(error))
            return
        except self.ray.exceptions.RayError as error:
            result = Failed(CocabenchError(f"on {flight.member.node}", " ".join(str(error).split())[:300]))
        flight.done(result)

    def send(
        self,
        member: Member,
        method: str,
        arguments: tuple[Any, ...],
        done: Callable[[Any], None],
        lost: Callable[[str], None],
        **options: Any,
    ) -> None:
        """Send a call, besides those that count as work. options: Ray's."""
        remote = getattr(member.actor, method)
        ref = (remote.options(**options) if options else remote).remote(*arguments)
        self.flying[ref] = _Flight(member, done, lost)

    def _greet(self, member: Member) -> None:
        """Wait, among other things, for a worker that starts."""

        def done(result: tuple[str, Site]) -> None:
            member.node, site = result
            member.alive = True
            self.site = self.site or site

        def never(why: str) -> None:
            member.gone = True
            self.tell(f"a worker cannot start: {' '.join(why.split())[:300]}")

        self.send(member, "greet", (), done, never, max_task_retries=-1)

    def _lose(self, member: Member, error: Exception) -> None:
        if not member.alive:
            return
        member.alive, member.calls, member.alone = False, 0, False
        left = plural(len(self.alive), "device")
        self.tell(f"a worker on {member.node} died; {left} left, its work is given out again")
        self._greet(member)

    def _check_alive(self) -> None:
        if self.alive:
            self.since = time.monotonic()
        elif all(member.gone for member in self.members):
            raise CocabenchError("--devices, --ray", "no worker could start", fix="see the notes above")
        elif time.monotonic() - self.since > NO_WORKER_S:
            got = f"no worker for {NO_WORKER_S / 60:.0f} minutes"
            raise CocabenchError("--devices, --ray", got, fix="are nodes left? `ray status` tells; rerun to resume")


@dataclass(eq=False)
class _Side:
    """A cell that runs side by side with others, on one worker at a time. at: its next step."""

    cell: Cell
    at: int = 0
    deaths: int = 0
    progress: Progress = silent


@dataclass
class Devices:
    """Runs cells on several devices: as many side by side as there are devices, the rest split among them.

    crew: workers that run already, on a cluster; None: they are started here, and end with the run.
    """

    planner: Planner
    chosen: Chosen
    crew: Crew | None = None

    def run(self, plan: Plan, cache: Cache, sink: Sink, observer: Observer) -> Iterator[Outcome]:
        with ExitStack() as stack:
            crew = self.crew
            if crew is None:
                ray = imported_ray()
                stack.enter_context(started_here(ray, self.chosen))
                crew = Crew(ray, self.chosen, self.planner.settings, observer.note)
            crew.tell = observer.note
            stack.enter_context(_threads(self.chosen))
            yield from _Run(self.planner, self.chosen, crew, cache, sink, observer).run(plan)


@contextmanager
def _threads(chosen: Chosen) -> Iterator[None]:
    """Let what is scored or trained here have as many threads as a worker: sums of other threads round differently."""
    before = torch.get_num_threads()
    torch.set_num_threads(chosen.cpus)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _Run:
    """One run of a plan."""

    def __init__(
        self, planner: Planner, chosen: Chosen, crew: Crew, cache: Cache, sink: Sink, observer: Observer
    ) -> None:
        self.planner, self.crew, self.cache, self.observer = planner, crew, cache, _Counted(observer, crew)
        self.hardware = chosen.hardware(planner.settings)
        self.site = crew.wait_for_one()
        if self.site.machine.device == "cuda" and not torch.cuda.is_available():
            self.site = self.site._replace(device="cpu")
        self.runner = Runner(self._load, cache, sink, self.observer, planner, self.hardware, site=self.site)
        self.sides: deque[_Side] = deque()
        self.running: dict[Member, _Side] = {}
        self.outcomes: deque[Outcome] = deque()
        self.polled = time.monotonic()
        crew.free, crew.tick = self._start, self._poll

    def run(self, plan: Plan) -> Iterator[Outcome]:
        ready = [cell for cell in plan.cells if any(step.state is State.READY for step in cell.steps)]
        whole = ready[: len(ready) // self.crew.n * self.crew.n]
        self.sides.extend(map(_Side, whole))
        for cell in (cell for cell in plan.cells if not any(cell is other for other in whole)):
            if self.planner.hashes_on_load(cell.model):
                self._describe(self.planner.source(cell.model))
            for outcome in self.runner.run(cell):
                yield outcome
                yield from self._finished()
        while self.sides or self.running:
            self.crew.pump()
            yield from self._finished()
        yield from self._finished()

    def _finished(self) -> Iterator[Outcome]:
        while self.outcomes:
            yield self.outcomes.popleft()

    # A cell that is split among the free devices

    def _load(self, source: Source) -> Pool:
        described = self._describe(source)
        return Pool(source, described, self.crew.map, self.hardware, self.site, self.cache)

    def _describe(self, source: Source) -> Described:
        """Load a model on one worker; its hash of the weights counts if no other is known."""
        if source.id in self.planner.sources and self.planner.hashes_on_load(source.id):
            made = None
        else:
            made = identity_of(source, self.hardware.precision, self.hardware.compile, self.cache)
        (described,) = self.crew.map("describe", iter([(source, made)]))
        if made is None:
            self.planner.identities[source.id] = described.made
        return cast(Described, described)

    # Cells side by side

    def _start(self, member: Member) -> None:
        if self.sides:
            member.alone = True
            self.running[member] = self.sides.popleft()
            self.observer.loading(self.running[member].cell.model)
            self._next(member)

    def _next(self, member: Member) -> None:
        """Give the next step of a member's cell to it; free it after the last one."""
        side = self.running[member]
        while side.at < len(side.cell.steps):
            if self.planner.hashes_on_load(side.cell.model):
                source = self.planner.source(side.cell.model)
                self._ask(member, "describe", (source, None), partial(self._described, member, source))
                return
            found = self.runner.settled(side.cell, side.cell.steps[side.at])
            if isinstance(found, Outcome):
                self._end(side, found)
                continue
            step, job = found
            side.progress = self.observer.started(side.cell.model, step)
            known = frozenset(self.runner.sink.thumbnails(job.data.fingerprint) if job.data else ())
            arguments = (job.source, side.cell, step, known)
            self._ask(member, "step", arguments, partial(self._measured, member, step, job))
            return
        del self.running[member]
        member.alone = False

    def _ask(self, member: Member, method: str, arguments: tuple[Any, ...], done: Callable[[Any], None]) -> None:
        self.crew.ask(member, Call(method, arguments, done), partial(self._lost, member))

    def _described(self, member: Member, source: Source, result: Described | Failed) -> None:
        made = result.error if isinstance(result, Failed) else result.made
        self.planner.identities[source.id] = made
        self._next(member)

    def _measured(self, member: Member, step: Step, job: Job, result: Measured | Failed) -> None:
        side = self.running[member]
        if isinstance(result, Failed):
            outcome = Outcome(side.cell.model, step, error=result.error)
        elif result.outcome.record is None or result.samples is None:
            outcome = replace(result.outcome, step=step)
        else:
            outcome = self.runner.stored(step, job, result.outcome.record, result.samples, result.thumbnails)
        self._end(side, outcome)
        self._next(member)

    def _end(self, side: _Side, outcome: Outcome) -> None:
        side.at, side.deaths, side.progress = side.at + 1, 0, silent
        self.observer.finished(outcome)
        self.outcomes.append(outcome)

    def _lost(self, member: Member) -> None:
        """Let another worker continue a cell, from the step that was lost."""
        side = self.running.pop(member)
        side.deaths += 1
        if side.deaths >= MAX_DEATHS:
            step = side.cell.steps[side.at]
            self._end(side, Outcome(side.cell.model, step, error=too_many_deaths(member)))
        self.sides.appendleft(side)

    def _poll(self) -> None:
        """Ask the workers that run steps how far they are."""
        if time.monotonic() - self.polled < POLL_S:
            return
        self.polled = time.monotonic()
        for member, side in self.running.items():
            self.crew.send(member, "done", (), partial(_report, side.progress), lambda _: None)


def _report(progress: Progress, found: tuple[str, int, int]) -> None:
    stage, done, total = found
    if total:
        progress(stage, done, total)


class _Counted:
    """An Observer whose stages say on how many devices they run."""

    def __init__(self, observer: Observer, crew: Crew) -> None:
        self.observer, self.crew = observer, crew

    def note(self, text: str) -> None:
        self.observer.note(text)

    def loading(self, model: str) -> None:
        self.observer.loading(model)

    def started(self, model: str, step: Step) -> Progress:
        progress = self.observer.started(model, step)

        def report(stage: str, done: int, total: int) -> None:
            free = sum(not member.alone for member in self.crew.alive)
            progress(f"{stage} on {plural(free, 'device')}" if free > 1 else stage, done, total)

        return report

    def finished(self, outcome: Outcome) -> None:
        self.observer.finished(outcome)
