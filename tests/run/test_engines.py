"""All engines pass the contract; engines with a planted fault do not."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from cocabench.core.cache import Cache
from cocabench.core.errors import CocabenchError
from cocabench.results.store import parse_record
from cocabench.run.cluster import on_this_machine
from cocabench.run.devices import Devices
from cocabench.run.engines import InProcess
from cocabench.run.execute import Observer, Outcome, Sink, planner_for
from cocabench.run.plan import Plan, Planner
from tests.run import contract
from tests.run.contract import IN_PROCESS, Harness, Scene

Check = Callable[[Harness, Scene], None]


@pytest.fixture
def scene(tmp_path: Path, models: Path, data: Path) -> Scene:
    shutil.copytree(models, tmp_path / "models")
    shutil.copytree(data, tmp_path / "data")
    return Scene(tmp_path / "run", tmp_path / "models", tmp_path / "data")


@dataclass(frozen=True)
class ProcessPerCell:
    """Runs each cell as ``cocabench run --plan FILE --cell N``, as an array task of a cluster would."""

    file: Path

    def run(self, plan: Plan, cache: Cache, sink: Sink, observer: Observer) -> Iterator[Outcome]:
        for number, cell in enumerate(plan.cells):
            words = ["run", "--plan", str(self.file), "--cell", str(number), "--json"]
            done = subprocess.run(
                [sys.executable, "-m", "cocabench", *words], check=False, capture_output=True, text=True
            )
            assert done.returncode in (0, 1, 2), done.stderr
            records = {r.task: r for r in (parse_record(table, "stdout") for table in json.loads(done.stdout or "[]"))}
            failed = re.findall(r"^failed .*? on (\S+): (.*)$", done.stderr, re.MULTILINE)
            for step in cell.steps:
                said = [text for task, text in failed if task in (step.task, f"{len(cell.steps)}")]
                error = CocabenchError("", said[0]) if said else None
                yield Outcome(cell.model, step, records.get(step.task), error)


PER_CELL = Harness(
    lambda planner, file: ProcessPerCell(file),
    lambda file, n: [["run", "--plan", str(file), "--cell", str(i), "--quiet"] for i in range(n)],
)
SIDE_BY_SIDE = Harness(
    lambda planner, file: Devices(planner, on_this_machine(["cpu", "cpu"])),
    lambda file, n: [["run", "--plan", str(file), "--quiet", "--devices", "cpu,cpu"]],
    at_once=2,
)
SPLIT = Harness(
    lambda planner, file: Devices(planner, on_this_machine(["cpu", "cpu", "cpu"])),
    lambda file, n: [["run", "--plan", str(file), "--quiet", "--devices", "cpu,cpu,cpu"]],
)
"""Two cells on three devices: each is split among all."""

RAY = [pytest.param(SIDE_BY_SIDE, id="Ray, side by side"), pytest.param(SPLIT, id="Ray, split")]
ENGINES = [pytest.param(IN_PROCESS, id="this process"), pytest.param(PER_CELL, id="a process per cell"), *RAY]
SLOW = [ENGINES[0], *(pytest.param(*param.values, id=param.id, marks=pytest.mark.slow) for param in ENGINES[1:])]


@pytest.mark.parametrize("harness", SLOW)
def test_results_equal_those_of_one_process_by_bits(harness: Harness, scene: Scene) -> None:
    contract.results_equal_those_of_one_process_by_bits(harness, scene)


@pytest.mark.parametrize("harness", SLOW)
def test_one_failing_step_loses_no_other(harness: Harness, scene: Scene) -> None:
    contract.one_failing_step_loses_no_other(harness, scene)


@pytest.mark.parametrize("harness", SLOW)
def test_changed_data_or_weights_are_named_in_one_line(harness: Harness, scene: Scene) -> None:
    contract.other_data_or_weights_are_one_line_that_names_them(harness, scene)


@pytest.mark.usefixtures("plugin")
@pytest.mark.slow
@pytest.mark.parametrize("harness", ENGINES)
def test_a_lost_worker_loses_its_unfinished_work_only(harness: Harness, scene: Scene) -> None:
    contract.a_lost_worker_costs_its_unfinished_work_alone(harness, scene)


@pytest.mark.usefixtures("plugin")
@pytest.mark.slow
@pytest.mark.parametrize("harness", ENGINES)
def test_ctrl_c_ends_within_seconds_and_keeps_finished_results(harness: Harness, scene: Scene) -> None:
    contract.ctrl_c_ends_within_seconds_and_keeps_what_is_finished(harness, scene)


class LosesACell(InProcess):
    def run(self, plan: Plan, cache: Cache, sink: Sink, observer: Observer) -> Iterator[Outcome]:
        return super().run(replace(plan, cells=plan.cells[1:]), cache, sink, observer)


class DoesAllAgain(InProcess):
    def run(self, plan: Plan, cache: Cache, sink: Sink, observer: Observer) -> Iterator[Outcome]:
        fresh = planner_for(replace(plan.settings, fresh=True), self.hardware)
        return InProcess(fresh, self.hardware).run(plan, cache, sink, observer)


class RoundsOtherwise(InProcess):
    def run(self, plan: Plan, cache: Cache, sink: Sink, observer: Observer) -> Iterator[Outcome]:
        own = replace(plan.settings, batch_size=1)
        planner = replace(self.planner, settings=own)
        return InProcess(planner, own.hardware()).run(plan, cache, sink, observer)


class StopsAtAnError(InProcess):
    def run(self, plan: Plan, cache: Cache, sink: Sink, observer: Observer) -> Iterator[Outcome]:
        for outcome in super().run(plan, cache, sink, observer):
            yield outcome
            if outcome.error is not None:
                return


class TrustsItsOwnMachine(InProcess):
    def run(self, plan: Plan, cache: Cache, sink: Sink, observer: Observer) -> Iterator[Outcome]:
        unchecked = [replace(c, steps=tuple(replace(step, record="") for step in c.steps)) for c in plan.cells]
        return super().run(replace(plan, cells=tuple(unchecked)), cache, sink, observer)


@pytest.mark.parametrize(
    ("faulty", "check"),
    [
        pytest.param(LosesACell, contract.results_equal_those_of_one_process_by_bits, marks=pytest.mark.slow),
        pytest.param(DoesAllAgain, contract.results_equal_those_of_one_process_by_bits, marks=pytest.mark.slow),
        (RoundsOtherwise, contract.results_equal_those_of_one_process_by_bits),
        (StopsAtAnError, contract.one_failing_step_loses_no_other),
        (TrustsItsOwnMachine, contract.other_data_or_weights_are_one_line_that_names_them),
    ],
)
def test_the_contract_rejects_a_faulty_engine(faulty: type[InProcess], check: Check, scene: Scene) -> None:
    def make(planner: Planner, file: Path) -> InProcess:
        return faulty(planner, planner.settings.hardware())

    with pytest.raises(AssertionError):
        check(Harness(make, IN_PROCESS.commands), scene)
