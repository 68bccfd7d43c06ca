"""Classification metrics against hand-worked values, scikit-learn and clip-benchmark's conventions."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score, balanced_accuracy_score, top_k_accuracy_score

from cocabench.core.errors import NumericsError
from cocabench.core.types import Dataset, SampleScore
from cocabench.kinds.classification import COUNTED_MEAN_AVERAGE_PRECISION, MEAN_AVERAGE_PRECISION, Classification
from cocabench.metrics.base import estimate, stack
from cocabench.metrics.classification import (
    average_precision,
    class_cosines,
    class_weights,
    counted_map_of,
    ranked,
    ranked_in_chunks,
)
from cocabench.metrics.ranking import highest, positive_ranks


def features(seed: int, n: int, d: int = 16) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(n, d))
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def scored(images: np.ndarray, weights: np.ndarray, items: np.ndarray, labels: np.ndarray) -> dict[str, float | None]:
    rows = ranked_in_chunks(class_cosines(images, weights, items), labels, items)
    samples = stack(SampleScore(str(i), str(i), stats) for i, stats in enumerate(rows))
    data = Dataset("d", "test", (), tuple(map(str, items)))
    return {m.name: estimate(m, samples).value for m in Classification().metrics(data)}


def test_every_metric_equals_scikit_learn() -> None:
    labels = np.random.default_rng(1).integers(0, 9, 400)
    images, weights = features(2, 400), features(3, 9)
    logits = images @ weights.T
    found = scored(images, weights, np.arange(9), labels)
    assert found["acc1"] == pytest.approx(top_k_accuracy_score(labels, logits, k=1, labels=np.arange(9)), abs=1e-12)
    assert found["acc5"] == pytest.approx(top_k_accuracy_score(labels, logits, k=5, labels=np.arange(9)), abs=1e-12)
    assert found["mean_per_class_recall"] == pytest.approx(balanced_accuracy_score(labels, logits.argmax(1)), abs=1e-12)


@pytest.mark.parametrize(("n", "d", "classes"), [(5, 32, 5), (5, 512, 10), (37, 64, 3), (100, 512, 37)])
def test_equal_images_have_equal_scores_wherever_they_stand(n: int, d: int, classes: int) -> None:
    images, weights = features(2, n, d), features(3, classes, d)
    images[1:] = images[1]
    (scores,) = class_cosines(images, weights, np.arange(classes))
    assert len(np.unique(scores[1:], axis=0)) == 1
    np.testing.assert_array_equal(scores[0], (images @ weights.T)[0])
    np.testing.assert_allclose(scores, images @ weights.T, atol=1e-6)


def test_a_constant_classifier_scores_zero() -> None:
    found = scored(features(0, 50), np.repeat(features(1, 1), 6, axis=0), np.arange(6), np.arange(50) % 6)
    assert found["acc1"] == found["acc5"] == 0


def test_classes_with_equal_prompts_share_hits() -> None:
    images = features(0, 40)
    found = scored(images, images[:2], np.array([0, 1, 0]), np.repeat(0, 40)[:1].repeat(40))
    alone = scored(images, images[:2], np.array([0, 1]), np.repeat(0, 40))
    assert found["acc1"] == pytest.approx(alone["acc1"] / 2)


@pytest.mark.parametrize("classes", [1, 2, 5, 6, 33, 1025, 2500])
@pytest.mark.parametrize("step", [0.0, 0.1, 1e3])
def test_ranks_and_highest_classes_are_those_of_the_general_functions(classes: int, step: float) -> None:
    """step: of the scores, so that many tie, some, or (0) all."""
    rng = np.random.default_rng(classes)
    scores = np.round(rng.normal(size=(60, classes)) * step).astype(np.float32) / np.float32(max(step, 1))
    labels, items = rng.integers(0, classes, 60), rng.integers(0, classes, classes)
    ranks = positive_ranks(scores, labels[:, None] == np.arange(classes), items)
    top = highest(scores, np.ones_like(scores, bool), 5)
    found = list(ranked(scores, labels, items))
    assert [[row[name] for row in found] for name in ranks._fields] == [column.tolist() for column in ranks]
    assert [row["top5"] for row in found] == top.indices.tolist()
    assert [row["top5"] for row in found] == np.argsort(-scores, axis=1, kind="stable")[:, :5].tolist()
    assert [row["top5_scores"] for row in found] == top.scores.tolist()


def test_a_score_that_is_no_number_is_an_error() -> None:
    with pytest.raises(NumericsError, match="scores: NaN or infinity in row 1"):
        list(ranked(np.array([[0.1, 0.2], [np.nan, 0.2]], np.float32), np.array([0, 0])))


def test_fewer_than_five_classes_leave_acc5_undefined() -> None:
    assert scored(features(0, 10), features(1, 3), np.arange(3), np.zeros(10, int))["acc5"] is None


def test_prompts_are_averaged_and_normalised_again() -> None:
    weights = class_weights(np.array([[1, 0], [0, 1], [1, 0]], np.float32), np.array([0, 0, 1]), 2)
    assert weights == pytest.approx(np.array([[2**-0.5, 2**-0.5], [1, 0]]))


def test_average_precision_by_hand_and_by_scikit_learn() -> None:
    assert average_precision(np.array([0.9, 0.8, 0.7]), np.array([True, False, True])) == pytest.approx((1 + 2 / 3) / 2)
    rng = np.random.default_rng(0)
    scores, truth = rng.normal(size=200), rng.random(200) < 0.2
    assert average_precision(scores, truth) == pytest.approx(average_precision_score(truth, scores), abs=1e-12)


def test_a_class_without_positives_counts_as_zero_as_in_clip_benchmark() -> None:
    rows = [SampleScore(str(i), str(i), {"labels": [0], "class_scores": [0.5 - i, 0.1]}) for i in range(3)]
    assert estimate(MEAN_AVERAGE_PRECISION, stack(rows)).value == 0.5


def counted(scores: Any, labels: list[list[int]], counted_for: list[list[int]]) -> pd.DataFrame:
    columns = {"labels": labels, "class_scores": np.asarray(scores, float).tolist(), "counted_for": counted_for}
    return stack(
        SampleScore(str(i), str(i), dict(zip(columns, row, strict=True)))
        for i, row in enumerate(zip(*columns.values(), strict=True))
    )


def test_average_precision_among_counted_images_by_hand() -> None:
    """Class 0: image 1, wrong and highest, is excluded, so (1/1 + 2/3) / 2. Class 1: 1/2. Class 2: none counts."""
    scores = [[0.8, 0.1, 0.9], [0.9, 0.2, 0.1], [0.7, 0.9, 0.1], [0.6, 0.3, 0.2]]
    labels, asked = [[0, 2], [1], [], [0]], [[0], [1], [0, 1, 2], [0, 2]]
    samples = counted(scores, labels, asked)
    assert estimate(COUNTED_MEAN_AVERAGE_PRECISION, samples).value == pytest.approx(((1 + 2 / 3) / 2 + 1 / 2) / 2)
    plain = average_precision(np.array([0.8, 0.9, 0.7, 0.6]), np.array([True, False, False, True]))
    assert plain == pytest.approx((1 / 2 + 2 / 4) / 2), "image 1 would count"
    assert np.isnan(counted_map_of(counted(scores, [[]] * 4, asked))[0])


def test_average_precision_among_counted_images_is_scikit_learns_and_influence_its_slope() -> None:
    rng = np.random.default_rng(1)
    scores, truth, asked = rng.normal(size=(120, 5)), rng.random((120, 5)) < 0.3, rng.random((120, 5)) < 0.6
    truth[:, 4] &= ~asked[:, 4]  # has positives, and none that counts
    samples = counted(scores, *([np.flatnonzero(row).tolist() for row in some] for some in (truth, asked)))
    value, influence = counted_map_of(samples)
    columns = [(truth[asked[:, k], k], scores[asked[:, k], k]) for k in range(4)]
    assert value == pytest.approx(np.mean([average_precision_score(*column) for column in columns]), abs=1e-12)
    assert influence.sum() == pytest.approx(0, abs=1e-12)
    without = [counted_map_of(samples.drop(index=i))[0] for i in range(120)]
    assert np.corrcoef(influence, value - np.array(without))[0, 1] > 0.98
    assert not influence[~asked[:, :4].any(axis=1)].any()


def test_every_image_counted_for_every_class_gives_the_plain_number() -> None:
    rng = np.random.default_rng(2)
    labels = [[k % 3] for k in range(90)]
    samples = counted(rng.normal(size=(90, 3)), labels, [[0, 1, 2]] * 90)
    plain, found = (estimate(one, samples) for one in (MEAN_AVERAGE_PRECISION, COUNTED_MEAN_AVERAGE_PRECISION))
    assert (found.value, found.low, found.high) == pytest.approx((plain.value, plain.low, plain.high))
    few = counted(rng.normal(size=(90, 3)), labels, [[0, 1, 2]] * 80 + [[]] * 10)
    assert estimate(COUNTED_MEAN_AVERAGE_PRECISION, few).low is None, "27 positives a class count"


def test_ties_of_average_precision_count_against_the_model() -> None:
    for truth in ([True, False, False], [False, False, True]):
        assert average_precision(np.zeros(3), np.array(truth)) == pytest.approx(1 / 3)


@pytest.mark.parametrize(("images", "given"), [(20, False), (29 * 20, False), (30 * 20, True), (1000, True)])
def test_mean_average_precision_has_an_interval_from_30_images_a_class_or_1000_in_all(images: int, given: bool) -> None:
    right = np.arange(images) % (20 if images < 1000 else 500)
    scores = np.eye(right.max() + 1)[right]
    rows = [
        SampleScore(str(i), str(i), {"labels": [label], "class_scores": some})
        for i, (label, some) in enumerate(zip(right, scores, strict=True))
    ]
    found = estimate(MEAN_AVERAGE_PRECISION, stack(rows))
    assert (found.low is not None) is given


def test_the_interval_of_mean_average_precision_holds_its_value() -> None:
    scores = np.tile(np.eye(3), (30, 1))
    rows = [SampleScore(str(i), str(i), {"labels": [i % 3], "class_scores": s.tolist()}) for i, s in enumerate(scores)]
    found = estimate(MEAN_AVERAGE_PRECISION, stack(rows))
    assert found.value == 1.0
    assert found.low is not None
    assert found.high is not None
    assert found.low <= 1.0 <= found.high + 1e-9
