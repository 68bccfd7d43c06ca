"""Probabilities over all classes: by hand, against scikit-learn, and a model that is too sure."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import average_precision_score, brier_score_loss, log_loss, roc_auc_score

from cocabench.core.errors import WithheldError
from cocabench.core.types import Context, Note, SampleScore
from cocabench.kinds.calibration import METRICS, OOD_METRICS, half, kept, stated_scale, with_others
from cocabench.kinds.classification import Classification
from cocabench.metrics.base import estimate, stack
from cocabench.metrics.calibration import (
    BINS,
    OWN,
    TEMPERATURES,
    at_own,
    aupr,
    bins,
    brier,
    calibration_error,
    fitted,
    fitted_temperature,
    negative_log_likelihoods,
    own_confidence,
    placements,
    probabilities,
)
from cocabench.metrics.classification import ranked_in_chunks
from cocabench.metrics.statistics import compare

BY_NAME = {metric.name: metric for metric in METRICS}


class Scaled:
    """A model that says its logit scale."""

    def __init__(self, scale: float) -> None:
        self.scale = scale

    def logit_scale(self) -> float:
        return self.scale


def samples_of(cosines: np.ndarray, labels: np.ndarray, scale: float = 100.0, chunk: int = 50) -> pd.DataFrame:
    """Return the samples that a classification would keep of cosines (n, c)."""
    chunks = (cosines[start : start + chunk] for start in range(0, len(cosines), chunk))
    also = partial(kept, stated_scale(Scaled(scale), Context()))
    rows = ranked_in_chunks(chunks, labels, np.arange(cosines.shape[1]), also)
    ids = [f"{i:05}" for i in range(len(labels))]
    return stack(SampleScore(name, name, {**row, "half": half(name)}) for name, row in zip(ids, rows, strict=True))


def drawn(n: int = 400, c: int = 12, scale: float = 100.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return cosines (n, c), and labels (n,) drawn by softmax(scale · cosines): a model that is calibrated."""
    rng = np.random.default_rng(seed)
    cosines = (0.2 + 0.02 * rng.standard_normal((n, c))).astype(np.float32)
    chances = softmax(scale * cosines.astype(np.float64))
    return cosines, np.array([rng.choice(c, p=row) for row in chances])


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def test_three_images_by_hand() -> None:
    """At scale ln 2 · 10, a cosine that is 0.1 higher doubles the odds: (4, 2, 2)/8, (1, 1, 2)/4 and (1, 1, 1)/3."""
    cosines = np.array([[0.2, 0.1, 0.1], [0.1, 0.1, 0.2], [0.3, 0.3, 0.3]], np.float32)
    samples = samples_of(cosines, np.array([0, 0, 1]), scale=10 * np.log(2))
    found = probabilities(samples, at_own(samples))
    assert found.top == pytest.approx([1 / 2, 1 / 2, 1 / 3], rel=1e-6)
    assert found.label == pytest.approx([1 / 2, 1 / 4, 1 / 3], rel=1e-6)
    assert found.squares == pytest.approx([(4 + 1 + 1) / 16, (1 + 1 + 4) / 16, 1 / 3], rel=1e-6)
    assert brier(samples, at_own(samples)) == pytest.approx([0.25 + 2 / 16, 9 / 16 + 1 / 16 + 4 / 16, 4 / 9 + 2 / 9])
    # Both of 1/2 are in one bin, one of them right; that of 1/3 is in another, and its tie counts as wrong.
    assert calibration_error(samples, at_own(samples)) == pytest.approx((0 + 1 / 3) / 3, rel=1e-6)


def test_half_the_temperature_squares_the_odds() -> None:
    samples = samples_of(np.array([[0.2, 0.1, 0.1]], np.float32), np.array([0]), scale=10 * np.log(2))
    twice, quarter = (np.array([int(np.flatnonzero(t == TEMPERATURES)[0])]) for t in (2.0, 0.5))
    assert probabilities(samples, twice).top == pytest.approx(np.sqrt(2) / (np.sqrt(2) + 2), rel=1e-6)
    assert probabilities(samples, quarter).top == pytest.approx(4 / 6, rel=1e-6)
    assert probabilities(samples, quarter).squares == pytest.approx((16 + 1 + 1) / 36, rel=1e-6)


