"""Tables of models, means and tallies, and the public cocabench.compare."""

from __future__ import annotations

import csv
import doctest
import io
import math
import re
from pathlib import Path

import numpy as np
import pytest

import cocabench
from cocabench.core.errors import UnknownNameError, UsageError
from cocabench.core.types import Estimate, Note
from cocabench.kinds import find
from cocabench.kinds.classification import ACC1
from cocabench.metrics.base import estimate as measured
from cocabench.report.results import Results
from cocabench.results.compare import averages, compare_models, legend, of_measured, ranked, tallies
from cocabench.results.difference import Difference, Evidence, Finding, difference
from cocabench.results.records import choose, incomparable, read
from cocabench.results.tables import to_csv, to_markdown
from tests.report.records import INFO, estimate, record
from tests.samples import classified, outcomes, right

ROOT = Path(__file__).parents[2]


def gap_of(a: Estimate, b: Estimate, metric: str = "acc1") -> Difference | None:
    """Return the difference of two numbers without samples."""
    records = (record(model, metrics={metric: value}) for model, value in (("a", a), ("b", b)))
    return difference(*records, metric, INFO[metric], Evidence())


def interval(gap: Difference | None) -> tuple[float, float | None, float | None]:
    assert gap is not None
    return gap.value, gap.low, gap.high


def test_choose_prefers_full_runs_then_the_newest() -> None:
    full_old = record(created="2025-01-01")
    full_new = record(created="2025-02-01", metrics=0.6)
    limited = record(created="2025-03-01", protocol={"limit": 10})
    chosen, left_out = choose([full_old, limited, full_new])
    assert chosen == (full_new,)
    assert [phrase.partition("(")[2].split(";")[0] for phrase in left_out] == ["older", "fewer samples"]


def test_choose_prefers_the_standard_protocol_to_a_newer_record() -> None:
    standard, other = record(created="2025-01-01"), record(created="2025-02-01", protocol={"standard": False})
    assert choose([other, standard]).records == (standard,)


def test_difference_is_first_minus_second_with_newcombes_interval() -> None:
    """Newcombe 1998, table II, row (a), method 10: 56/70 against 48/80 is 0.2 with 0.0524 to 0.3339."""
    first = estimate(0.8).model_copy(update={"low": 0.69187, "high": 0.87696})
    second = estimate(0.6).model_copy(update={"low": 0.49049, "high": 0.70039})
    assert interval(gap_of(first, second)) == pytest.approx((20.0, 5.24, 33.39), abs=0.01)
    swapped = gap_of(second, first)
    assert interval(swapped) == pytest.approx((-20.0, -33.39, -5.24), abs=0.01)


def test_difference_without_intervals_has_no_interval() -> None:
    assert interval(gap_of(estimate(0.5), estimate(0.4, 0.1))) == pytest.approx((10.0, None, None))
    assert gap_of(estimate(None), estimate(0.4)) is None


def test_difference_of_ranks_is_not_multiplied() -> None:
    gap = gap_of(estimate(3.0), estimate(5.0), "t2i_median_rank")
    assert gap is not None
    assert gap.value == -2.0


def test_row_of_other_protocols_gives_the_reason_instead_of_a_difference() -> None:
    other = record("b", protocol={"data": {"images": 8000}})
    (row,) = compare_models([record("a"), other]).rows
    assert row.difference is None
    assert row.difference_text == "incomparable (data.images: 1000 against 8000)"
    assert not any(cell.best for cell in row.cells)


def test_published_numbers_are_comparable_within_one_source_only() -> None:
    ours = record("a")
    blog, table = (record("b", protocol={"published": source}) for source in ("blog", "table"))
    assert incomparable(ours, blog, "acc1") == ("published by blog, protocol not recorded",)
    assert incomparable(blog, table, "acc1") == ("published by blog and by table",)
    assert incomparable(blog, blog, "acc1") == ()


