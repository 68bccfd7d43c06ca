"""Intervals: against scipy and closed forms, and that they cover what they claim to."""

import time

import numpy as np
import pytest
from scipy import stats

from cocabench.core.types import SampleScore
from cocabench.kinds.retrieval import recall
from cocabench.metrics import intervals
from cocabench.metrics.base import estimate, image_sums, stack


def mean(sums: np.ndarray) -> np.ndarray:
    return np.asarray(sums[..., 0] / sums[..., 1])


def test_proportion_returns_wilsons_interval_also_at_zero() -> None:
    assert intervals.proportion(np.zeros(20)) == pytest.approx((0, 0.161125), abs=1e-6)
    low, high = intervals.proportion(np.repeat([1.0, 0.0], [30, 70]))
    assert (low, high) == pytest.approx((0.218948, 0.395849), abs=1e-6)


def test_the_bootstrap_of_a_mean_agrees_with_the_normal_interval() -> None:
    values = np.random.default_rng(0).normal(5, 2, 400)
    low, high = intervals.of_sums(np.column_stack([values, np.ones(400)]), mean, np.random.default_rng(1))
    half = 1.96 * values.std(ddof=1) / 20
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.04)


def test_intervals_of_class_means_match_the_closed_form() -> None:
    hits, labels = np.tile([1.0, 0.0, 1.0, 1.0], 25), np.repeat([0, 1, 2, 3], 25)
    low, high = intervals.of_class_means(hits, labels)
    variance = sum(hits[labels == c].var(ddof=1) / 25 for c in range(4)) / 16
    assert high - low == pytest.approx(2 * stats.norm.ppf(0.975) * variance**0.5, rel=0.02)


def test_an_interval_of_class_means_is_about_that_mean_also_where_a_class_has_one_image() -> None:
    hits, labels = np.array([1.0] * 99 + [0.0]), np.array([0] * 99 + [1])
    low, high = intervals.of_class_means(hits, labels)
    assert low < 0.5 < high


def test_class_means_of_one_have_an_interval() -> None:
    low, high = intervals.of_class_means(np.ones(40), np.repeat(np.arange(4), 10))
    assert 0.8 < low < 0.95
    assert high == pytest.approx(1.0)


def test_an_effective_sample_size_gives_wilsons_interval() -> None:
    assert intervals.of_proportion_like(0.3, 0.3 * 0.7 / 100, 100) == pytest.approx((0.218948, 0.395849), abs=1e-6)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_wilsons_interval_covers_what_it_claims(share: float) -> None:
    rng = np.random.default_rng(0)
    draws = [intervals.proportion((rng.random(200) < share).astype(float)) for _ in range(2000)]
    assert 0.93 < np.mean([low <= share <= high for low, high in draws]) < 0.97


@pytest.mark.slow
@pytest.mark.parametrize("statistics", [2, 20])
def test_10000_resamples_of_5000_images_in_less_than_a_second(statistics: int) -> None:
    sums, taken = np.random.default_rng(0).random((5000, statistics)), []
    for _ in range(3):
        start = time.process_time()
        intervals.of_sums(sums, mean, np.random.default_rng(1))
        taken.append(time.process_time() - start)
    assert min(taken) < 1


def test_one_image_has_no_interval() -> None:
    assert np.isnan(intervals.of_sums(np.ones((1, 2)), mean, np.random.default_rng(0))).all()


def test_captions_of_one_image_are_drawn_together() -> None:
    """Five copies of each caption must not narrow the interval, as resampling captions would."""
    metric = recall("t2i", 1)
    hits = np.random.default_rng(0).random(100) < 0.5

    def samples(copies: int) -> list[SampleScore]:
        ranks = {"t2i_tied_negatives": 0, "t2i_identical": 0, "t2i_tied_positives": 1}
        return [
            SampleScore(f"{i}#{k}", f"{i}", {"t2i_n_above": int(not hit), **ranks})
            for i, hit in enumerate(hits)
            for k in range(copies)
        ]

    one, five = (estimate(metric, stack(samples(copies))) for copies in (1, 5))
    assert one.n == five.n == 100
    assert (five.low, five.high) == pytest.approx((one.low, one.high), abs=1e-12)


def test_the_same_seed_gives_the_same_interval_and_sums_are_per_image() -> None:
    sums = np.random.default_rng(0).random((50, 2))
    assert intervals.of_sums(sums, mean, np.random.default_rng(3)) == intervals.of_sums(
        sums, mean, np.random.default_rng(3)
    )
    frame = stack([SampleScore("a#0", "a"), SampleScore("b#0", "b"), SampleScore("a#1", "a")])
    assert image_sums(frame, np.array([[1.0], [2.0], [3.0]])).tolist() == [[4.0], [2.0]]
