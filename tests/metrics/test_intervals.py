"""Intervals: against scipy and closed forms, and that they cover what they claim to."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from cocabench.captioneval import overlap
from cocabench.captioneval.declared import declared
from cocabench.core.types import SampleScore
from cocabench.kinds.retrieval import recall
from cocabench.metrics import intervals
from cocabench.metrics.base import estimate, image_sums, stack
from tests.metrics.frames import EVERY


def test_proportion_returns_wilsons_interval_also_at_zero() -> None:
    assert intervals.proportion(np.zeros(20)) == pytest.approx((0, 0.161125), abs=1e-6)
    low, high = intervals.proportion(np.repeat([1.0, 0.0], [30, 70]))
    assert (low, high) == pytest.approx((0.218948, 0.395849), abs=1e-6)


def test_the_interval_of_an_even_mean_is_students() -> None:
    values = np.random.default_rng(0).normal(5, 2, 400)
    found = intervals.of_mean(float(values.mean()), (values - values.mean()) / 400)
    assert found == pytest.approx(stats.t.interval(0.95, 399, values.mean(), stats.sem(values)), rel=1e-3)


def test_the_interval_of_a_skewed_mean_reaches_farther_up() -> None:
    values = np.random.default_rng(0).exponential(1, 50)
    low, high = intervals.of_mean(float(values.mean()), (values - values.mean()) / 50)
    student = stats.t.interval(0.95, 49, values.mean(), stats.sem(values))
    assert low == pytest.approx(student[0])
    assert high > student[1] + 0.05


def test_halls_transform_and_the_ends_of_the_interval_are_inverse() -> None:
    influence = np.random.default_rng(1).exponential(1, 60) - 1
    influence = (influence - influence.mean()) / 60
    _, high = intervals.of_mean(0.0, influence)
    a, error = intervals.skew(influence), np.sqrt(intervals.variance(influence))
    assert intervals.unskewed(-high / error, a) == pytest.approx(stats.t.ppf(0.025, 59))


@pytest.mark.parametrize("events", [1, 4, 30])
def test_a_count_gets_its_exact_limits(events: int) -> None:
    """One event each on some of many images: Garwood's limits, as scipy's chi-square gives them."""
    hits = np.zeros(10**6)
    hits[:events] = 1
    found = intervals.of_counts(hits.mean(), (hits - hits.mean()) / hits.size)
    expected = stats.chi2.ppf(0.025, 2 * events) / 2, stats.chi2.ppf(0.975, 2 * events + 2) / 2
    assert (found.low * hits.size, found.high * hits.size) == pytest.approx(expected, rel=1e-4)


def test_bleu_without_a_match_may_have_missed_some() -> None:
    """Of 1,000 4-grams none matches: up to 3.69 (a 97.5 % limit) may have been missed."""
    counts = np.array([[5.0, 2, 1, 0, 10, 9, 8, 7, 10, 10]] * 100)
    rows = pd.DataFrame({"image_id": range(100), **dict(zip(overlap.BLEU_COLUMNS, counts.T, strict=True))})
    low, high = declared(["BLEU@4"])[0].statistic.interval(rows, np.random.default_rng(0))
    assert low == 0
    assert high == pytest.approx((0.5 * 2 / 9 / 8 * 3.6889 / 700) ** 0.25, rel=1e-4)


def test_intervals_of_class_means_match_the_closed_form() -> None:
    hits, labels = np.tile([1.0, 0.0, 1.0, 1.0], 25), np.repeat([0, 1, 2, 3], 25)
    low, high = intervals.of_class_means(hits, labels)
    variance = sum(hits[labels == c].var(ddof=1) / 25 for c in range(4)) / 16
    assert high - low == pytest.approx(2 * stats.norm.ppf(0.975) * variance**0.5, rel=0.02)


def test_an_interval_of_class_means_is_about_that_mean_also_where_a_class_has_one_image() -> None:
    hits, labels = np.array([1.0] * 99 + [0.0]), np.array([0] * 99 + [1])
    low, high = intervals.of_class_means(hits, labels)
    assert low < 0.5 < high


def test_one_image_of_the_smallest_class_is_added_where_classes_differ_in_size() -> None:
    hits, labels = np.array([1.0] * 50 + [0.0] * 50 + [1.0] * 4), np.repeat([0, 1], [100, 4])
    low, high = intervals.of_class_means(hits, labels)
    variance = (0.25 / 99) / 4 + (1 / 8) ** 2 - (1 / 104) ** 2
    size = 0.75 * 0.25 / variance
    assert (low, high) == pytest.approx(intervals.of_proportion_like(0.75, 0.75 * 0.25 / size, 104))


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


@pytest.mark.parametrize("columns", [2, 10])
def test_one_image_has_no_interval(columns: int) -> None:
    assert np.isnan(intervals.of_mean(1.0, np.zeros(1))).all()
    assert np.isnan(intervals.of_hits(1.0, np.zeros(1), columns)).all()
    assert np.isnan(intervals.of_counts(1.0, np.zeros(1), root=columns)).all()


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
    assert (five.low, five.high) == pytest.approx(
        (one.low, one.high), abs=2e-3
    )  # Student's quantile of 100, not Wilson's
    assert five.low < one.low < one.high < five.high


@pytest.mark.parametrize("name", [name for name in EVERY if name not in ("acc5_worst_group", "brier_fitted")])
def test_influence_values_are_what_an_image_moves(name: str) -> None:
    """They sum to 0, and leaving an image out moves the number by about its value the other way (the jackknife).

    Left out here: equal groups tie, and a fitted temperature may jump to the next of its grid.
    """
    metric, samples, _ = EVERY[name]
    rows = metric.rows(samples)
    influence = metric.statistic.influence(rows)
    if influence is None:
        return
    images = rows["image_id"].unique()
    assert len(influence) == len(images)
    assert influence.sum() == pytest.approx(0, abs=1e-12)
    value = metric.statistic.value(rows)
    left_out = np.array([metric.statistic.value(rows[rows["image_id"] != image]) - value for image in images])
    assert np.corrcoef(influence, -left_out)[0, 1] > 0.98


def test_sums_are_per_image() -> None:
    frame = stack([SampleScore("a#0", "a"), SampleScore("b#0", "b"), SampleScore("a#1", "a")])
    assert image_sums(frame, np.array([[1.0], [2.0], [3.0]])).tolist() == [[4.0], [2.0]]


@pytest.mark.parametrize("captions", [1, 2, 3])
def test_a_median_over_redrawn_images_is_numpys_of_their_rows(captions: int) -> None:
    rng = np.random.default_rng(captions)
    images = [f"image {k % 7}" for k in range(7 * captions)]
    rows, values = pd.DataFrame({"image_id": images}), rng.integers(1, 9, len(images)) + rng.choice([0.0, 0.5])

    def value(numbers: np.ndarray) -> float:
        return float(np.median(values[numbers]))

    found = intervals.median_draws(values, intervals.redrawn(rows, np.random.default_rng(5)))
    wanted = intervals.image_draws(rows, value, np.random.default_rng(5))
    assert wanted is not None
    assert found.tolist() == wanted.tolist()
    assert len(set(found.tolist())) > 2
