"""The example plugin, installed: what a kind of 43 lines gets without a word in cocabench about it."""

import importlib
import json
import runpy
import tomllib
from pathlib import Path

import pytest

import cocabench
from cocabench.core.types import Record
from cocabench.kinds import every, find
from cocabench.kinds.testing import check_kind
from cocabench.results.gate import Rules, gate
from cocabench.results.store import Results
from tests.conftest import Command, task

EXAMPLE = Path(__file__).parents[2] / "examples" / "plugin"
PAIRS = task("pairs", "pair_choice", "pair_accuracy", 'path = "pairs.tsv"\nnegative_key = "wrong"', "")


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install the example for one test, as pip does: the package, and its entry points beside it."""
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    site = tmp_path / "site"
    info = site / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    groups = project["entry-points"].items()
    lines = [line for group, names in groups for line in (f"[{group}]", *(f"{k} = {v}" for k, v in names.items()))]
    (info / "entry_points.txt").write_text("\n".join(lines))
    (site / "cocabench_pair_choice").symlink_to(EXAMPLE / "cocabench_pair_choice", target_is_directory=True)
    monkeypatch.syspath_prepend(str(site))


@pytest.fixture
def measured(installed: None, command: Command, models: Path, data: Path, tmp_path: Path) -> Results:
    (tmp_path / "pairs.toml").write_text(PAIRS)
    names = f"{models / 'clip'},{models / 'coca'}"
    out = tmp_path / "results"
    given = ["run", "--model", names, "--tasks", tmp_path / "pairs.toml", "--data-root", data, "--output", out]
    told = command(*given, "--quiet")
    assert told.code == 0, told.err
    return cocabench.load(out)


def test_its_file_is_as_long_as_it_says() -> None:
    assert len((EXAMPLE / "cocabench_pair_choice" / "__init__.py").read_text().splitlines()) <= 50


@pytest.mark.usefixtures("installed")
def test_it_is_listed_with_its_task_and_passes_its_own_test(command: Command) -> None:
    assert [kind.name for kind in every()][-1] == "pair_choice", "after cocabench's own"
    assert "pair_accuracy" in command("list", "metrics").out
    assert "pair_choice/add_att" in command("list", "tasks").out
    test = runpy.run_path(str(EXAMPLE / "tests" / "test_pair_choice.py"))
    test["test_a_caption_is_right_where_it_scores_higher_and_a_tie_is_wrong"]()


def test_it_gets_intervals_notes_paired_tests_galleries_and_verdicts(
    measured: Results, command: Command, tmp_path: Path
) -> None:
    clip, coca = measured.records
    found = clip.metrics["pair_accuracy"]
    assert found.n == 12
    assert found.low is not None
    assert found.low < (found.value or 0) < (found.high or 0)
    assert "near_chance" in {note.code for note in clip.notes}, "random weights guess"
    check_kind(find("pair_choice")(), measured.samples(clip))

    out = tmp_path / "results"
    second = json.loads(command("compare", out, "--json").out)[1]
    assert second["difference_unpaired"] == ""
    assert second["difference_low"] < 0 < second["difference_high"]

    listed = command("compare", out, "--samples", "pairs", "--all-samples").out
    changed = measured.samples(clip)["right"] != measured.samples(coca)["right"]
    assert changed.any(), "two models that answer differently"
    image = str(measured.samples(clip)["image_id"][changed].iloc[0])
    assert image in listed
    assert "thing" in listed, "truth and answers are captions"

    (verdict,) = gate(measured_as(clip, measured), measured_as(clip, measured), Rules())
    assert (verdict.changed, verdict.unpaired, verdict.status) == (0, "", "pass")


def measured_as(record: Record, results: Results) -> Results:
    """Return one Record of results, with its file."""
    return Results((record,), (results.path(record),))


def test_the_module_is_found_by_its_name_alone(installed: None) -> None:
    module = importlib.import_module("cocabench_pair_choice")
    assert find("pair_choice") is module.PairChoice