@pytest.mark.parametrize(
    ("values", "best"),
    [
        ((0.584, 0.561), (True, False)),
        ((0.5841, 0.5839), (True, True)),  # both print 58.4
        ((0.5, None), (False, False)),  # nothing to be better than
    ],
)
def test_best_cells_print_the_best_value(values: tuple[float, float | None], best: tuple[bool, bool]) -> None:
    (row,) = compare_models([record("a", metrics=values[0]), record("b", metrics=values[1])]).rows
    assert tuple(cell.best for cell in row.cells) == best


def test_best_rank_is_the_lowest() -> None:
    records = [record(m, metrics={"t2i_median_rank": estimate(v)}) for m, v in (("a", 3.0), ("b", 5.0))]
    (row,) = compare_models(records).rows
    assert [cell.best for cell in row.cells] == [True, False]


def test_compare_models_orders_tasks_by_kind_and_adds_metrics() -> None:
    retrieval = record(task="flickr30k", evaluator="retrieval")
    both = record(metrics={"acc1": estimate(0.5), "acc5": estimate(0.8)})
    assert [(r.task, r.metric) for r in compare_models([retrieval, both]).rows] == [
        ("imagenet1k", "acc1"),
        ("flickr30k", "acc1"),
    ]
    assert [r.metric for r in compare_models([both], all_metrics=True).rows] == ["acc1", "acc5"]


def test_health_metrics_have_no_finding() -> None:
    words = INFO["acc1"].model_copy(update={"unit": "words", "kind": "health"})
    a, b = (
        record(m, metrics={"acc1": estimate(v, 0.1)}, definitions={"acc1": words}) for m, v in (("a", 9), ("b", 12))
    )
    (row,) = compare_models([a, b]).rows
    assert row.difference is not None
    assert (row.difference.value, row.verdict) == (-3.0, "")
    assert not any(cell.best for cell in row.cells)


def test_cells_without_a_number_give_the_reason() -> None:
    skipped = record("b", metrics={}, primary="CIDEr", skipped_metrics={"CIDEr": "no Java"})
    (row,) = compare_models([record("a", metrics={"CIDEr": estimate(1.2)}), skipped, record("c", "other")]).rows[:1]
    assert [cell.text for cell in row.cells] == ["120.0 (n=1000)", "skipped", "no result"]
    assert row.cells[1].notes == ("CIDEr skipped: no Java",)


def test_markdown_is_escaped_and_has_notes() -> None:
    odd = record(
        "a|<b>*", notes=(Note("random_weights", "random weights"),), skipped_images=("x.jpg",), protocol={"limit": 5}
    )
    text = to_markdown(compare_models([odd]))
    assert r"a\|&lt;b&gt;\*" in text
    assert "50.0 (n=1000) \\[1\\] \\[2\\] \\[3\\] |" in text
    for note in ("random weights", "limited to 5 samples", "1 image skipped, for example x.jpg"):
        assert note in text
    assert all(line.replace(r"\|", "").count("|") == 4 for line in text.splitlines() if line.startswith("|"))


def test_csv_has_a_row_per_cell_in_points() -> None:
    comparison = compare_models([record("a", metrics={"acc1": estimate(0.584, 0.01)}), record("b", metrics=0.5)])
    first, second = csv.DictReader(io.StringIO(to_csv(comparison)))
    assert (first["model"], first["value"], first["low"], first["best"]) == ("a", "58.4", "57.4", "1")
    assert (second["value"], second["low"], second["first_minus_this"]) == ("50.0", "", "8.4")


def test_compare_models_takes_models_by_name() -> None:
    records = [record("a"), record("b"), record("c")]
    assert compare_models(records, models=["c", "a"]).models == ("c", "a")
    with pytest.raises(UnknownNameError, match="did you mean"):
        compare_models([record("demo/coca")], models=["demo/cocoa"])


def test_tallies_count_wins_ties_losses_and_untested_tasks(tmp_path: Path) -> None:
    for task, a, b in (("t1", 90, 60), ("t2", 50, 50), ("t3", 60, 90)):
        classified(tmp_path, "a", right(a, 100), task)
        classified(tmp_path, "b", right(b, 100), task)
    classified(tmp_path, "a", right(1, 2), "t4")
    (tally,) = tallies(compare_models(read(tmp_path)))
    assert (tally.wins, tally.ties, tally.losses, tally.untested) == (1, 1, 1, 1)


