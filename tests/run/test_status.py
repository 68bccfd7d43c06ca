"""What of a plan is done, missing or failed; weights that are hashed when they are loaded; SIGTERM."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from cocabench.core import signature
from cocabench.core.signature import Allowance, UnhashedError
from cocabench.run import plan as plans
from tests.conftest import Command, Result


@pytest.fixture
def own(tmp_path: Path, models: Path, data: Path) -> Path:
    shutil.copytree(data, tmp_path / "data")
    shutil.copytree(models, tmp_path / "models")
    return tmp_path


def run(command: Command, own: Path, *more: object, tasks: str = "find,name,tell") -> Result:
    files = ",".join(str(own / "data" / f"{name}.toml") for name in tasks.split(","))
    words = ["--model", f"{own / 'models/clip'},{own / 'models/coca'}", "--tasks", files, "--data-root", own / "data"]
    return command("run", *words, "--output", own / "results", "--workers", 0, *more)


def planned(command: Command, own: Path, *more: object, tasks: str = "find,name,tell") -> Path:
    (own / "plan.json").write_text(run(command, own, "--dry-run", "--json", *more, tasks=tasks).out)
    return own / "plan.json"


def states(command: Command, own: Path) -> dict[tuple[str, str], str]:
    result = command("status", own / "results", "--plan", own / "plan.json", "--json")
    assert result.code == 0, result.err
    return {(Path(step["model"]).name, step["task"]): step["state"] for step in json.loads(result.out)}


def test_status_tells_done_missing_and_failed_steps(command: Command, own: Path) -> None:
    plan = planned(command, own)
    (own / "results").mkdir()
    assert set(states(command, own).values()) == {"missing", "not applicable"}
    run(command, own, "--quiet", tasks="find")
    (own / "data" / "images" / "03.png").write_bytes(b"no image")
    assert command("run", "--plan", plan, "--cell", 1, "--quiet").code == 2
    found = states(command, own)
    assert found["clip", "find"] == found["coca", "find"] == "done"
    assert found["clip", "name"] == "missing"
    assert found["clip", "tell"] == "not applicable"
    assert found["coca", "name"] == found["coca", "tell"] == "failed"
    shown = command("status", own / "results", "--plan", plan)
    assert re.search(r"failed: .*coca on name: pictures differ from the plan; .* \(on \S+, 20", shown.out)
    assert shown.out.endswith("2 of 5 done, 1 missing, 2 failed\n")


@pytest.mark.slow
def test_a_failure_is_counted_and_forgotten_after_success(command: Command, own: Path) -> None:
    plan = planned(command, own, tasks="find")
    image = own / "data" / "images" / "03.png"
    whole = image.read_bytes()
    image.write_bytes(b"no image")
    for _ in range(2):
        command("run", "--plan", plan, "--quiet")
    assert "(2 times, last on" in command("status", own / "results", "--plan", plan).out
    image.write_bytes(whole)
    assert command("run", "--plan", plan, "--quiet").code == 0
    assert command("status", own / "results", "--plan", plan).out == "2 of 2 done\n"
    assert not list((own / "results" / "outcomes").rglob("*.json"))


@pytest.mark.slow
def test_results_older_than_a_fresh_plan_do_not_count(command: Command, own: Path) -> None:
    run(command, own, "--quiet", tasks="find")
    time.sleep(0.01)
    plan = planned(command, own, "--fresh", tasks="find")
    assert set(states(command, own).values()) == {"missing"}
    command("run", "--plan", plan, "--quiet", "--cell", 0)
    (first,) = (own / "results").rglob("*clip*/find-*.json")
    before = first.read_text()
    command("run", "--plan", plan, "--quiet")
    assert first.read_text() == before, "a cell that is run again does not repeat what the plan has already measured"
    assert set(states(command, own).values()) == {"done"}


@pytest.mark.slow
def test_outcomes_are_no_records(command: Command, own: Path) -> None:
    run(command, own, "--quiet", tasks="find")
    ending = own / "results" / "outcomes" / "model" / "find-0123456789ab.json"
    ending.parent.mkdir(parents=True)
    ending.write_text("{}")
    assert command("show", own / "results").code == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["{own}", "--plan", "{own}/none.json"], "none.json: not readable"),
        (["{own}"], "status: no plan in {own}; wanted a plan; name one with --plan"),
        (["{own}/none", "--plan", "{own}/empty.json"], "{own}/none: no such folder"),
    ],
)
def test_bad_input_of_status_is_one_line(command: Command, tmp_path: Path, words: list[str], said: str) -> None:
    (tmp_path / "empty.json").write_text('{"settings": {}, "cells": []}')
    result = command("status", *(word.format(own=tmp_path) for word in words))
    assert result.code == 2
    assert said.format(own=tmp_path) in result.err
    assert result.err.count("\n") == 1


@pytest.mark.slow
def test_large_weights_are_hashed_when_they_are_loaded(
    command: Command, own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plans, "HASHED_WHEN_PLANNING", 10)
    monkeypatch.setattr(signature, "SETTLED_S", -1.0)
    table: dict[str, Any] = json.loads(planned(command, own, tasks="find,name").read_text())
    steps = [step for cell in table["cells"] for step in cell["steps"]]
    assert {step["record"] for step in steps} == {""}
    assert {step["reason"] for step in steps} == {"weights will be hashed when they are loaded"}
    assert "weights will be hashed" in run(command, own, "--dry-run", tasks="find").out
    assert command("run", "--plan", own / "plan.json", "--quiet").code == 0
    assert set(states(command, own).values()) == {"done"}, "the outcomes say which Record it became"
    again = run(command, own, "--dry-run", tasks="find")
    assert "0 of 2 to run" in again.out, "the hashes are in the cache"


def test_an_allowance_is_for_all_files_of_a_plan(own: Path) -> None:
    sizes = [(own / "models" / name / "open_clip_model.safetensors").stat().st_size for name in ("clip", "coca")]
    allowance = Allowance(sum(sizes))
    for name in ("clip", "coca"):
        allowance.spend(own / "models" / name / "open_clip_model.safetensors")
    assert allowance.left == 0
    with pytest.raises(UnhashedError):
        allowance.spend(own / "models" / "clip" / "open_clip_model.safetensors")


@pytest.mark.slow
def test_sigterm_stops_as_ctrl_c_does(own: Path, models: Path) -> None:
    """Slurm and Kubernetes send it; the features are kept."""
    words = ["--model", "demo/coca", "--tasks", "emoji_retrieval", "--output", str(own / "results"), "--quiet"]
    env = {**os.environ, "COCABENCH_CACHE": str(own / "cache")}
    process = subprocess.Popen(
        [sys.executable, "-m", "cocabench", "run", *words], env=env, stderr=subprocess.PIPE, text=True
    )
    until = time.monotonic() + 120
    while not list((own / "cache" / "spaces").glob("*.sqlite")):  # of hashes: encoding is about to begin
        assert time.monotonic() < until
        time.sleep(0.05)
    time.sleep(1)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=45)
    assert process.returncode in (0, 143), said
    assert process.returncode == 0 or "stopped; 0 of 1 results are saved" in said
