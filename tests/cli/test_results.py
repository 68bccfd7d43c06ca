"""Commands that read results, compare, report, gate and show."""

import json
import shutil
from pathlib import Path

import pytest

from tests.conftest import Command
from tests.samples import classified, right

RECORD = Path(__file__).parents[1] / "records" / "schema_1" / "captioning.json"


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder for the results that the first test makes and all copy."""
    return tmp_path_factory.mktemp("ran") / "results"


@pytest.fixture
def drawn_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw figures without other processes, whose start takes longer; tests/report draws with them."""
    monkeypatch.setattr("cocabench.report.plots.MAX_FIGURES_IN_PROCESS", 1000)


@pytest.fixture
def results(command: Command, models: Path, data: Path, tmp_path: Path, ran: Path) -> Path:
    """Return the results of both tiny models on two tasks."""
    if ran.is_dir():
        return shutil.copytree(ran, tmp_path / "results")
    tasks = f"{data / 'find.toml'},{data / 'name.toml'}"
    folders = f"{models / 'clip'},{models / 'coca'}"
    result = command(
        "run", "--model", folders, "--tasks", tasks, "--data-root", data, "--output", tmp_path / "results", "--quiet"
    )
    assert result.code == 0, result.err
    shutil.copytree(tmp_path / "results", ran)
    return tmp_path / "results"


def test_compare_prints_a_table_markdown_and_csv(command: Command, results: Path) -> None:
    table, markdown, csv = (command("compare", results, "--format", form).out for form in ("table", "markdown", "csv"))
    assert "difference" in table
    assert markdown.startswith("| task | metric |")
    assert csv.splitlines()[0].startswith("task,metric,model,value,low,high,n")
    assert len(csv.splitlines()) == 5
    everything = command("compare", results, "--all-metrics", "--format", "csv").out
    assert "i2t_median_rank" in everything


@pytest.mark.usefixtures("drawn_here")
def test_report_writes_tables_and_figures(command: Command, results: Path, tmp_path: Path) -> None:
    result = command("report", results, "--output", tmp_path / "r")
    assert result.code == 0, result.err
    files = {p.relative_to(tmp_path / "r").as_posix() for p in (tmp_path / "r").rglob("*") if p.is_file()}
    assert {"index.html", "data.json", "tables/results.md", "tables/results.tex", "figures/differences.pdf"} <= files
    assert "find" in (tmp_path / "r" / "index.html").read_text()


@pytest.mark.slow
@pytest.mark.usefixtures("drawn_here")
def test_report_draws_published_numbers_without_results(command: Command, tmp_path: Path) -> None:
    models = "coca_ViT-L-14:laion2b_s13b_b90k,ViT-L-14:laion2b_s32b_b82k"
    result = command("report", "--published", models, "--output", tmp_path)
    assert result.code == 0, result.err
    assert "| imagenet1k | acc1 | **75.6** | 75.2 | +0.4 |" in (tmp_path / "tables" / "results.md").read_text()
    assert "not the blog" in (tmp_path / "index.html").read_text()
    assert (tmp_path / "figures" / "differences.svg").is_file()


def test_report_without_results_and_published_models_is_an_error(command: Command) -> None:
    result = command("report")
    assert result.code == 2
    assert "no results and no --published" in result.err


def test_gate_exits_with_0_1_and_2(command: Command, results: Path, tmp_path: Path) -> None:
    rules = tmp_path / "gates.toml"
    rules.write_text("[defaults]\ntolerance = 0.5\n")
    same = command("gate", "--baseline", results, "--current", results, "--rules", rules, "--junit", tmp_path / "j.xml")
    assert same.code == 0, same.err
    assert 'failures="0"' in (tmp_path / "j.xml").read_text()
    better = worsen(results, tmp_path / "before", by=-0.9)
    assert command("gate", "--baseline", better, "--current", results, "--rules", rules).code == 1
    for path in (tmp_path / "before").rglob("*.json"):
        path.write_text(path.read_text().replace('"version": 1', '"version": 2'))
    result = command("gate", "--baseline", better, "--current", results, "--rules", rules)
    assert result.code == 2
    assert "incomparable" in result.out
    assert command("gate", "--baseline", tmp_path / "nowhere", "--current", results, "--rules", rules).code == 2
    rules.write_text("[defaults]\ntolerence = 0.5\n")
    result = command("gate", "--baseline", results, "--current", results, "--rules", rules)
    assert result.code == 2
    assert "did you mean 'tolerance'" in result.err


def worsen(results: Path, folder: Path, *, by: float) -> Path:
    """Copy Records with every value lowered, and known exactly."""
    for path in results.rglob("*.json"):
        table = json.loads(path.read_text())
        for metric in table["metrics"].values():
            if metric["value"] is not None:
                metric["value"] -= by
                metric["low"] = metric["high"] = metric["value"]
        target = folder / path.relative_to(results)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(table))
    return folder


def test_show_explains_a_record(command: Command) -> None:
    result = command("show", RECORD)
    assert result.code == 0, result.err
    assert result.out.startswith("demo/coca on emoji_captions")
    for line in (
        ("CIDEr", "12.3 ± ", "tf-idf"),
        ("decoding.num_beams", "6", "beams"),
        ("data.hash", "8c5c9a25cd9e1392", "hash of ids, texts, labels, domains and negatives, in order"),
        ("packages.torch", "2.", "computation"),
    ):
        assert any(all(part in printed for part in line) for printed in result.out.splitlines()), line
    assert "Environment: stored, not compared" in result.out
    assert "no samples: differences cannot be paired" in result.out


def test_show_lists_a_folder_and_chooses_a_record(command: Command, tmp_path: Path) -> None:
    for model, task in (("a", "t1"), ("a", "t2"), ("b", "t1")):
        classified(tmp_path, model, right(1, 2), task)
    assert len(command("show", tmp_path).out.splitlines()) == 5
    result = command("show", tmp_path, "--model", "a", "--task", "t2")
    assert result.out.startswith("a on t2")
    assert "samples are stored" in result.out
    refused = command("show", tmp_path, "--model", "c")
    assert (refused.code, "unknown 'c'" in refused.err) == (2, True)
    assert command("show", tmp_path / "none").code == 2
