"""Sets in several languages: the mean over languages, its interval over shared images, and the report's section."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cocabench.core.types import Record
from cocabench.report import languages
from cocabench.report.content import gather
from cocabench.report.differences import differences
from cocabench.results.compare import averages, compare_models, legend, tallies
from cocabench.results.difference import Evidence
from cocabench.results.languages import language_sets, mean_of
from cocabench.results.records import read
from tests.samples import classified, right


def in_language(root: Path, model: str, language: str, hits: np.ndarray, **fields: bool) -> Record:
    task = f"set/{language}"
    protocol = {"task": task, "language": language, "data": {"images": len(hits)}}
    return classified(root, model, hits, task, protocol=protocol, groups=("set", "g"), **fields)


def test_the_mean_over_languages_counts_each_image_once(tmp_path: Path) -> None:
    """Languages that agree on every image are no more than one; those that do not are."""
    same = [in_language(tmp_path / "same", "a", code, right(30, 100)) for code in ("de", "fr", "jp", "zh")]
    apart = [in_language(tmp_path / "apart", "a", c, np.roll(right(30, 100), 25 * k)) for k, c in enumerate("wxyz")]
    found = mean_of(same, "acc1", Evidence(read(tmp_path / "same")))
    other = mean_of(apart, "acc1", Evidence(read(tmp_path / "apart")))
    assert found is not None
    assert other is not None
    assert found.value == other.value == pytest.approx(0.3)
    assert (found.n, other.n) == (100, 100)
    alone = same[0].metrics["acc1"]
    assert [found.low, found.high] == pytest.approx([alone.low, alone.high], abs=0.003)
    assert other.high - other.low < 0.6 * (found.high - found.low)  # type: ignore[operator]


@pytest.mark.parametrize("agreement", [0.0, 0.9])
def test_the_interval_of_the_mean_covers_and_is_no_wider_than_it_must_be(agreement: float) -> None:
    """95 % of 400 simulated means over 8 languages; the cap at as many answers as images covered all, twice as wide."""
    from scipy.stats import norm

    from cocabench.metrics.intervals import of_hits

    rng, shares, covered, widths = np.random.default_rng(0), np.linspace(0.02, 0.3, 8), 0, []
    for _ in range(400):
        own, common = rng.standard_normal((159, 8)), rng.standard_normal((159, 1))
        hits = np.sqrt(1 - agreement) * own + np.sqrt(agreement) * common < norm.ppf(shares)
        low, high = of_hits(hits.mean(), (hits - hits.mean(0)).sum(1) / hits.size, hits.size)
        covered += low <= shares.mean() <= high
        widths.append(high - low)
    assert 0.93 <= covered / 400 <= 0.99
    assert (np.mean(widths) < 0.05) == (agreement == 0)


def test_without_samples_the_mean_has_no_interval_and_without_a_value_there_is_none(tmp_path: Path) -> None:
    records = [in_language(tmp_path, "a", code, right(3, 10), samples=False) for code in ("de", "fr")]
    found = mean_of(records, "acc1", Evidence(read(tmp_path)))
    assert found is not None
    assert (found.value, found.low, found.high) == (pytest.approx(0.3), None, None)
    assert mean_of(records, "acc5", Evidence(read(tmp_path))) is None


def test_languages_count_in_the_mean_of_their_set_alone(tmp_path: Path) -> None:
    for model, n in (("a", 6), ("b", 3)):
        for task in ("pets", "food"):
            classified(tmp_path, model, right(n, 10), task, ids=task)
        for code in ("de", "fr"):
            in_language(tmp_path, model, code, right(2, 10))
    records = read(tmp_path)
    comparison = compare_models(records, models=["a", "b"])
    assert {one.group: (one.tasks, one.values) for one in averages(comparison)} == {
        "classification": (("pets", "food"), (60.0, 30.0)),
        "set": (("set/de", "set/fr"), (20.0, 20.0)),
    }
    assert [(one.name, list(one.rows)) for one in language_sets(comparison)] == [("set", ["de", "fr"])]
    assert [tally.tested for tally in tallies(comparison)] == [2]
    assert "Holm-corrected for 2 primary differences, and for the languages of each set." in " ".join(
        legend(comparison)
    )
    report = gather(records)
    assert [subject.key for subject in differences(report).tasks] == ["pets", "food"]
    table, (heat,) = languages.table(report), languages.heats(report)
    assert table is not None
    assert [[entry.text for entry in line.entries] for line in table.lines] == [
        ["mean of 2", "20.0", "20.0"],
        ["de", "20.0", "20.0"],
        ["fr", "20.0", "20.0"],
    ]
    assert table.caption == "Languages: set, acc@1 with 95 % intervals over images"
    assert (heat.name, heat.languages) == ("set", ("de", "fr"))
    assert [name for name, _ in heat.rows] == ["a", "b"]


def test_many_languages_do_not_hide_what_another_task_shows(tmp_path: Path) -> None:
    """p of pets stays what it is alone: the languages are a family of their own."""
    for model, n in (("a", 60), ("b", 40)):
        classified(tmp_path, model, right(n, 100), "pets", ids="p")
        for code in map(str, range(12)):
            in_language(tmp_path, model, code, right(50 + n // 20, 100))
    rows = {row.task: row.difference for row in compare_models(read(tmp_path), models=["a", "b"]).rows}
    pets, language = rows["pets"], rows["set/0"]
    assert pets is not None
    assert language is not None
    assert pets.adjusted == pets.p_value
    assert language.adjusted == pytest.approx(min(1, 12 * (language.p_value or 0)))


def test_a_model_without_one_of_the_languages_has_no_mean_and_a_gap_in_the_heat_map(tmp_path: Path) -> None:
    in_language(tmp_path, "a", "de", right(9, 10))
    in_language(tmp_path, "a", "fr", right(1, 10))
    in_language(tmp_path, "b", "de", right(5, 10))
    report = gather(read(tmp_path))
    assert [subject.key for subject in differences(report).tasks] == ["set/de", "set/fr"]  # nothing else to show
    table, (heat,) = languages.table(report), languages.heats(report)
    assert table is not None
    assert [entry.text for entry in table.lines[0].entries][1:] == ["50.0", "–"]
    assert dict(heat.rows)["b"][1].step == -1
    assert [shade.step for shade in dict(heat.rows)["a"]] == [9, 0]
    assert languages.table(gather([classified(tmp_path / "x", "a", right(1, 2))])) is None
