"""Precision among the first R: by hand, with ties, against the functions of eccv-caption."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from cocabench.metrics.positives import precisions, search
from cocabench.metrics.ranking import hits_at


@pytest.mark.parametrize(
    ("scores", "positive", "average", "r_precision"),
    [
        ([9, 8, 7, 1], [1, 0, 1, 0], 1 / 2, 1 / 2),  # R = 2: precisions 1 and, where there is no positive, 0
        ([9, 8, 7, 1], [0, 1, 1, 0], 1 / 4, 1 / 2),  # only at r = 2, where 1 of 2 is right
        ([9, 8, 7, 1], [1, 1, 1, 0], 1.0, 1.0),
        ([9, 8, 7, 1], [0, 0, 0, 1], 0.0, 0.0),
        ([9, 8, 7, 1], [1, 0, 1, 1], (1 + 0 + 2 / 3) / 3, 2 / 3),
        ([5, 5, 5, 5], [1, 1, 0, 0], 0.0, 0.0),  # a constant model: negatives stand first
        ([5, 5, 5, 1], [1, 1, 0, 0], (0 + 1 / 2) / 2, 1 / 2),
        ([3, 1, 2, 0], [1, 1, 1, 1], 1.0, 1.0),  # every candidate is a positive
    ],
)
def test_precisions_by_hand(scores: list[int], positive: list[int], average: float, r_precision: float) -> None:
    found = precisions(np.array([scores], np.float64), np.array([positive], bool))
    assert (found.average[0], found.r_precision[0]) == pytest.approx((average, r_precision))


def test_it_is_eccv_captions() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns that ujson and tqdm are not there
        theirs = pytest.importorskip("eccv_caption._metrics")
    rng, n = np.random.default_rng(3), 60
    positives = {q: sorted(rng.choice(n, rng.integers(1, 12), replace=False).tolist()) for q in range(40)}
    images, texts = (rng.normal(size=(rows, 8)).astype(np.float32) for rows in (40, n))
    texts[[positives[q][0] for q in range(40)]] += 1.2 * images
    images, texts = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (images, texts))
    found = search(images, texts, [np.array(own) for own in positives.values()])
    ranked = {q: np.argsort(-(texts @ images[q]), kind="stable").tolist() for q in range(40)}
    wanted = theirs.compute_eccv_metrics(ranked, positives)
    assert found.precisions.average.mean() == pytest.approx(wanted["eccv_map_at_r"])
    assert found.precisions.r_precision.mean() == pytest.approx(wanted["eccv_rprecision"])
    for k in (1, 5):
        assert hits_at(found.ranks, k).mean() == pytest.approx(theirs.compute_r_at_k(ranked, positives, k))
    assert 0.02 < found.precisions.average.mean() < 0.9


def test_a_collapsed_model_finds_nothing_and_equal_texts_share_hits() -> None:
    image, texts = np.ones((3, 4), np.float32) / 2, np.ones((5, 4), np.float32) / 2
    found = search(image, texts, [np.array([0, 1])] * 3)
    assert found.precisions.average.sum() == found.precisions.r_precision.sum() == hits_at(found.ranks, 1).sum() == 0
    same = search(image, texts[:2], [np.array([0])] * 3, items=np.array([7, 7]))
    assert hits_at(same.ranks, 1).tolist() == [0.5] * 3
