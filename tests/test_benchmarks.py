"""The rows keep the contract: they exist, say what they want, and the table is made of their last lines."""

import importlib
import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import __main__ as benchmarks
from benchmarks import table
from benchmarks.sides import Options, Row, Work


def report(name: str) -> dict[str, Any]:
    side = {"median_s": 1.5, "peak_mib": 100}
    return {"name": name, "what": "w", "against": "a", "target": 2, "ratio": 3.0, "ours": side, "theirs": side}


def test_the_table_is_replaced_and_the_prose_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
    told: list[str] = []

    def worker(module: str, order: list[str], threads: int, environment: dict[str, str]) -> dict[str, Any]:
        side = order[order.index("--worker") + 1]
        told.append(side)
        return {"seconds": 1.0 if side == "ours" else 3.0, "cpu_seconds": 1.0, "peak_mib": 50}

    def side(options: Options) -> Work:
        return lambda: None

    monkeypatch.setattr("benchmarks.sides.worker", worker)
    row = Row("text", "{n} texts", "them", 2, side, side, arguments={"--n": 4}, tolerance=1e-5)
    row.main(["--repeats", "2", "--n", "7"])
    words, last = capsys.readouterr().out.strip().rsplit("\n", 1)
    assert told == ["ours", "theirs"] * 2
    assert "3.0 times faster" in words
    assert report("text").keys() <= json.loads(last).keys()
    assert json.loads(last)["what"] == "7 texts"
    monkeypatch.setattr("benchmarks.sides._difference", lambda folder: 1.0)
    with pytest.raises(SystemExit, match=r"differ by 1\.0"):
        row.main(["--json"])


@pytest.mark.parametrize("name", ["classifier", "classifier-coca", "text", "recall", "ranks"])
def test_a_row_can_be_imported(name: str) -> None:
    module = importlib.import_module(f"benchmarks.{benchmarks.ROWS[name][0]}")
    assert hasattr(module, "ROW") or hasattr(module, "main")
