"""gate --update: the new baseline is complete, small and can be paired; a failed update keeps the old one."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from cocabench.core.errors import ResultsError
from cocabench.core.types import Status
from cocabench.results import baseline
from cocabench.results.baseline import planned, write
from cocabench.results.gate import Rules, gate
from cocabench.results.records import read
from cocabench.results.store import Store
from tests.conftest import Command
from tests.samples import classified, right


def test_update_replaces_adds_and_keeps_records(tmp_path: Path) -> None:
    old, new = tmp_path / "baselines", tmp_path / "new"
    for task in ("t1", "t2"):
        classified(old, "epoch_1", right(50, 100), task)
    (old / "README.md").write_text("why")
    for task, n in (("t1", 60), ("t3", 70)):
        classified(new, "epoch_2", right(n, 100), task)
    change = planned(read(old).records, read(new).records)
    assert [(a.model, b.model) for a, b in change.replaced] == [("epoch_1", "epoch_2")]
    assert [r.task for r in change.added] == ["t3"]
    assert [r.task for r in change.kept] == ["t2"]
    write(old, change, read(old), read(new))
    assert {(r.model, r.task) for r in read(old)} == {("epoch_2", "t1"), ("epoch_1", "t2"), ("epoch_2", "t3")}
    assert (old / "README.md").read_text() == "why"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["baselines", "new"]


def test_update_keeps_the_columns_that_paired_tests_read(tmp_path: Path) -> None:
    record = classified(tmp_path / "new", "m", right(60, 100))
    write(tmp_path / "b", planned([], [record]), None, read(tmp_path / "new"))
    (stored,) = read(tmp_path / "b")
    kept = Store(tmp_path / "b").samples(stored)
    assert (
        {"id", "image_id", "n_above", "label"}
        <= set(kept)
        <= set(Store(tmp_path / "new").samples(record)) - {"top5_names"}
    )
    (verdict,) = gate(read(tmp_path / "b"), read(tmp_path / "new"), Rules())
    assert (verdict.status, verdict.unpaired) == (Status.PASS, "")


def test_update_writes_less_than_500_kb_for_50000_images(tmp_path: Path) -> None:
    record = classified(tmp_path / "new", "m", right(30_000, 50_000))
    write(tmp_path / "b", planned([], [record]), None, read(tmp_path / "new"))
    assert sum(f.stat().st_size for f in (tmp_path / "b").rglob("*.parquet")) < 500_000


def test_update_keeps_the_old_baseline_if_writing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = tmp_path / "b", tmp_path / "new"
    classified(old, "m", right(50, 100))
    before = {p: p.read_bytes() for p in old.rglob("*") if p.is_file()}
    classified(new, "m", right(60, 100), protocol={"other": 1})

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(baseline, "read_numbers", full)
    with pytest.raises(ResultsError, match="No space left"):
        write(old, planned(read(old).records, read(new).records), read(old), read(new))
    assert {p: p.read_bytes() for p in old.rglob("*") if p.is_file()} == before


def test_gate_update_prints_the_verdicts_and_replaces_the_baseline(command: Command, tmp_path: Path) -> None:
    base, new = tmp_path / "base", tmp_path / "new"
    classified(new, "m", right(60, 100))
    first = command("gate", "--baseline", base, "--current", new, "--update")
    assert (first.code, "added: m on pets" in first.out) == (0, True)
    classified(tmp_path / "worse", "m", right(30, 100))
    result = command("gate", "--baseline", base, "--current", tmp_path / "worse", "--update")
    assert result.code == 0
    assert "regressed" in result.out
    assert "replaced: m on pets" in result.out
    assert read(base).records[0].metrics["acc1"].value == pytest.approx(0.3)
    assert pd.read_parquet(next(base.rglob("*.parquet")))["n_above"].sum() == 70
    refused = command("gate", "--baseline", "published:ViT-B-32:openai", "--current", new, "--update")
    assert (refused.code, "wanted a folder" in refused.err) == (2, True)


UPDATING = """
import os, random, sys, threading, time
import random
import subprocess
import sys
import time
from pathlib import Path
from cocabench.results import baseline as gating
from cocabench.results.records import read
from tests.samples import classified, right
root = Path(sys.argv[1])
held = read(root / "base")
now = read(root / ("new" if held.records[0].metrics["acc1"].value == 0.5 else "old"))
print("begun", flush=True)
for _ in range(1000):
    gating.write(root / "base", gating.planned(held.records, now.records), held, now)
    held, now = now, held
    held = read(root / "base")
"""


@pytest.mark.slow
@pytest.mark.parametrize("exchange", [True, False])
def test_kills_leave_the_old_baseline_or_the_new_one(
    exchange: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, n in (("old", 50), ("new", 60), ("base", 50)):
        for task in ("t1", "t2"):
            classified(tmp_path / name, "m", right(n, 100), task)
    before = "" if exchange else "import sys; sys.platform = 'other'\n"
    moments = random.Random(0)
    for _ in range(30):
        order = [sys.executable, "-c", before + UPDATING, str(tmp_path)]
        process = subprocess.Popen(order, stdout=subprocess.PIPE)
        assert process.stdout
        process.stdout.readline()
        time.sleep(moments.random() / 5)
        process.kill()
        process.wait()
        process.stdout.close()
        assert exchange or (tmp_path / "base").is_dir() or list(tmp_path.glob(".base.*/old"))
        baseline.recover(tmp_path / "base")
        values = {r.metrics["acc1"].value for r in read(tmp_path / "base")}
        assert values in ({0.5}, {0.6}), "one whole baseline"
        assert len(read(tmp_path / "base")) == 2
    write(
        tmp_path / "base", planned(read(tmp_path / "base").records, []), read(tmp_path / "base"), read(tmp_path / "old")
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base", "new", "old"]


def test_a_link_to_a_baseline_stays_a_link(tmp_path: Path) -> None:
    classified(tmp_path / "real", "m", right(50, 100))
    (tmp_path / "base").symlink_to("real")
    record = classified(tmp_path / "new", "m", right(60, 100))
    write(
        tmp_path / "base",
        planned(read(tmp_path / "base").records, [record]),
        read(tmp_path / "base"),
        read(tmp_path / "new"),
    )
    assert (tmp_path / "base").is_symlink()
    assert read(tmp_path / "real").records[0].metrics["acc1"].value == pytest.approx(0.6)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base", "new", "real"]
