"""The next model is built while one is in use: in a thread, one at a time, its errors its own."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from cocabench.core.errors import ModelError
from cocabench.core.types import Progress, Workload, silent
from cocabench.models.hardware import Hardware, hardware
from cocabench.models.processes import Alone, Sharded
from cocabench.models.processes.ahead import Ahead
from cocabench.models.processes.worker import Worker
from cocabench.specs.registry import model_plans
from cocabench.specs.spec import parse_models
from tests.conftest import Command
from tests.models.processes import toys

CPU = hardware(device="cpu")


@dataclass(frozen=True)
class Plan(toys.Plan):
    """Notes where it is built, and fails there if it is to."""

    ahead: bool = True
    told: list[tuple[str, bool]] = field(default_factory=list, compare=False)

    def load(self, hardware: Hardware) -> toys.Toy:
        return self.build()(hardware)

    def build(self) -> Callable[[Hardware], toys.Toy]:
        self.told.append((self.id, threading.current_thread() is threading.main_thread()))
        if self.behaviour == "broken":
            raise ModelError(self.id, "truncated")
        return super().load


def test_the_next_is_built_in_a_thread_and_no_other() -> None:
    told: list[tuple[str, bool]] = []
    a, b, c = (Plan(id=name, told=told) for name in "abc")
    worker = Worker(0)
    for plan, then in ((a, b), (b, c), (c, None)):
        worker.load(plan, CPU, then, progress=silent)
        worker.ahead._thread.submit(int).result()
        assert [name for name, _ in told] == [p.id for p in (a, b, c)][: len(told)]
        assert len(told) == "abc".index(plan.id) + (2 if then else 1)
    assert told == [("a", True), ("b", False), ("c", False)]


def test_random_weights_and_models_that_cannot_be_built_ahead_are_loaded_when_they_are_due() -> None:
    plain = toys.Plan(id="plain")
    rolled = Plan(id="random", ahead=False)
    for plan in (plain, rolled):
        ahead = Ahead()
        ahead.start(plan)
        assert ahead._built is None
        assert ahead.load(plan, CPU).parameters
    assert rolled.told == [("random", True)]
    (random,) = model_plans(parse_models("ViT-B-32:random@0"))
    (trained,) = model_plans(parse_models("demo/clip"))
    assert (random.ahead, trained.ahead) == (False, True)  # type: ignore[attr-defined]


def test_an_error_comes_with_its_own_model() -> None:
    worker = Worker(0)
    broken = Plan(id="broken", behaviour="broken")
    worker.load(Plan(id="a"), CPU, broken, progress=silent)
    assert worker.encode_texts([["x"]], progress=silent)
    with pytest.raises(ModelError, match="broken: truncated"):
        worker.load(broken, CPU, None, progress=silent)
    worker.load(Plan(id="b"), CPU, None, progress=silent)


def test_costs_are_taken_when_the_next_model_is_built() -> None:
    told, going = [], threading.Event()

    @dataclass(frozen=True)
    class Slow(Plan):
        def build(self) -> Callable[[Hardware], toys.Toy]:
            going.wait(10)
            told.append("built")
            return super().load

    class Measured(toys.Toy):
        def costs(self, work: Workload, *, progress: Progress = silent) -> Iterator[tuple[int, dict[str, Any]]]:
            told.append("measured")
            yield 0, {"gflops": 1.0}

    alone = Alone()
    alone.worker.model = Measured("", {}, [])
    alone.worker.ahead.start(Slow(id="b"))
    threading.Timer(0.2, going.set).start()
    assert list(Sharded(alone, 1, {}).costs(Workload((), 1, 1, {}))) == [(0, {"gflops": 1.0})]
    assert told == ["built", "measured"]


def test_another_model_than_expected_is_loaded_all_the_same() -> None:
    ahead = Ahead()
    ahead.start(Plan(id="b"))
    assert ahead.load(Plan(id="c", behaviour="x"), CPU).behaviour == "x"  # type: ignore[attr-defined]


def test_a_model_built_ahead_gives_the_same_features(
    command: Command, models: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cocabench.models.open_clip import model as open_clip

    threads: list[bool] = []
    original: Any = open_clip.build_network
    monkeypatch.setattr(
        open_clip,
        "build_network",
        lambda plan: threads.append(threading.current_thread() is threading.main_thread()) or original(plan),
    )
    common = ("--tasks", data / "name.toml", "--data-root", data, "--no-cache", "--json")
    pair = command("run", "--model", f"{models / 'coca'},{models / 'clip'}", *common, "--output", tmp_path / "a")
    assert threads == [True, False]
    alone = command("run", "--model", models / "clip", *common, "--output", tmp_path / "b")
    assert threads == [True, False, True]
    import json

    (_, second), (record,) = json.loads(pair.out), json.loads(alone.out)
    assert {**second, "timing": 0, "created": 0} == {**record, "timing": 0, "created": 0}
