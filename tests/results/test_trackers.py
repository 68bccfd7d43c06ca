"""Trackers: what is sent, and each real package, offline, read back by its own reader."""

from __future__ import annotations

import sqlite3
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cocabench.core.errors import UsageError
from cocabench.results.store import RecordSet, load
from cocabench.results.trackers import MODULES, imported, points, track
from tests.conftest import Command
from tests.report.records import estimate, record
from tests.samples import classified

RUN = "ViT-B-32:runs/x/checkpoints/epoch_{}.pt"
OTHERS = pytest.mark.filterwarnings("default")
"""Their packages' warnings are not ours."""


@pytest.fixture
def training(tmp_path: Path) -> RecordSet:
    """Two checkpoints of one training, the later first, with samples."""
    for epoch, hits in ((10, [1, 1, 1, 0]), (2, [1, 0, 0, 0])):
        classified(tmp_path / "results", RUN.format(epoch), [bool(hit) for hit in hits])
    return load(tmp_path / "results")


def test_checkpoints_are_steps_of_one_run_in_order(training: RecordSet) -> None:
    first, second = points(training)
    assert [(p.run, p.step, p.numbers["pets/acc1"]) for p in (first, second)] == [
        ("ViT-B-32:runs/x", 2, 0.25),
        ("ViT-B-32:runs/x", 10, 0.75),
    ]
    assert first.id == second.id
    assert first.numbers["pets/acc1/low"] < 0.25 < first.numbers["pets/acc1/high"]
    assert first.tables["pets"]["top5_names"][0] == "['cat', 'dog']", "a list is text"
    assert {"pets.signature"} <= first.config.keys()


def test_an_undefined_metric_is_not_sent_as_a_number() -> None:
    made = record("a", "t", {"acc1": estimate(None), "t2i_recall@5": estimate(0.5)})
    (point,) = points(RecordSet((made,), (None,)))
    assert point.numbers == {"t/t2i_recall_at_5": 0.5}
    assert point.tables == {}


def test_a_tracker_that_is_not_installed_is_an_error_of_one_line(
    monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UsageError, match=r"--track wandb: not importable .*; pip install wandb"):
        imported("wandb")
    said = command("run", "--model", "demo/clip", "--tasks", "emoji_flags", "--track", "wandb")
    assert (said.code, said.err.count("\n")) == (2, 1)


@pytest.mark.slow
@OTHERS
def test_tensorboard_reads_scalars_and_tables(training: RecordSet, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="pip install tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert track("tensorboard", training, tmp_path) == 1
    (folder,) = (tmp_path / "tensorboard").iterdir()
    events = EventAccumulator(str(folder))
    events.Reload()
    assert [(e.step, round(e.value, 6)) for e in events.Scalars("pets/acc1")] == [(2, 0.25), (10, 0.75)]
    assert {"config/text_summary", "pets/samples/text_summary"} <= set(events.Tags()["tensors"])


@pytest.mark.slow
@OTHERS
def test_mlflow_has_one_run_with_two_steps(
    training: RecordSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = pytest.importorskip("mlflow", reason="pip install mlflow")
    monkeypatch.chdir(tmp_path)
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    assert track("mlflow", training, tmp_path) == 1
    (run,) = mlflow.search_runs(experiment_names=["cocabench"], output_format="list")
    history = mlflow.MlflowClient().get_metric_history(run.info.run_id, "pets/acc1")
    assert [(m.step, m.value) for m in history] == [(2, 0.25), (10, 0.75)]
    table = mlflow.load_table("samples/step_10/pets.json", [run.info.run_id])
    assert table["n_above"].tolist() == [0, 0, 0, 1]
    config = mlflow.artifacts.load_dict(f"{run.info.artifact_uri}/config/step_2.json")
    assert len(config["pets.signature"]) == 12


@pytest.mark.slow
@OTHERS
def test_trackio_has_one_run_with_two_steps(
    training: RecordSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    pytest.importorskip("trackio", reason="pip install trackio")
    monkeypatch.setattr("trackio.utils.TRACKIO_DIR", tmp_path / "trackio")
    for module in ("trackio.sqlite_storage", "trackio.media.utils"):
        monkeypatch.setattr(f"{module}.TRACKIO_DIR", tmp_path / "trackio", raising=False)
    assert track("trackio", training, tmp_path) == 1
    (file,) = (tmp_path / "trackio").glob("cocabench*.db")
    with sqlite3.connect(file) as stored:
        rows = stored.execute("select run_name, step, metrics from metrics order by step").fetchall()
    stored.close()
    assert [row[:2] for row in rows] == [("ViT-B-32:runs/x", 2), ("ViT-B-32:runs/x", 10)]
    assert '"pets/acc1"' in str(rows[0][2]) or b"pets/acc1" in bytes(rows[0][2])


def log_of(file: Path) -> Iterator[bytes]:
    """Yield the entries of a wandb file: LevelDB's log format, in blocks of 32 KiB, after a header of 7 bytes."""
    content, place, parts = file.read_bytes(), 7, b""
    while place < len(content):
        if (left := -place % 32768) and left < 7:
            place += left
        length, kind = struct.unpack_from("<HB", content, place + 4)
        parts += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield parts
            parts = b""


@pytest.mark.slow
@OTHERS
def test_wandb_writes_the_run_to_disk(training: RecordSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = pytest.importorskip("wandb", reason="pip install wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    assert track("wandb", training, tmp_path) == 1
    wandb.teardown()  # its process has written all
    found = sorted((tmp_path / "wandb").glob("offline-run-*"))
    assert found
    from wandb.proto import wandb_internal_pb2

    values = {}
    for content in (content for folder in found for file in folder.glob("*.wandb") for content in log_of(file)):
        message = wandb_internal_pb2.Record.FromString(content)
        if message.WhichOneof("record_type") == "history":
            items = {item.key or "/".join(item.nested_key): item.value_json for item in message.history.item}
            values[message.history.step.num] = items["pets/acc1"]
    assert values == {2: "0.25", 10: "0.75"}, wandb.__version__


def test_every_tracker_of_the_command_line_is_known() -> None:
    from cocabench.cli.options import Tracker

    assert {tracker.value for tracker in Tracker} == MODULES.keys()