def test_average_and_its_error_equal_a_calculation_by_hand(tmp_path: Path) -> None:
    for task, a, b in (("t1", 60, 50), ("t2", 80, 50)):
        classified(tmp_path, "a", right(a, 100), task, groups=("g",))
        classified(tmp_path, "b", right(b, 100), task, groups=("g",))
    comparison = compare_models(read(tmp_path))
    (mean,) = averages(comparison)  # "classification" and "g" are the same tasks
    assert (mean.tasks, mean.values) == (("t1", "t2"), pytest.approx((70, 50)))
    gap = mean.differences[1]
    assert gap is not None
    assert gap.value == pytest.approx(20)
    assert gap.test is not None
    joint = np.repeat([1.0, 0.5, 0.0], [10, 20, 70])  # both tasks are on the same 100 images: 10 are better in both
    assert gap.test.error == pytest.approx(math.sqrt(100 * joint.var(ddof=1) + 2) / 100)
    assert gap.finding is Finding.FIRST


def test_mean_of_tasks_with_the_same_pictures_under_other_ids_is_not_tested(tmp_path: Path) -> None:
    for model, hits in (("a", 60), ("b", 50)):
        classified(tmp_path, model, right(hits, 100), "t1", groups=("g",), pictures="p")
        classified(tmp_path, model, right(hits, 100), "t2", groups=("g",), pictures="p", ids="x")
    (mean,) = averages(compare_models(read(tmp_path)))
    gap = mean.differences[1]
    assert gap is not None
    assert (gap.value, gap.p_value, gap.low) == (pytest.approx(10), None, None)
    assert gap.unpaired == "t2 and t1 have the same images under other ids"


def test_mean_over_a_task_without_samples_is_not_tested(tmp_path: Path) -> None:
    for model, hits in (("a", 60), ("b", 50)):
        classified(tmp_path, model, right(hits, 100), "t1", groups=("g",))
        classified(tmp_path, model, right(hits, 100), "t2", groups=("g",), samples=False)
    (mean,) = averages(compare_models(read(tmp_path)))
    gap = mean.differences[1]
    assert gap is not None
    assert (gap.value, gap.p_value, gap.unpaired) == (pytest.approx(10), None, "no samples of a on t2")


def test_what_is_left_untested_on_purpose_says_so(tmp_path: Path) -> None:
    for model, hits in (("a", 60), ("b", 50)):
        classified(tmp_path, model, right(hits, 100), "t1")
    found = compare_models(read(tmp_path), evidence=Evidence(untested="only primary metrics are tested"))
    gaps = [gap for row in found.rows for gap in row.differences if gap is not None]
    assert {gap.unpaired for gap in gaps} == {"only primary metrics are tested"}


def test_averages_need_shared_tasks_of_one_unit() -> None:
    both = [record(m, t, evaluator="captioning") for m in "ab" for t in ("t1", "t2")]
    alone = record("a", "t3", evaluator="captioning")
    ranks = [record(m, "t4", {"t2i_median_rank": estimate(3.0)}, evaluator="captioning") for m in "ab"]
    (mean,) = averages(compare_models([*both, alone]))
    assert mean.tasks == ("t1", "t2")
    assert averages(compare_models([*both, *ranks])) == ()


def test_ranked_sorts_from_the_largest_lead_to_the_largest_lag() -> None:
    pairs = {"t1": (0.5, 0.6), "t2": (0.9, 0.1), "t3": (0.5, 0.5)}
    records = [record(m, t, v[i]) for t, v in pairs.items() for i, m in enumerate("ab")]
    found = [record(m, "t0", 0.5, evaluator="retrieval") for m in "ab"]
    assert [row.task for row in ranked(compare_models([*records, *found])).rows] == ["t2", "t3", "t1", "t0"]


