"""gate --update: the new baseline is complete, small and can be paired; a failed update keeps the old one."""

from __future__ import annotations

import os
import random
import signal
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


def fork_updater(root: Path) -> int:
    """Start a process that makes one of two results folders the baseline, and the other, again and again."""
    if pid := os.fork():
        return pid
    new = [read(root / name) for name in ("new", "old")]
    for turn in range(10_000):
        held = read(root / "base")
        write(root / "base", planned(held.records, new[turn % 2].records), held, new[turn % 2])
    os._exit(0)


def kill_updates(folder: str, exchange: bool) -> None:
    """Kill a process that updates a baseline at random moments. exchange: as Linux exchanges folders, or not."""
    if not exchange:
        sys.platform = "another"
    root, moments, seen = Path(folder), random.Random(0), set()
    for k in range(300):
        if k >= 50 and len(seen) == 2:
            break
        pid = fork_updater(root)
        time.sleep(0.05 + moments.random() / 10 * max(1, k / 25))  # a busy machine needs longer for one update
        os.kill(pid, signal.SIGKILL)
        assert os.waitpid(pid, 0)[1] == signal.SIGKILL
        assert (root / "base").is_dir() or not exchange
        baseline.recover(root / "base")
        records = read(root / "base").records
        (value,) = {r.metrics["acc1"].value for r in records}
        assert sorted(r.task for r in records) == ["t1", "t2"], "one whole baseline"
        seen.add(value)
    assert seen == {0.5, 0.6}, "both came to stand"


@pytest.mark.slow
@pytest.mark.parametrize("exchange", [True, False])
def test_kills_leave_the_old_baseline_or_the_new_one(exchange: bool, tmp_path: Path) -> None:
    for name, n in (("old", 50), ("new", 60), ("base", 50)):
        for task in ("t1", "t2"):
            classified(tmp_path / name, "m", right(n, 100), task)
    code = f"from tests.results import test_baseline; test_baseline.kill_updates({str(tmp_path)!r}, {exchange})"
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)
    held = read(tmp_path / "base")
    write(tmp_path / "base", planned(held.records, []), held, held)
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
