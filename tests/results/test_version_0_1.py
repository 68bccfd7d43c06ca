"""What version 0.1 wrote stays readable, comparable and finished, whatever becomes of the demo's checkpoints.

tests/records/version_0.1/ holds its baselines, its rules for a gate, and a results folder. None is ever edited.
"""

from pathlib import Path

import pytest
from pydantic import JsonValue

import cocabench
from cocabench.captioneval import corenlp
from cocabench.core.signature import short
from cocabench.core.types import Record
from cocabench.results.compare import compare_models
from cocabench.results.gate import Rules, gate, read_rules
from cocabench.results.records import read
from cocabench.results.store import Store, read_record
from cocabench.run.execute import planner_for
from cocabench.run.plan import PICTURES_UNKNOWN, State
from cocabench.run.prepare import Settings, prepare
from cocabench.specs.registry import all_tasks, one_model
from tests.conftest import Command

HELD = Path(__file__).parents[1] / "records" / "version_0.1"
BASELINES, RESULTS = HELD / "baselines", HELD / "results"
FILES = sorted(path for folder in (BASELINES, RESULTS) for path in folder.glob("*/*-????????????.json"))


def test_all_of_its_records_are_here() -> None:
    assert len(list(BASELINES.rglob("*.parquet"))) == 26
    assert len(FILES) == 28
    assert sum(path.stat().st_size for path in HELD.rglob("*") if path.is_file()) < 1 << 20


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_record_is_found_under_its_signature_with_its_samples(path: Path) -> None:
    record = read_record(path)
    store = Store(path.parents[1])
    assert store.file(record) == path
    assert store.get(record.model, record.task, record.signature) == record
    assert path.stem.endswith(short(record.signature))
    assert store.samples(record)["image_id"].nunique() == max(e.n for e in record.metrics.values())
    assert record.pictures == record.pictures_by_id == record.rows == ""


def test_its_baselines_gate_themselves_and_each_other(command: Command) -> None:
    rules, records = read_rules(HELD / "gates.toml"), cocabench.load(BASELINES)
    assert {verdict.status for verdict in gate(records, records, rules)} == {"pass"}
    result = command("gate", "--baseline", BASELINES, "--current", BASELINES, "--rules", HELD / "gates.toml")
    assert result.code == 0, result.err
    verdicts = gate(records.model("demo/coca"), records.model("demo/clip"), Rules())
    found = {verdict.task: verdict.status for verdict in verdicts}
    assert found["emoji_flags"] == "improved"
    assert found["emoji_captions"] == "missing"
    assert not [v for v in verdicts if v.status == "incomparable"]


def test_its_results_folder_is_held_against_its_baselines() -> None:
    """The results were measured in another run, one of them on fewer images."""
    verdicts = {v.task + v.model: v for v in gate(read(BASELINES), read(RESULTS), Rules())}
    assert (verdicts["emoji_flagsdemo/clip"].status, verdicts["emoji_flagsdemo/clip"].changed) == ("pass", 0)
    assert "data.images: 300 against 40" in verdicts["emoji_captionsdemo/coca"].detail
    assert verdicts["emoji_flagsdemo/coca"].status == "missing"


def today(record: Record, **changed: JsonValue) -> Record:
    """Return a Record as this version writes it: it also says which images it read."""
    model = {**record.signature.model, **changed}
    signature = record.signature.model_copy(update={"model": model})
    update = {"pictures": "a", "pictures_by_id": "b", "image_files": "c", "rows": "d", "signature": signature}
    return record.model_copy(update=update)


def test_a_result_of_today_is_held_against_its_baselines_with_a_note() -> None:
    old = [read_record(path) for path in FILES if path.parents[1] == BASELINES]
    verdicts = gate(old, [today(record) for record in old], Rules())
    assert {v.difference for v in verdicts} == {0}
    assert {v.exit_code for v in verdicts} == {0}
    assert {note.code for v in verdicts for note in v.notes} == {"protocol_part_unknown"}


PLANNED = [path for path in FILES if path.parents[1] == RESULTS or "pairs_likelihood" in path.stem]


@pytest.mark.parametrize("path", PLANNED, ids=lambda path: path.stem)
def test_its_finished_results_count_as_done(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For the model of that time: today's demo may have other weights, and this machine other packages, or SPICE."""
    monkeypatch.setattr(corenlp, "find", lambda: None)
    record = read_record(path)
    limit = record.signature.protocol.get("limit")
    settings = Settings(output=path.parents[1], limit=limit if isinstance(limit, int) else None, device="cpu")
    planner = planner_for(settings, settings.hardware())
    source, task = one_model(record.model), all_tasks()[record.task]
    planner.identities[source.id] = record.signature.model
    (step,) = planner.plan([source], [task]).cells[0].steps
    assert (step.state, step.reason) == (State.DONE, PICTURES_UNKNOWN), step
    planner.for_others = True
    assert planner.step(step, planner.job(source.id, step)).state is State.DONE


def test_todays_protocols_of_the_demo_are_those_of_its_baselines() -> None:
    """Or else the task has a higher version: its numbers are others on purpose."""
    for record in (read_record(path) for path in FILES if path.parents[1] == BASELINES):
        task, then = all_tasks()[record.task], record.signature.protocol
        if record.model == "demo/coca" and task.spec.version == then["version"]:
            assert prepare(task, Settings()).protocol == then, record.task


def test_its_tables_are_as_they_were() -> None:
    rows = compare_models(cocabench.load(BASELINES)).rows
    shown = {row.task: [cell.text for cell in row.cells] for row in rows}
    assert [text.partition(" ")[0] for text in shown["emoji_flags"]] == ["57.8", "70.0"]
    assert {cell.incomparable for row in rows for cell in row.cells} == {()}
