"""The example plugin, installed: what a kind of 43 lines gets without a word in cocabench about it."""

import importlib
import json
import runpy
from pathlib import Path

import pytest

import cocabench
from cocabench.core.types import Record
from cocabench.kinds import every, find
from cocabench.kinds.testing import check_kind
from cocabench.results.gate import Rules, gate
from cocabench.results.store import RecordSet
from tests.conftest import EXAMPLE, Command, task

PAIRS = task("pairs", "pair_choice", "pair_accuracy", 'path = "pairs.tsv"\nnegative_key = "wrong"', "")


@pytest.fixture
def measured(example_plugin: None, command: Command, models: Path, data: Path, tmp_path: Path) -> RecordSet:
    (tmp_path / "pairs.toml").write_text(PAIRS)
    names = f"{models / 'clip'},{models / 'coca'}"
    out = tmp_path / "results"
    given = ["run", "--model", names, "--tasks", tmp_path / "pairs.toml", "--data-root", data, "--output", out]
    result = command(*given, "--quiet")
    assert result.code == 0, result.err
    return cocabench.load(out)


def test_the_example_plugin_has_the_stated_length() -> None:
    assert len((EXAMPLE / "cocabench_pair_choice" / "__init__.py").read_text().splitlines()) <= 50


@pytest.mark.usefixtures("example_plugin")
def test_the_example_plugin_is_listed_and_passes_check_kind(command: Command) -> None:
    assert [kind.name for kind in every()][-1] == "pair_choice", "after cocabench's own"
    assert "pair_accuracy" in command("list", "metrics").out
    assert "pair_choice/add_att" in command("list", "tasks").out
    test = runpy.run_path(str(EXAMPLE / "tests" / "test_pair_choice.py"))
    test["test_a_caption_is_right_where_it_scores_higher_and_a_tie_is_wrong"]()


def test_the_example_plugin_gets_intervals_notes_tests_galleries_and_verdicts(
    measured: RecordSet, command: Command, tmp_path: Path
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


def test_its_table_and_its_gallery_stand_in_the_report(measured: RecordSet, command: Command, tmp_path: Path) -> None:
    page = tmp_path / "page"
    ran = command("report", tmp_path / "results", "--output", page)
    assert ran.code == 0, ran.err
    html = (page / "index.html").read_text(encoding="utf-8")
    assert 'id="g-pair_choice-pairs"' in html
    assert "pair_accuracy" in html
    rows = (page / "tables" / "results.csv").read_text(encoding="utf-8").splitlines()
    assert any(row.startswith("pairs,pair_accuracy,") for row in rows)
    assert f"{100 * (measured.records[0].metrics['pair_accuracy'].value or 0):.1f}" in html


def measured_as(record: Record, results: RecordSet) -> RecordSet:
    """Return one Record of results, with its file."""
    return RecordSet((record,), (results.path(record),))


def test_the_plugin_module_is_importable_by_name(example_plugin: None) -> None:
    module = importlib.import_module("cocabench_pair_choice")
    assert find("pair_choice") is module.PairChoice