def test_legend_explains_tests_and_kinds(tmp_path: Path) -> None:
    classified(tmp_path, "a", right(50, 100))
    classified(tmp_path, "b", right(50, 100), samples=False)
    message = " ".join(legend(compare_models(read(tmp_path))))
    assert "Better: p < 0.05, two-sided." in message, "one difference needs no correction"
    assert "80 of 100" in message
    assert "Unpaired intervals are wider than paired ones (no samples of b on pets)" in message
    assert "fixed gallery" not in message
    (gallery,) = find("retrieval").shown.legend
    assert gallery in legend(compare_models([record(evaluator="retrieval")]))


def test_compare_gives_paired_differences_on_the_metrics_own_scale(tmp_path: Path) -> None:
    classified(tmp_path / "old", "m", right(60, 100))
    classified(tmp_path / "new", "m", right(90, 100))
    (row,) = cocabench.compare(tmp_path / "new", str(tmp_path / "old")).to_dict("records")
    assert (row["task"], row["metric"], row["value_a"], row["value_b"]) == ("pets", "acc1", 0.9, 0.6)
    assert (row["n"], row["changed"], row["paired"], row["better"]) == (100, 30, True, "a")
    assert row["difference"] == pytest.approx(0.3)
    assert row["low"] < 0.3 < row["high"] < 1
    assert row["p_value"] == row["p_adjusted"] < 1e-6
    assert 0 < row["detectable"] < 0.3


def test_compare_reads_samples_in_memory() -> None:
    frames = [outcomes(right(n, 100)) for n in (60, 90)]
    records = [
        record(model, metrics={"acc1": measured(ACC1, frame)}, evaluator="classification")
        for model, frame in zip("ab", frames, strict=True)
    ]
    a, b = (Results((one,), (None,), (frame,)) for one, frame in zip(records, frames, strict=True))
    (row,) = cocabench.compare(a, b).to_dict("records")
    assert (row["paired"], row["changed"], row["better"]) == (True, 30, "b")


def test_compare_says_why_there_is_no_difference(tmp_path: Path) -> None:
    classified(tmp_path / "a", "a", right(60, 100), "t1")
    classified(tmp_path / "a", "a", right(60, 100), "t2")
    classified(tmp_path / "b", "b", right(60, 100), "t1", protocol={"data": {"images": 5}})
    rows = {row["task"]: row for row in cocabench.compare(tmp_path / "a", tmp_path / "b").to_dict("records")}
    assert "data.images: 100 against 5" in rows["t1"]["notes"]
    assert rows["t2"]["notes"] == "b: no result"
    for row in rows.values():
        assert math.isnan(row["difference"])
        assert (row["paired"], row["better"]) == (False, "")


def test_compare_takes_one_model_a_side(tmp_path: Path) -> None:
    for model, n in (("a", 60), ("b", 90)):
        classified(tmp_path, model, right(n, 100))
    results = cocabench.load(tmp_path)
    with pytest.raises(UsageError, match=r"compare: a: 2 models \(a, b\); wanted one model"):
        cocabench.compare(results, results)
    found = cocabench.compare(results.model("a"), results.model("b"))
    assert found["changed"].tolist() == [30]
    with pytest.raises(UnknownNameError, match="unknown 'c'; known: a, b"):
        results.model("c")


def test_compare_docstring_example_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    (example,) = doctest.DocTestFinder().find(cocabench.compare, globs={})
    assert doctest.DocTestRunner().run(example) == doctest.TestResults(0, 4)


def test_published_models_show_the_tasks_that_were_measured() -> None:
    known = read("published:ViT-B-32:laion2b_s34b_b79k")
    found = of_measured(compare_models([record("a", "cars"), record("a", "mine"), *known]))
    assert [row.task for row in found.rows] == ["cars", "mine"]
    (left_out,) = found.left_out
    assert re.fullmatch(r"\d\d published tasks that no model here was measured on", left_out)
    assert {row.task for row in of_measured(compare_models(known)).rows} == {r.task for r in known}, "alone, all"
