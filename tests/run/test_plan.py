"""Plans as plain data: written, read elsewhere, run cell by cell; and what counts as done."""

import json
import os
import shutil
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

import cocabench
from cocabench.data.tables import Tsv
from cocabench.results.store import SUBMISSIONS
from cocabench.run.plan import Plan, Planner, State
from cocabench.run.prepare import Settings
from cocabench.specs.registry import find_tasks, model_sources
from cocabench.specs.spec import parse_models
from tests.cli.test_bad_inputs import DEEP, one_line
from tests.conftest import Command

BASELINES = Path(cocabench.__file__).parents[1] / "results" / "baselines"


def words(models: Path, data: Path, output: Path, tasks: str = "find,name,tell") -> list[str]:
    files = ",".join(str(data / f"{name}.toml") for name in tasks.split(","))
    both = f"{models / 'clip'},{models / 'coca'}"
    return ["run", "--model", both, "--tasks", files, "--data-root", str(data), "--output", str(output)]


def test_a_json_plan_can_be_run_cell_by_cell(command: Command, models: Path, data: Path, tmp_path: Path) -> None:
    result = command(*words(models, data, tmp_path / "r"), "--num-beams", 2, "--dry-run", "--json")
    assert result.code == 0, result.err
    file = tmp_path / "plan.json"
    file.write_text(result.out)
    plan = Plan.read(file)
    assert json.loads(plan.to_json()) == json.loads(result.out)
    assert [cell.model for cell in plan.cells] == [str(models / "clip"), str(models / "coca")]
    assert [step.task for step in plan.cells[1].steps] == ["tell", "find", "name"], "captioning first"
    assert [step.work for step in plan.cells[1].steps] == [
        {"images": 12, "texts": 0, "captions": 12},
        {"images": 12, "texts": 24, "captions": 0},
        {"images": 12, "texts": 6 * 18, "captions": 0},
    ]
    assert plan.cells[1].steps[0].params == {"num_beams": 2, "num_beam_groups": 1}
    assert not (tmp_path / "r").exists(), "nothing is run"
    result = command("run", "--plan", file, "--cell", 1, "--json")
    assert result.code == 0, result.err
    assert [record["task"] for record in json.loads(result.out)] == ["tell", "find", "name"]
    stored = {str(path.relative_to(tmp_path / "r")) for path in (tmp_path / "r").glob("*/*-????????????.json")}
    assert stored == {step.record for step in plan.cells[1].steps}
    decoding = cocabench.load(tmp_path / "r")[0].signature.protocol["decoding"]
    assert isinstance(decoding, dict)
    assert decoding["num_beams"] == 2


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--plan", "{plan}", "--cell", "2"], "--cell 2: {plan} has 2 cells; wanted 0 to 1"),
        (["--plan", "{plan}", "--limit", "3"], "--plan: given with --limit, which the plan sets; leave it out"),
        (["--plan", "nowhere.json"], "nowhere.json: not readable: No such file or directory"),
        (["--plan", "{other}"], "not a plan: settings: Field required"),
        (["--cell", "0", "--model", "m", "--tasks", "t"], "--cell: given without --plan; wanted --plan FILE"),
    ],
)
def test_an_invalid_plan_is_one_line_with_exit_code_2(
    command: Command, models: Path, data: Path, tmp_path: Path, more: list[str], said: str
) -> None:
    plan, other = tmp_path / "plan.json", tmp_path / "other.json"
    plan.write_text(command(*words(models, data, tmp_path / "r", "find"), "--dry-run", "--json").out)
    other.write_text('{"cells": []}')
    places = {"plan": plan, "other": other}
    result = command("run", *(word.format(**places) for word in more))
    assert result.code == 2
    assert said.format(**places) in result.err
    assert len(result.err.strip().splitlines()) == 1


