"""What every engine of ``run/engines.py`` must do, as checks that a test calls with a Harness of it.

test_engines.py holds two engines to it, and shows that engines with a fault do not pass.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from cocabench.core.cache import MemoryCache
from cocabench.results.store import Store, load
from cocabench.run.engines import Engine, InProcess
from cocabench.run.execute import Outcome, Unobserved, planner_for
from cocabench.run.plan import Plan, Planner
from cocabench.run.prepare import Settings
from cocabench.specs.registry import find_tasks, model_sources
from cocabench.specs.spec import parse_models
from tests.conftest import PLUGIN, task

TASKS = ("tell", "find", "name")
RESULTS = 5
"""Of two models on TASKS: the CLIP cannot caption."""
UNLIKE = {"timing", "created", "environment", "image_files"}
"""What of a Record may differ between engines."""
PATIENCE_S = 180
SOON_S = 45
"""Seconds that a command may take to end after Ctrl-C, on a machine that is busy."""


@dataclass(frozen=True)
class Harness:
    """make: the engine, given the planner that made the plan, and the plan's file. commands: how a person starts it,
    one command after the other, with a plan file of n cells. at_once: how many cells the first command runs at once."""

    make: Callable[[Planner, Path], Engine]
    commands: Callable[[Path, int], list[list[str]]]
    at_once: int = 1


@dataclass(frozen=True)
class Scene:
    """Two tiny models on small tasks, and a folder for a plan, its results and a cache."""

    folder: Path
    models: Path
    data: Path
    tasks: tuple[str, ...] = TASKS

    @property
    def results(self) -> Path:
        return self.folder / "results"

    def plan(self) -> tuple[Plan, Planner]:
        """Return the plan of what is there now, and its planner."""
        cache = self.folder / "cache" / "spaces"  # a batch of fewer images is computed with other last bits
        settings = Settings(data_root=self.data, output=self.results, cache=cache, device="cpu", workers=0)
        planner = planner_for(settings, settings.hardware())
        planner.for_others = True
        sources = model_sources(parse_models(f"{self.models / 'clip'},{self.models / 'coca'}"))
        return planner.plan(sources, find_tasks([str(self.data / f"{name}.toml") for name in self.tasks])), planner

    def write(self, plan: Plan) -> Path:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "plan.json").write_text(plan.to_json())
        return self.folder / "plan.json"

    def run(self, harness: Harness, plan: Plan | None = None) -> list[Outcome]:
        """Run a plan, None: that of what is there now."""
        now, planner = self.plan()
        engine = harness.make(planner, self.write(plan or now))
        return list(engine.run(plan or now, MemoryCache(), Store(self.results), Unobserved()))

    def kept(self) -> dict[tuple[str, str], tuple[dict[str, Any], pd.DataFrame]]:
        """Return what lies in the results folder: Records but for UNLIKE, and their samples."""
        if not self.results.is_dir() or not list(self.results.glob("*/*-*.json")):
            return {}
        found = load(self.results)
        return {(r.model, r.task): (r.model_dump(exclude=UNLIKE), found.samples(r)) for r in found}

    def created(self) -> dict[tuple[str, str], str]:
        return {(r.model, r.task): r.created for r in load(self.results)} if self.kept() else {}


IN_PROCESS = Harness(
    lambda planner, file: InProcess(planner, planner.settings.hardware()),
    lambda file, n: [["run", "--plan", str(file), "--quiet"]],
)


def results_equal_those_of_one_process_by_bits(harness: Harness, scene: Scene) -> None:
    """Also: an Outcome for each step, and a second run does nothing again."""
    plain = replace(scene, folder=scene.folder / "plain")
    plain.run(IN_PROCESS)
    outcomes = scene.run(harness)
    _check_equal(scene, plain)
    assert sorted((o.model, o.step.task) for o in outcomes if o.record) == sorted(plain.kept())
    assert [o.error for o in outcomes if not o.record] == [None], "the step that is not applicable"
    before = scene.created()
    again = scene.run(harness)
    assert {(o.model, o.step.task): o.record.created for o in again if o.record} == before
    assert scene.created() == before


def one_failing_step_loses_no_other(harness: Harness, scene: Scene) -> None:
    plan, _ = scene.plan()
    gone = replace(plan.cells[0].steps[1], file=str(scene.folder / "gone.toml"), task="gone")
    cells = [replace(cell, steps=(gone, *cell.steps)) for cell in plan.cells]
    outcomes = scene.run(harness, replace(plan, cells=tuple(cells)))
    assert len(scene.kept()) == RESULTS
    assert ["gone.toml" in str(o.error) for o in outcomes if o.error] == [True, True]


def other_data_or_weights_are_one_line_that_names_them(harness: Harness, scene: Scene) -> None:
    """Also: other images under the same names."""
    plan, _ = scene.plan()
    coca = replace(plan, cells=plan.cells[1:])
    for name, file, old, new in (
        ("data", scene.data / "captions.tsv", b"thing 3", b"thing three"),
        ("weights", scene.models / "coca" / "open_clip_model.safetensors", b"", b""),
        ("pictures", scene.data / "images" / "03.png", b"", b""),
    ):
        with _edited(file, old, new):
            outcomes = scene.run(harness, coca)
        errors = [str(o.error) for o in outcomes if o.error]
        assert errors, f"a change of {name} passes unnoticed"
        for text in errors:
            named = re.search(r": ([\w, ]+) differs? from the plan; ", text)
            assert named, text
            assert name in named[1].split(", ")
            assert "\n" not in text
    assert not any(task in ("find", "tell") for _, task in scene.kept()), "nothing is kept under a wrong name"


def a_lost_worker_costs_its_unfinished_work_alone(harness: Harness, scene: Scene) -> None:
    """A worker is killed with -9 while it reads an image; the same commands then finish the plan."""
    blocked = _blocking(scene)
    file = blocked.write(blocked.plan()[0])
    with _started(harness.commands(file, 2)[0], blocked.folder) as process, _reader_waits(blocked, process):
        _wait_for_results(harness, blocked)
        process.send_signal(signal.SIGKILL)
        process.wait()
    before = blocked.created()
    assert {task for _, task in before} == {"find", "name"}
    for words in harness.commands(file, 2):
        with _started(words, blocked.folder) as process:
            assert process.wait(PATIENCE_S) == 0, _stderr(process)
    assert before.items() <= blocked.created().items(), "finished work is not done again"
    plain = replace(blocked, folder=blocked.folder / "plain")
    plain.run(IN_PROCESS)
    _check_equal(blocked, plain)


def ctrl_c_ends_within_seconds_and_keeps_what_is_finished(harness: Harness, scene: Scene) -> None:
    blocked = _blocking(scene)
    file = blocked.write(blocked.plan()[0])
    with _started(harness.commands(file, 2)[0], blocked.folder) as process:
        with _reader_waits(blocked, process):
            _wait_for_results(harness, blocked)
            os.killpg(process.pid, signal.SIGINT)
        assert process.wait(SOON_S) == 130
        printed = _stderr(process)
        assert "stopped" in printed
        assert "Traceback" not in printed
    assert {task for _, task in blocked.created()} == {"find", "name"}


def _wait_for_results(harness: Harness, scene: Scene) -> None:
    """Wait until the cells that run at once have finished all but their last step."""
    until = time.monotonic() + PATIENCE_S
    while len(scene.created()) < 2 * harness.at_once:
        assert time.monotonic() < until, scene.created()
        time.sleep(0.05)


def _check_equal(scene: Scene, plain: Scene) -> None:
    wanted, found = plain.kept(), scene.kept()
    assert found.keys() == wanted.keys()
    for key, (record, samples) in wanted.items():
        assert found[key][0] == record, key
        pd.testing.assert_frame_equal(found[key][1], samples, check_exact=True)


@contextmanager
def _edited(file: Path, old: bytes, new: bytes) -> Iterator[None]:
    """Change a file, its last bit where old is empty, until the body ends."""
    before = file.read_bytes()
    file.write_bytes(before.replace(old, new) if old else before[:-1] + bytes([before[-1] ^ 1]))
    try:
        yield
    finally:
        file.write_bytes(before)


def _blocking(scene: Scene) -> Scene:
    """Add a last task, one of whose images is not there until a file beside it is removed: whoever reads it waits."""
    data = scene.folder / "data"
    if not data.exists():
        shutil.copytree(scene.data, data)
    text = task("wait", "retrieval", "t2i_recall@1", 'path = "images"', "ks = [1]")
    (data / "wait.toml").write_text(text.replace('loader = "tsv"', 'loader = "held"'))
    blocked = replace(scene, data=data, tasks=("find", "name", "wait"))
    (data / "images" / "01.held").touch()
    return blocked


@contextmanager
def _reader_waits(scene: Scene, process: subprocess.Popen[str]) -> Iterator[None]:
    """Run the body while a process waits for an image."""
    held, until = scene.data / "images" / "01.held", time.monotonic() + PATIENCE_S
    while not held.with_suffix(".asked").exists():
        assert process.poll() is None, _stderr(process)
        assert time.monotonic() < until, "nobody reads the image"
        time.sleep(0.02)
    try:
        yield
    finally:
        held.unlink()


def _stderr(process: subprocess.Popen[str]) -> str:
    return process.stderr.read() if process.stderr else ""


@contextmanager
def _started(words: Sequence[str], folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Start ``cocabench WORDS`` with a cache in a folder, as a process group of its own, and end it with the body."""
    process = subprocess.Popen(
        [sys.executable, "-m", "cocabench", *words],
        env={
            **os.environ,
            "COCABENCH_CACHE": str(folder / "cache"),
            "COLUMNS": "200",
            "PYTHONPATH": os.pathsep.join([str(PLUGIN), *filter(None, [os.environ.get("PYTHONPATH")])]),
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if process.stderr:
            process.stderr.close()
