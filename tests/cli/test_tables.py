"""Tables of scores, costs and means on the terminal."""

from pathlib import Path

import pytest
from rich.console import Console

from cocabench.cli import console, tables
from cocabench.core.formatting import Footnotes
from cocabench.core.types import Estimate, MetricInfo, Note, Record, Signature, Unit
from cocabench.results.compare import compare_models
from cocabench.results.records import read
from cocabench.results.store import Store
from tests.conftest import Command

BASELINES = Path(__file__).parents[1] / "records" / "version_0.1" / "baselines"
UNITS: dict[str, Unit] = {
    "gflops": "gflops",
    "image_gflops": "gflops",
    "images_per_s": "per_s",
    "captions_per_s": "per_s",
    "peak_memory_mib": "mib",
    "train_step_s": "s",
}


def record(model: str, values: dict[str, float | None], threads: int = 4) -> Record:
    return Record(
        task="efficiency",
        model=model,
        evaluator="efficiency",
        primary="gflops",
        signature=Signature(
            protocol={"machine": "a CPU", "threads": threads, "batch_size": 8, "train_batch_size": 4},
            model={"id": model},
        ),
        metrics={
            name: Estimate(value=v, low=v and v - v / 10, high=v and v + v / 5, n=6 if v else 0)
            for name, v in values.items()
        },
        definitions={n: MetricInfo(unit=UNITS[n], higher_is_better=n.endswith("per_s"), summary="") for n in values},
        created="2026-01-01T00:00:00+00:00",
    )


@pytest.fixture
def results(tmp_path: Path) -> Path:
    store = Store(tmp_path)
    rates = {"gflops": 36.1, "image_gflops": 30.0, "images_per_s": 120.0, "peak_memory_mib": 900.0}
    store.put_record(record("A", rates | {"captions_per_s": 3.5, "train_step_s": 0.25}))
    store.put_record(record("B", rates | {"captions_per_s": None, "train_step_s": 0.5}))
    return tmp_path


def test_compare_prints_costs_with_units_and_without_score_notes(command: Command, results: Path) -> None:
    result = command("compare", results)
    assert result.code == 0, result.err
    rows = {line.partition("  ")[0]: line.split("  ") for line in result.out.splitlines()}
    assert [cell.strip() for cell in rows["images per second"] if cell.strip()][1:] == ["120 ± 24", "120 ± 24"]
    assert [cell.strip() for cell in rows["captions per second"] if cell.strip()][1:] == ["3.50 ± 0.70", "–"]
    assert {"GFLOPs, whole", "peak memory, MiB", "train step, s"} <= rows.keys()
    assert "a CPU, threads: 4, batches of 8, 4 in training" in result.out
    assert "multiplied by 100" not in result.out
    assert "image_gflops" not in result.out


def test_compare_marks_costs_of_another_machine(command: Command, results: Path) -> None:
    Store(results).put_record(record("C", {"gflops": 36.1, "images_per_s": 999.0}, threads=8))
    result = command("compare", results, "--models", "A,C")
    assert "[1] not comparable with the first model: threads: 4 against 8" in result.out


def test_compare_prints_scores_and_costs_in_two_tables(command: Command, results: Path) -> None:
    result = command("compare", BASELINES, results)
    scores, _, costs = result.out.partition("\ncost ")
    assert "multiplied by 100" in scores
    assert "efficiency" not in scores
    assert "images per second" in costs


def test_compare_says_what_means_over_tasks_assume(command: Command) -> None:
    result = command("compare", BASELINES, "--models", "demo/coca,demo/clip")
    assert "mean over 10 tasks of classification" in result.out
    assert result.out.count("p is not corrected for several means") == 1
    alone = command("compare", BASELINES, "--models", "demo/coca")
    assert "p is not corrected" not in alone.out


@pytest.mark.parametrize("width", [80, 76, 30])
def test_compare_on_a_narrow_terminal_keeps_columns_in_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], width: int
) -> None:
    """At 80 columns all is there; at 76 the middle of long names is left out; at 30 cells flow and nothing is lost."""
    found = read(str(BASELINES))
    comparison = compare_models(found, models=["demo/coca", "demo/clip"])
    for module in (tables, console):
        monkeypatch.setattr(module, "out", Console(width=width, highlight=False))
    tables.print_results(found, comparison)
    lines = capsys.readouterr().out.splitlines()
    flags = next(line for line in lines if "_flags" in line)
    if width == 30:
        assert flags.split() == ["emoji_flags", "acc1"]
        return
    assert lines[:2] == ["A  demo/coca", "B  demo/clip"]
    assert flags.split()[1:] == ["57.8", "±", "6.0", "70.0", "±", "5.8", "270", "−12.2", "±", "6.8", "▼", "p=0.006"]
    start = lines.index("classification, acc1")
    table = lines[start - 1 : lines.index("captioning, CIDEr") + 2]
    assert max(map(len, table)) <= width
    rows = [line for line in table if "±" in line]
    assert len(rows) == len(comparison.rows) == 14
    end = table[0].index(" n ") + 2
    counts = [line[:end].split()[-1] for line in rows]
    assert counts[:2] == ["85", "159"]
    assert all(line[end - len(n) - 1 : end] == f" {n}" for line, n in zip(rows, counts, strict=True))
    assert ("emoji_animals_nature" in "".join(table)) == (width == 80)


def test_notes_of_two_checkpoints_leave_columns_in_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    store = Store(tmp_path)
    for name in ("demo/coca", "demo/clip"):
        found = next(r for r in read(str(BASELINES)) if (r.model, r.task) == (name, "emoji_activities"))
        notes = tuple(Note("near_chance", f"{name}: {text}") for text in ("near chance", "one class"))
        store.put_record(found.model_copy(update={"notes": notes, "samples": None}))
    for module in (tables, console):
        monkeypatch.setattr(module, "out", Console(width=80, highlight=False))
    results = read(str(tmp_path))
    tables.print_results(results, compare_models(results, models=["demo/coca", "demo/clip"]))
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["A  demo/coca", "B  demo/clip"]
    row = next(line for line in lines if line.startswith("emoji"))
    assert "[1,2]" in row
    assert "[3,4]" in row
    assert len(row) <= 80


def test_many_models_on_a_narrow_terminal_are_tables_below_each_other(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    store = Store(tmp_path)
    for i in range(28):
        store.put_record(record(f"model {i}", {"gflops": 1.0 + i}))
    found = read(str(tmp_path))
    for module in (tables, console):
        monkeypatch.setattr(module, "out", Console(width=80, highlight=False))
    assert tables._print_narrow(compare_models(found), Footnotes())
    lines = capsys.readouterr().out.splitlines()
    assert "A  model 0" in lines
    assert sum(line.startswith("B2  model ") for line in lines) == 1
    assert sum(line.startswith("task ") for line in lines) > 2
    assert max(map(len, lines)) <= 80
