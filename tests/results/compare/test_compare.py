"""compare: which Records are taken, what is subtracted, what is marked."""

from __future__ import annotations

import csv
import io

import pytest

from cocabench.core.errors import UnknownNameError
from cocabench.core.types import Note
from cocabench.report.tables import to_csv, to_markdown
from cocabench.results.compare import Difference, choose, compare, difference, incomparable
from tests.report.records import INFO, estimate, record


def interval(gap: Difference | None) -> tuple[float, float | None, float | None]:
    assert gap is not None
    return gap.value, gap.low, gap.high


def test_full_before_limited_before_newest() -> None:
    full_old = record(created="2025-01-01")
    full_new = record(created="2025-02-01", metrics=0.6)
    limited = record(created="2025-03-01", protocol={"limit": 10})
    chosen, left_out = choose([full_old, limited, full_new])
    assert chosen == (full_new,)
    assert [phrase.partition("(")[2].split(" than")[0] for phrase in left_out] == ["not newer", "fewer samples"]


def test_the_standard_protocol_wins_over_a_newer_one_that_is_not() -> None:
    standard, other = record(created="2025-01-01"), record(created="2025-02-01", protocol={"standard": False})
    assert choose([other, standard]).records == (standard,)


def test_difference_is_first_minus_second_in_points_with_newcombes_interval() -> None:
    """Newcombe 1998, table II, row (a), method 10: 56/70 against 48/80 is 0.2 with 0.0524 to 0.3339."""
    first = estimate(0.8).model_copy(update={"low": 0.69187, "high": 0.87696})
    second = estimate(0.6).model_copy(update={"low": 0.49049, "high": 0.70039})
    assert interval(difference(first, second, INFO["acc1"])) == pytest.approx((20.0, 5.24, 33.39), abs=0.01)
    swapped = difference(second, first, INFO["acc1"])
    assert interval(swapped) == pytest.approx((-20.0, -33.39, -5.24), abs=0.01)


def test_a_difference_without_intervals_has_none_and_an_undefined_one_is_none() -> None:
    assert interval(difference(estimate(0.5), estimate(0.4, 0.1), INFO["acc1"])) == pytest.approx((10.0, None, None))
    assert difference(estimate(None), estimate(0.4), INFO["acc1"]) is None


def test_ranks_are_not_multiplied() -> None:
    gap = difference(estimate(3.0), estimate(5.0), INFO["t2i_median_rank"])
    assert gap is not None
    assert gap.value == -2.0


def test_other_protocols_are_marked_with_the_reason_instead_of_a_difference() -> None:
    other = record("b", protocol={"data": {"images": 8000}})
    (row,) = compare([record("a"), other]).rows
    assert row.difference is None
    assert row.difference_text == "incomparable (data.images: 1000 against 8000)"
    assert not any(cell.best for cell in row.cells)


def test_published_numbers_are_compared_with_those_of_the_same_source_only() -> None:
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
def test_best_is_what_the_table_shows_as_best(values: tuple[float, float | None], best: tuple[bool, bool]) -> None:
    (row,) = compare([record("a", metrics=values[0]), record("b", metrics=values[1])]).rows
    assert tuple(cell.best for cell in row.cells) == best


def test_the_lower_rank_is_best() -> None:
    records = [record(m, metrics={"t2i_median_rank": estimate(v)}) for m, v in (("a", 3.0), ("b", 5.0))]
    (row,) = compare(records).rows
    assert [cell.best for cell in row.cells] == [True, False]


def test_all_metrics_and_the_order_of_tasks() -> None:
    retrieval = record(task="flickr30k", evaluator="retrieval")
    both = record(metrics={"acc1": estimate(0.5), "acc5": estimate(0.8)})
    assert [(r.task, r.metric) for r in compare([retrieval, both]).rows] == [
        ("imagenet1k", "acc1"),
        ("flickr30k", "acc1"),
    ]
    assert [r.metric for r in compare([both], all_metrics=True).rows] == ["acc1", "acc5"]


def test_health_is_neither_better_nor_worse() -> None:
    words = INFO["acc1"].model_copy(update={"unit": "words", "kind": "health"})
    a, b = (
        record(m, metrics={"acc1": estimate(v, 0.1)}, definitions={"acc1": words}) for m, v in (("a", 9), ("b", 12))
    )
    (row,) = compare([a, b]).rows
    assert row.difference is not None
    assert (row.difference.value, row.verdict) == (-3.0, "")
    assert not any(cell.best for cell in row.cells)


def test_what_is_missing_is_said() -> None:
    skipped = record("b", metrics={}, primary="CIDEr", skipped_metrics={"CIDEr": "no Java"})
    (row,) = compare([record("a", metrics={"CIDEr": estimate(1.2)}), skipped, record("c", "other")]).rows[:1]
    assert [cell.text for cell in row.cells] == ["120.0 (n=1000)", "skipped", "no result"]
    assert row.cells[1].notes == ("CIDEr skipped: no Java",)


def test_markdown_escapes_and_notes() -> None:
    odd = record(
        "a|<b>*", notes=(Note("random_weights", "random weights"),), skipped_images=("x.jpg",), protocol={"limit": 5}
    )
    text = to_markdown(compare([odd]))
    assert r"a\|&lt;b&gt;\*" in text
    assert "50.0 (n=1000) \\[1\\] \\[2\\] \\[3\\] |" in text
    for note in ("random weights", "limited to 5 samples", "1 image skipped, for example x.jpg"):
        assert note in text
    assert all(line.replace(r"\|", "").count("|") == 4 for line in text.splitlines() if line.startswith("|"))


def test_csv_has_a_line_per_cell_in_points() -> None:
    comparison = compare([record("a", metrics={"acc1": estimate(0.584, 0.01)}), record("b", metrics=0.5)])
    first, second = csv.DictReader(io.StringIO(to_csv(comparison)))
    assert (first["model"], first["value"], first["low"], first["best"]) == ("a", "58.4", "57.4", "1")
    assert (second["value"], second["low"], second["first_minus_this"]) == ("50.0", "", "8.4")


def test_models_are_chosen_by_name() -> None:
    records = [record("a"), record("b"), record("c")]
    assert compare(records, models=["c", "a"]).models == ("c", "a")
    with pytest.raises(UnknownNameError, match="did you mean"):
        compare([record("demo/coca")], models=["demo/cocoa"])