def test_all_temperatures_against_all_probabilities_and_scikit_learn() -> None:
    cosines, labels = drawn()
    samples, truth = samples_of(cosines, labels), np.eye(12)[labels]
    losses = negative_log_likelihoods(samples)
    for place, temperature in enumerate(TEMPERATURES):
        chances = softmax(100 * cosines.astype(np.float64) / temperature)
        found = probabilities(samples, np.full(len(samples), place))
        assert found.top == pytest.approx(chances.max(axis=1), rel=1e-5)
        assert found.squares == pytest.approx((chances**2).sum(axis=1), rel=1e-5)
        by_class = sum(brier_score_loss(truth[:, k], chances[:, k]) for k in range(12))
        assert brier(samples, np.full(len(samples), place)).mean() == pytest.approx(by_class, rel=1e-5)
        assert losses[:, place].mean() == pytest.approx(log_loss(labels, chances, labels=range(12)), rel=1e-5)


def test_calibration_error_against_scikit_learn_s_curve() -> None:
    cosines, labels = drawn(seed=1)
    samples = samples_of(cosines, labels)
    confidence = probabilities(samples, at_own(samples)).top
    right = cosines.argmax(axis=1) == labels
    shares, means = calibration_curve(right, confidence, n_bins=BINS)
    counts = np.bincount(bins(confidence), minlength=BINS)
    by_curve = (np.abs(shares - means) * counts[counts > 0]).sum() / len(right)
    assert calibration_error(samples, at_own(samples)) == pytest.approx(by_curve, rel=1e-9)


def test_an_edge_belongs_to_the_bin_below() -> None:
    assert bins(np.array([0.0, 1 / 15, 1 / 15 + 1e-9, 14 / 15, 1.0, 1 + 1e-12])).tolist() == [0, 0, 1, 13, 14, 14]


def test_a_model_that_is_too_sure_is_found_and_mended() -> None:
    """Labels are drawn at scale 50, the model says 100: the temperature that fits is 2."""
    cosines, labels = drawn(n=1500, scale=50.0)
    samples = samples_of(cosines, labels, scale=100.0)
    assert fitted_temperature(samples) == pytest.approx(2, rel=0.2)
    own, mended = (BY_NAME[name].statistic.value(samples) for name in ("ece", "ece_fitted"))
    assert own > 0.1 > 3 * mended
    assert estimate(BY_NAME["brier"], samples).value > estimate(BY_NAME["brier_fitted"], samples).value  # type: ignore[operator]
    honest = samples_of(cosines, labels, scale=50.0)
    assert fitted_temperature(honest) == pytest.approx(1, rel=0.2)


def test_no_image_is_at_a_temperature_that_was_fitted_on_it() -> None:
    cosines, labels = drawn(n=200)
    samples = samples_of(cosines, labels)
    places = fitted(samples)
    first = samples["half"].to_numpy() == 0
    losses = negative_log_likelihoods(samples)
    assert set(places[first]) == {losses[~first].mean(axis=0).argmin()}
    assert set(places[~first]) == {losses[first].mean(axis=0).argmin()}


def test_one_half_alone_says_nothing() -> None:
    cosines, labels = drawn(n=40)
    samples = samples_of(cosines, labels).assign(half=1)
    assert estimate(BY_NAME["brier_fitted"], samples).value is None
    assert estimate(BY_NAME["ece_fitted"], samples).value is None
    assert estimate(BY_NAME["brier"], samples).value is not None


def test_nothing_depends_on_chunks_or_the_order_of_images() -> None:
    cosines, labels = drawn(n=100)
    one, other = (samples_of(cosines, labels, chunk=size) for size in (100, 7))
    assert all(np.array_equal(a, b) for a, b in zip(one["top_logprobs"], other["top_logprobs"], strict=True))
    mixed = one.sample(frac=1, random_state=0)
    for metric in METRICS:
        assert metric.statistic.value(mixed) == pytest.approx(metric.statistic.value(one), rel=1e-12)


