"""Wins, ties, losses and means over groups, by hand."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cocabench.kinds import find
from cocabench.results.compare import Finding, averages, compare, legend, ranked, read, tallies
from cocabench.results.store import Store, samples_path
from tests.report.records import estimate, record
from tests.samples import classified, right


def test_wins_ties_losses_and_what_was_not_tested(tmp_path: Path) -> None:
    for task, a, b in (("t1", 90, 60), ("t2", 50, 50), ("t3", 60, 90)):
        classified(tmp_path, "a", right(a, 100), task)
        classified(tmp_path, "b", right(b, 100), task)
    classified(tmp_path, "a", right(1, 2), "t4")
    (tally,) = tallies(compare(read(tmp_path)))
    assert (tally.wins, tally.ties, tally.losses, tally.untested) == (1, 1, 1, 1)


def test_the_mean_of_a_group_and_its_error_by_hand(tmp_path: Path) -> None:
    for task, a, b in (("t1", 60, 50), ("t2", 80, 50)):
        classified(tmp_path, "a", right(a, 100), task, groups=("g",))
        classified(tmp_path, "b", right(b, 100), task, groups=("g",))
    comparison = compare(read(tmp_path))
    (mean,) = averages(comparison)  # "classification" and "g" are the same tasks
    assert (mean.tasks, mean.values) == (("t1", "t2"), pytest.approx((70, 50)))
    gap = mean.differences[1]
    assert gap is not None
    assert gap.value == pytest.approx(20)
    assert gap.test is not None
    joint = np.repeat([1.0, 0.5, 0.0], [10, 20, 70])  # both tasks are on the same 100 images: 10 are better in both
    assert gap.test.error == pytest.approx(math.sqrt(100 * joint.var(ddof=1) + 2) / 100)
    assert gap.finding is Finding.FIRST


def test_tasks_that_read_the_same_pictures_under_other_ids_give_no_p_value(tmp_path: Path) -> None:
    for model, hits in (("a", 60), ("b", 50)):
        classified(tmp_path, model, right(hits, 100), "t1", groups=("g",), pictures="p")
        record = classified(tmp_path, model, right(hits, 100), "t2", groups=("g",), pictures="p")
        path = samples_path(Store(tmp_path).path(record.model, record.task, record.signature))
        frame = pd.read_parquet(path)
        frame.assign(id="x" + frame["id"], image_id="x" + frame["image_id"]).to_parquet(path, index=False)
        Store(tmp_path).put_record(record.model_copy(update={"samples_digest": ""}))
    (mean,) = averages(compare(read(tmp_path)))
    gap = mean.differences[1]
    assert gap is not None
    assert (gap.value, gap.p_value, gap.low) == (pytest.approx(10), None, None)
    assert gap.unpaired == "t2 and t1 have the same images under other ids"


def test_a_task_without_samples_gives_no_p_value_of_a_mean(tmp_path: Path) -> None:
    for model, hits in (("a", 60), ("b", 50)):
        classified(tmp_path, model, right(hits, 100), "t1", groups=("g",))
        classified(tmp_path, model, right(hits, 100), "t2", groups=("g",), samples=False)
    (mean,) = averages(compare(read(tmp_path)))
    gap = mean.differences[1]
    assert gap is not None
    assert (gap.value, gap.p_value, gap.unpaired) == (pytest.approx(10), None, "no samples of a on t2")


def test_means_take_tasks_that_all_have_and_one_unit_only() -> None:
    both = [record(m, t, evaluator="captioning") for m in "ab" for t in ("t1", "t2")]
    alone = record("a", "t3", evaluator="captioning")
    ranks = [record(m, "t4", {"t2i_median_rank": estimate(3.0)}, evaluator="captioning") for m in "ab"]
    (mean,) = averages(compare([*both, alone]))
    assert mean.tasks == ("t1", "t2")
    assert averages(compare([*both, *ranks])) == ()


def test_sorted_from_the_largest_lead_to_the_largest_lag_within_a_kind() -> None:
    pairs = {"t1": (0.5, 0.6), "t2": (0.9, 0.1), "t3": (0.5, 0.5)}
    records = [record(m, t, v[i]) for t, v in pairs.items() for i, m in enumerate("ab")]
    found = [record(m, "t0", 0.5, evaluator="retrieval") for m in "ab"]
    assert [row.task for row in ranked(compare([*records, *found])).rows] == ["t2", "t3", "t1", "t0"]


def test_below_the_table_stands_what_its_numbers_mean(tmp_path: Path) -> None:
    classified(tmp_path, "a", right(50, 100))
    classified(tmp_path, "b", right(50, 100), samples=False)
    said = " ".join(legend(compare(read(tmp_path))))
    assert "corrected for 1 primary differences together (Holm)" in said
    assert "80 of 100" in said
    assert "unpaired: wider than on the same samples (no samples of b on pets)" in said
    assert "fixed gallery" not in said
    (gallery,) = find("retrieval").shown.legend
    assert gallery in legend(compare([record(evaluator="retrieval")]))