def test_an_unexpected_loader_error_fails_its_own_steps_only(
    models: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Tsv.build

    def build(self: Tsv, root: Path, *, download: bool = False) -> object:
        if "label" in str(self.path):
            raise ZeroDivisionError("division by zero")
        return original(self, root, download=download)

    monkeypatch.setattr(Tsv, "build", build)
    settings = Settings(data_root=data, output=tmp_path, precision="fp32")
    tasks = find_tasks([str(data / f"{name}.toml") for name in ("name", "find")])
    (cell,) = Planner(settings).plan(model_sources(parse_models(str(models / "clip"))), tasks).cells
    assert [step.state for step in cell.steps] == [State.FAILED, State.READY]
    assert "ZeroDivisionError: division by zero; this is a bug" in cell.steps[0].reason


def test_a_finished_run_counts_as_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COCABENCH_CACHE", str(tmp_path / "cache"))  # with SPICE's jars there is one more to measure
    shutil.copytree(BASELINES, tmp_path / "results")
    stored = {(record.model, record.task): record for record in cocabench.load(BASELINES)}
    packages = next(iter(stored.values())).signature.model["packages"]
    assert isinstance(packages, dict)
    known = metadata.version
    monkeypatch.setattr(metadata, "version", lambda name: packages.get(name) or known(name))
    planner = Planner(Settings(output=tmp_path / "results", precision="fp32"))
    plan = planner.plan(model_sources(parse_models("demo")), find_tasks(["demo"]))
    done = {(cell.model, step.task) for cell in plan.cells for step in cell.steps if step.state is State.DONE}
    assert done == stored.keys()


@pytest.fixture
def submitted(command: Command, models: Path, data: Path, tmp_path: Path) -> Path:
    """Return a plan that stands where `submit slurm` puts it."""
    words = ("--model", models / "clip", "--tasks", data / "find.toml", "--data-root", data, "--output", tmp_path / "r")
    file = tmp_path / "r" / SUBMISSIONS / "x" / "plan.json"
    file.parent.mkdir(parents=True)
    file.write_text(command("run", *words, "--dry-run", "--json").out)
    return file


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"java": "./java"}, "names a Java, java, which would run; if you trust it: --java java"),
        ({"output": None}, "not a plan: settings.output: null"),
        ({"limit": 0}, "not a plan: settings.limit"),
        ({"batch_size": -5}, "not a plan: settings.batch_size"),
        ({"workers": -1}, "not a plan: settings.workers"),
        ({"seed": -1}, "not a plan: settings.seed"),
    ],
)
def test_plans_with_settings_that_no_option_takes_are_one_line(
    command: Command, submitted: Path, setting: dict[str, Any], said: str
) -> None:
    content = json.loads(submitted.read_text())
    submitted.write_text(json.dumps({**content, "settings": content["settings"] | setting}))
    one_line(command("run", "--plan", submitted, "--cell", 0, "--quiet"), 2, str(submitted), said)


def test_a_plans_java_runs_where_the_command_line_names_it(command: Command, submitted: Path) -> None:
    content = json.loads(submitted.read_text())
    submitted.write_text(json.dumps({**content, "settings": content["settings"] | {"java": "no-such-java"}}))
    assert command("run", "--plan", submitted, "--cell", 0, "--quiet", "--java", "java").code == 0


def test_a_plan_of_no_time_is_one_line(command: Command, submitted: Path) -> None:
    submitted.write_text(json.dumps({**json.loads(submitted.read_text()), "created": "yesterday"}))
    one_line(command("status", "--plan", submitted), 2, str(submitted), "not a plan: created: 'yesterday'")


@pytest.mark.parametrize(
    ("jobs", "said"),
    [
        ("5", "no list of jobs"),
        (DEEP, "no list of jobs"),
        ('[["1", -1, [0]]]', "no list of jobs"),
        ('[["1", 0, [9]]]', "job 1 has cells that its 1 models do not"),
    ],
)
def test_a_foreign_list_of_jobs_is_one_line(command: Command, submitted: Path, jobs: str, said: str) -> None:
    (submitted.parent / "models").write_text("a m\n")
    (submitted.parent / "jobs.json").write_text(jobs)
    one_line(command("status", submitted.parents[2]), 2, str(submitted.parent), said)


def test_pipes_in_place_of_plans_and_results_do_not_hang(command: Command, submitted: Path, tmp_path: Path) -> None:
    submitted.unlink()
    os.mkfifo(submitted)
    one_line(command("status", submitted.parents[2]), 2, str(submitted), "a pipe or device, not a file")
    os.mkfifo(tmp_path / "x.csv")
    one_line(command("import", tmp_path / "x.csv"), 2, "x.csv: not readable: a pipe or device, not a file")