def test_brier_is_tested_and_calibration_error_is_not() -> None:
    cosines, labels = drawn(n=300, scale=50.0)
    sure, honest = (samples_of(cosines, labels, scale=scale) for scale in (200.0, 50.0))
    assert compare(BY_NAME["brier"], sure, honest).p_value < 0.001
    with pytest.raises(WithheldError, match="the fewer images are in a bin"):
        compare(BY_NAME["ece"], sure, honest)
    assert estimate(BY_NAME["ece"], sure).low is None


def test_the_logit_scale_is_stated() -> None:
    notes: list[Note] = []
    stated_scale(Scaled(50.0), Context(note=notes.append))
    stated_scale(object(), Context(note=notes.append))
    own, guessed = (note.text for note in notes)
    assert own == "probabilities: softmax over classes at the logit scale 50 (temperature 0.02)"
    assert guessed == "probabilities: softmax over classes at the logit scale 100 (temperature 0.01)"


def test_columns_are_declared_and_measured_only_on_request() -> None:
    names = {metric.name for metric in METRICS}
    assert not names & {metric.name for metric in Classification().metrics()}
    assert names <= {metric.name for metric in Classification(calibration=True).metrics()}
    assert TEMPERATURES[OWN] == 1
    for wrong in ({"multilabel": True}, {"scoring": "likelihood"}):
        with pytest.raises(ValueError, match="calibration needs images of one class each, and cosines"):
            Classification(calibration=True, **wrong)


def test_placements_by_hand() -> None:
    """0.5 is above 0.1 and 0.2, as high as the one of 0.5, and below 0.9."""
    share, above = placements(np.array([0.5, 1.0]), np.array([0.9, 0.1, 0.5, 0.2]))
    assert share.tolist() == [2.5 / 4, 1]
    assert above.tolist() == [2, 0]


def told_apart(n: int = 150) -> tuple[pd.DataFrame, np.ndarray]:
    """Return samples of images beside the confidence of others."""
    cosines, labels = drawn(n=n)
    others = (0.2 + 0.015 * np.random.default_rng(2).standard_normal((n // 2, 12))).astype(np.float32)
    rows = with_others(samples_of(cosines, labels).to_dict("records"), [others[:40], others[40:]], 100.0)
    return pd.DataFrame(rows), softmax(100 * others.astype(np.float64)).max(axis=1)


def test_out_of_distribution_against_scikit_learn() -> None:
    samples, others = told_apart()
    scores = np.concatenate([own_confidence(samples), others])
    truth = np.arange(len(scores)) < len(samples)
    by_name = {metric.name: metric.statistic.value(metric.rows(samples)) for metric in OOD_METRICS}
    assert by_name["ood_auroc"] == pytest.approx(roc_auc_score(truth, scores), abs=1e-4)
    assert by_name["ood_aupr"] == pytest.approx(average_precision_score(truth, scores), abs=1e-4)


def test_influence_of_aupr_is_that_of_leaving_an_image_out() -> None:
    """But for its mean: with an image less there are fewer positives for as many negatives."""
    samples, _ = told_apart()
    value, influence = aupr(samples)
    assert influence.sum() == pytest.approx(0, abs=1e-12)
    moved = value - np.array([aupr(samples.drop(index=i))[0] for i in range(len(samples))])
    assert influence == pytest.approx(moved - moved.mean(), abs=3e-4)
    assert np.abs(influence).max() > 1e-3


def test_ood_needs_calibration() -> None:
    with pytest.raises(ValueError, match="ood needs calibration = true"):
        Classification(ood="other")
    names = {metric.name for metric in OOD_METRICS}
    assert names <= {metric.name for metric in Classification(calibration=True, ood="other").metrics()}
    assert not names & {metric.name for metric in Classification(calibration=True).metrics()}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["brier", "brier_fitted"])
def test_intervals_cover_what_more_images_would_give(name: str) -> None:
    """That of brier_fitted holds the temperatures fixed; over 150 draws of 60 images both covered 0.94 to 0.95."""
    draws = [drawn(n=60, scale=60.0, seed=1000 + k) for k in range(150)]
    found = [estimate(BY_NAME[name], samples_of(*one)) for one in draws]
    truth = np.mean([one.value for one in found])
    assert np.mean([one.low <= truth <= one.high for one in found]) > 0.92  # type: ignore[operator]
