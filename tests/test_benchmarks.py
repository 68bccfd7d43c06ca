"""The rows keep the contract: they exist, say what they want, and the table is made of their last lines."""

import argparse
import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import __main__ as benchmarks
from benchmarks import captioning_cuda, table
from benchmarks.captioning_curves import step_bytes
from benchmarks.make_decoding_goldens import build, images
from benchmarks.sides import Options, Row, Work


def report(name: str) -> dict[str, Any]:
    side = {"median_s": 1.5, "peak_mib": 100}
    return {"name": name, "what": "w", "against": "a", "target": 2, "ratio": 3.0, "ours": side, "theirs": side}


def test_help_names_the_rows(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["benchmarks", "--help"])
    benchmarks.main()
    assert "By name only: images, many" in capsys.readouterr().out


def test_the_table_is_replaced_and_the_text_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "RESULTS.md"
    path.write_text(f"before\n{table.START}\nold\n{table.END}\nafter\n")
    monkeypatch.setattr(table, "RESULTS", path)
    table.write({"text": report("text"), "run": None})
    written = path.read_text()
    assert written.startswith("before\n")
    assert written.endswith("\nafter\n")
    assert "old" not in written
    assert "| `python -m benchmarks text` | w | a | 1.5 s | 1.5 s | **3** | 2 | 100 / 100 MiB |" in written
    assert "| `python -m benchmarks run` | failed |" in written


def test_a_row_takes_turns_and_refuses_answers_that_differ(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[str] = []
    answers = {"ours": 2.0, "theirs": 2.0}

    def worker(module: str, order: list[str], threads: int, environment: dict[str, str]) -> dict[str, Any]:
        side = order[order.index("--worker") + 1]
        calls.append(side)
        np.save(order[order.index("--answer") + 1], np.float64(answers[side]))
        return {"seconds": 1.0 if side == "ours" else 3.0, "cpu_seconds": 1.0, "peak_mib": 50}

    def side(options: Options) -> Work:
        return lambda: None

    monkeypatch.setattr("benchmarks.sides.worker", worker)
    row = Row("text", "{n} texts", "them", 2, side, side, arguments={"--n": 4}, tolerance=1e-5)
    row.main(["--repeats", "2", "--n", "7"])
    words, last = capsys.readouterr().out.strip().rsplit("\n", 1)
    assert calls == ["ours", "theirs"] * 2
    assert "3.0 times faster" in words
    assert report("text").keys() <= json.loads(last).keys()
    assert json.loads(last)["what"] == "7 texts"
    answers["theirs"] = 3.0
    with pytest.raises(SystemExit, match=r"differ by 1\.0"):
        row.main(["--json"])


@pytest.mark.parametrize("name", ["classifier", "classifier-coca", "text", "recall", "ranks", "images", "resize"])
def test_a_row_prints_its_usage(name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    module = importlib.import_module(f"benchmarks.{(benchmarks.ROWS | benchmarks.EXTRA)[name][0]}")
    monkeypatch.setattr("sys.argv", [name, "--help"])
    with pytest.raises(SystemExit, match="0"):
        vars(module).get("ROW", module).main()
    assert "--json" in capsys.readouterr().out


def test_the_floor_of_a_step_is_what_it_reads() -> None:
    """By hand: a block of width w holds 12 w^2 + 13 w numbers; a cross block 2 w more, of which it reads 2 w^2 less."""
    width, text_and_self, cross, vocabulary = 32, 2 + 2, 2, 50
    block = 12 * width**2 + 13 * width
    weights = text_and_self * block + cross * (block + 2 * width - 2 * width**2) + vocabulary * width
    keys = cross * 5 + text_and_self * 8 // 2  # 5 image tokens; half of 8 caption tokens
    found = step_bytes(build("pooled"), torch.zeros(3, 5, width), 8)
    assert found == 4 * (weights + 3 * 2 * width * keys) == 315392


def test_the_gpu_row_measures_its_sides_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    model, options = build("pooled"), argparse.Namespace(images=2, length=8, repeats=2, device="cpu", precision="fp32")
    options.model = "pooled"
    calls: list[str] = []

    def side(name: str) -> Any:
        return lambda images, seq_len: (calls.append(name), torch.zeros(len(images), seq_len))[1]

    monkeypatch.setattr(captioning_cuda, "prepared", lambda options, count: (model, images("pooled", count)))
    monkeypatch.setattr(captioning_cuda, "bandwidth", lambda device: 1e9)
    monkeypatch.setattr(captioning_cuda, "seconds", lambda work, device: (work(), 0.5)[1])
    names = ("ours", "cached", "theirs")
    monkeypatch.setattr(captioning_cuda, "_sides", lambda model, device: {name: side(name) for name in names})
    found = captioning_cuda._compare(options)
    assert calls == [*names] * 3  # once to warm up, then twice
    assert report("x").keys() <= found.keys()
    assert found["equal_captions"] == 1
    assert found["floor_s"] > 0.5  # encoding, and then the steps
    assert found["ours"]["captions_per_s"] == 2 / 0.5
