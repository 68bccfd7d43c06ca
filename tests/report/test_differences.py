"""Every pair of models on every task and mean: statuses, corrections, shared images, and the pairs of many models."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from statsmodels.stats.multitest import multipletests

from cocabench.report.content import gather, short_names, task_labels
from cocabench.report.differences import BEATEN, BEST, UNBEATEN, UNTESTED, differences
from cocabench.report.style import MAX_STYLED
from cocabench.results.store import load
from tests.report.records import estimate, record
from tests.samples import classified, right


def test_a_status_is_best_unbeaten_beaten_or_untested() -> None:
    values = {"a": 0.9, "b": 0.52, "c": 0.5, "d": None}
    (task,) = differences(
        gather([record(m, "t", {"acc1": estimate(v, None if v is None else 0.02)}) for m, v in values.items()])
    ).tasks
    assert {m: task.status(m) for m in "abcd"} == {"a": BEST, "b": BEATEN, "c": BEATEN, "d": UNTESTED}
    (close,) = differences(
        gather([record(m, "t", {"acc1": estimate(v, 0.02)}) for m, v in (("b", 0.52), ("c", 0.5))])
    ).tasks
    assert (close.status("b"), close.status("c")) == (UNBEATEN, UNBEATEN)
    (untested,) = differences(gather([record(m, "t", v) for m, v in (("b", 0.52), ("c", 0.5))])).tasks
    assert untested.status("b") == UNTESTED


@pytest.mark.slow
def test_all_tasks_and_all_pairs_are_corrected_together(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for m, level in (("a", 0.35), ("b", 0.5), ("c", 0.6)):
        for t in range(3):
            classified(tmp_path, m, rng.uniform(size=80) < level, f"t{t}", ids=f"{t}-")
    found = differences(gather(load(tmp_path)))
    gaps = [gap for task in found.tasks for gap in task.gaps.values()]
    assert len(gaps) == 9
    expected = multipletests([gap.p_value for gap in gaps], method="holm")[1]
    assert [gap.adjusted for gap in gaps] == pytest.approx(list(expected))
    means = [gap for mean in found.means for gap in mean.gaps.values()]
    assert [gap.adjusted for gap in means] == pytest.approx(
        list(multipletests([gap.p_value for gap in means], method="holm")[1])
    )


def test_a_difference_turned_round_has_the_opposite_sign_and_finding() -> None:
    (task,) = differences(
        gather([record(m, "t", {"acc1": estimate(v, 0.02)}) for m, v in (("a", 0.9), ("b", 0.5))])
    ).tasks
    there, back = task.gap("a", "b"), task.gap("b", "a")
    assert there is not None
    assert back is not None
    assert (back.value, back.low, back.high) == (-there.value, -there.high, -there.low)  # type: ignore[operator]
    assert task.beats("a", "b")
    assert not task.beats("b", "a")


def test_an_image_that_tasks_share_counts_once_in_a_mean(tmp_path: Path) -> None:
    """Two tasks with the same outcomes on the same images tell no more than one: the interval is as wide."""
    hits = right(60, 100)
    for folder, ids in (("same", ("", "")), ("other", ("x", "y"))):
        for t in (0, 1):
            classified(tmp_path / folder, "a", hits, f"t{t}", ids=ids[t])
    widths = {}
    for folder in ("same", "other"):
        found = differences(gather(load(tmp_path / folder)))
        (mean,), (one, _) = found.means, found.tasks
        width, single = (s.high - s.low for s in (mean.scores["a"], one.scores["a"]) if s.low is not None)  # type: ignore[operator]
        assert mean.scores["a"].value == 60
        widths[folder] = width / single
    assert widths["same"] == pytest.approx(1, abs=0.03)
    assert widths["other"] == pytest.approx(1 / math.sqrt(2), abs=0.03)


def test_without_samples_a_mean_assumes_independent_tasks_and_is_not_tested() -> None:
    records = [record(m, t, {"acc1": estimate(v, 0.03)}) for m, v in (("a", 0.6), ("b", 0.4)) for t in ("t1", "t2")]
    (mean,) = differences(gather(records)).means
    assert mean.scores["a"].high == pytest.approx(60 + 3 / math.sqrt(2))
    gap = mean.gap("a", "b")
    assert gap is not None
    assert (gap.value, gap.p_value) == (pytest.approx(20), None)


def test_a_mean_is_over_the_tasks_that_all_models_have_or_else_half_of_them() -> None:
    def areas(**tasks: str) -> list[str]:
        records = [record(m, t, 0.5) for m, names in tasks.items() for t in names]
        (area,) = gather(records).areas
        return [row.task for row in area.shared]

    assert areas(a="xyz", b="xy") == ["x", "y"], "two of three tasks"
    assert areas(a="xy", b="x") == ["x"], "half of the tasks: the number of x is the score"
    assert areas(a="wxyz", b="wxyz", c="w") == ["w", "x", "y", "z"], "one model with one task does not decide"


def test_of_many_models_each_is_compared_with_the_shown_ones_and_the_best() -> None:
    records = [record(f"m{i:02}", "t", {"acc1": estimate(0.3 + 0.01 * i, 0.02)}) for i in range(20)]
    found = differences(gather(records, baseline=["m05"]))
    (task,) = found.tasks
    assert found.shown == ("m00", "m16", "m17", "m18", "m19", "m05")
    assert len(found.shown) == MAX_STYLED
    assert len(task.gaps) == 15 + 14 * 6
    assert all(gap.adjusted is not None for gap in task.gaps.values()), "corrected for all of them together"
    assert all(task.gap(model, base) for base in task.scores for model in found.shown if model != base)
    assert task.status("m19") == UNBEATEN
    assert task.status("m00") == BEATEN


def test_short_names_drop_what_all_share_and_stay_different() -> None:
    def short(*models: str) -> list[str]:
        return list(short_names(models).values())

    assert short("demo/coca", "demo/clip") == ["coca", "clip"]
    assert short("demo/coca") == ["coca"]
    assert short("ViT-B-32:laion2b", "ViT-B-32:openai") == ["laion2b", "openai"]
    assert short("coca_ViT-L-14:a", "ViT-L-14:b") == ["coca_ViT-L-14", "ViT-L-14"]
    assert short("ViT-B-32:a", "ViT-B-32:b", "ViT-L-14:a") == ["ViT-B-32:a", "ViT-B-32:b", "ViT-L-14:a"]
    run = "ViT-B-32:runs/{}/checkpoints/epoch_{}.pt"
    assert short(run.format("x", 0), run.format("x", 10)) == ["epoch 0", "epoch 10"]
    assert short(run.format("x", 1), run.format("y", 1)) == ["x epoch 1", "y epoch 1"]
    assert short(run.format("x", 1), "demo/coca") == ["epoch 1", "coca"]
    assert short("a [old]", "a [new]") == ["a [old]", "a [new]"]
    long = [f"{'x' * 60}{i}" for i in range(2)]
    assert [len(name) for name in short(*long)] == [32, 32]


def test_labels_of_tasks_drop_the_words_that_all_begin_with() -> None:
    assert list(task_labels(["emoji_flags", "emoji_food_drink"]).values()) == ["flags", "food drink"]
    assert list(task_labels(["imagenet1k", "imagenetv2"]).values()) == ["imagenet1k", "imagenetv2"]
    assert list(task_labels(["a_b"]).values()) == ["a b"]
