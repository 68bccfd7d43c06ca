"""Probes on features: hand-worked cases, scikit-learn as referee, and features that must not score."""

from collections.abc import Callable

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.neighbors import KNeighborsClassifier

from cocabench.core.errors import CocabenchError
from cocabench.metrics import probes

RNG = np.random.default_rng(0)


def clusters(n: int, d: int, classes: int, *, apart: float = 1.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return rows (n, d) about a random centre for each class, and their labels."""
    rng = np.random.default_rng(seed)
    centres, labels = rng.normal(size=(classes, d)), np.arange(n) % classes
    rows = apart * centres[labels] + np.random.default_rng(seed + 1).normal(size=(n, d)) + 5
    return rows.astype(np.float32), labels


def test_ridge_by_hand() -> None:
    """Of rows ±1 the mean is 0 and the deviation 1: w = 2z / (2z² + l2) for the own class, and no bias is left."""
    rows, labels = np.array([[-1.0], [1.0]], np.float32), np.array([0, 1])
    (scorer,) = probes.ridge(rows, labels, 2, [2.0])
    z = 1 / (1 + 1e-5)
    assert scorer.of(np.array([[1.0], [3.0]])) == pytest.approx(
        np.array([[-1, 1], [-3, 3]]) * z * 2 * z / (2 * z**2 + 2), abs=1e-12
    )


@pytest.mark.parametrize(
    ("n", "d"), [(300, 20), (20, 20), (21, 20), (15, 40)], ids=["wide", "as many", "one more", "tall"]
)
def test_ridge_is_scikit_learns_on_standardised_rows_with_a_constant(n: int, d: int) -> None:
    rows, labels = clusters(n, d, 5)
    new = clusters(50, d, 5, seed=7)[0]
    mean, std = rows.astype(float).mean(axis=0), rows.astype(float).std(axis=0) + 1e-5
    padded, other = (np.pad((some - mean) / std, ((0, 0), (0, 1)), constant_values=100.0) for some in (rows, new))
    for l2, scorer in zip((1.0, 1024.0), probes.ridge(rows, labels, 5, [1.0, 1024.0]), strict=True):
        referee = Ridge(alpha=l2, fit_intercept=False).fit(padded, 2.0 * (labels[:, None] == np.arange(5)) - 1)
        np.testing.assert_allclose(scorer.of(new), referee.predict(other), atol=1e-6)


def test_ridge_in_chunks_is_ridge_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, labels = clusters(300, 20, 5)
    (whole,) = probes.ridge(rows, labels, 5, [1024.0])
    monkeypatch.setattr(probes, "ROWS_PER_CHUNK", 7)
    np.testing.assert_allclose(probes.ridge(rows, labels, 5, [1024.0])[0].of(rows), whole.of(rows), atol=1e-10)


def test_ridge_auto_takes_the_strongest_of_the_penalties_that_are_best_on_each_classs_last_rows() -> None:
    rows, labels = clusters(400, 30, 4, apart=0.5)
    scorer = probes.ridge_auto(rows, labels, 4, 0.2)
    train, val = probes.held_out(labels, 0.2)
    tried = {l2: probes.ridge(rows[train], labels[train], 4, [l2])[0] for l2 in probes.PENALTIES}
    right = {l2: probes.accuracy(one.of(rows[val]), labels[val]) for l2, one in tried.items()}
    assert scorer.chosen == max(l2 for l2, share in right.items() if share == max(right.values()))
    assert min(right.values()) < max(right.values())
    again = probes.ridge(rows, labels, 4, [scorer.chosen or 0.0])[0]
    np.testing.assert_array_equal(scorer.of(rows), again.of(rows))


def test_shots_are_drawn_as_big_vision_draws_them() -> None:
    labels = RNG.integers(0, 4, 60)
    rng = np.random.default_rng(2)
    theirs = [rng.permutation(np.where(labels == k)[0]) for k in range(4)]
    for shots in (1, 5):
        expected = np.concatenate([indices[:shots] for indices in theirs])
        np.testing.assert_array_equal(probes.drawn(labels, shots, 2, 4), expected)


@pytest.mark.parametrize("draw", [lambda *a: probes.drawn(a[0], a[1], 0, a[2]), probes.first_of_each])
def test_too_few_images_for_the_shots_are_an_error(draw: Callable[..., object]) -> None:
    with pytest.raises(CocabenchError, match=r"^2 shots: 0 training images of class 1 \(2 classes have too few\)"):
        draw(np.array([0, 0, 2]), 2, 3)


def test_the_first_of_each_class_keep_their_order() -> None:
    assert list(probes.first_of_each(np.array([2, 0, 0, 1, 2, 1, 0]), 1, 3)) == [0, 1, 3]


def test_held_out_images_are_the_last_of_each_class_but_never_all() -> None:
    train, val = probes.held_out(np.array([0, 1, 0, 1, 0, 0, 0, 2]), 0.4)
    assert (sorted(train), sorted(val)) == ([0, 1, 2, 4, 7], [3, 5, 6])


def test_neighbours_by_hand() -> None:
    """Two neighbours at cosines 1 and 0.6 vote e^0 and e^(-0.4/T); the third, at -1, has no vote."""
    rows = np.array([[1, 0], [0.6, 0.8], [-1, 0]], np.float32)
    votes = probes.neighbours(rows, np.array([0, 1, 2]), 3, k=2, temperature=0.5).of(np.array([[1, 0]], np.float32))
    assert votes[0] == pytest.approx([1, np.exp(-0.4 / 0.5), 0], abs=1e-6)


def test_neighbours_are_scikit_learns() -> None:
    rows, labels = clusters(200, 8, 3, apart=0.7)
    rows -= 5
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    test, train = rows[:50], rows[50:]
    referee = KNeighborsClassifier(20, metric="cosine", weights=lambda away: np.exp(-away / 0.07)).fit(
        train, labels[50:]
    )
    votes = probes.neighbours(train, labels[50:], 3, 20, 0.07).of(test)
    expected = referee.predict_proba(test)
    np.testing.assert_allclose(votes / votes.sum(axis=1, keepdims=True), expected, atol=1e-4)


def test_neighbours_that_tie_for_the_last_place_share_it_in_any_order() -> None:
    """Cosines 1, then 0.6 three times for two places left: 2/3 of a vote each, one of class 0 and two of class 1."""
    rows = np.array([[1, 0], [0.6, 0.8], [0.6, 0.8], [0.6, -0.8], [-1, 0]], np.float32)
    labels, vote = np.array([0, 0, 1, 1, 2]), np.exp(-0.4 / 0.5)
    for order in (np.arange(5), np.array([4, 3, 2, 1, 0]), np.array([2, 4, 0, 3, 1])):
        found = probes.neighbours(rows[order], labels[order], 3, k=3, temperature=0.5)
        votes = found.of(np.array([[1, 0]], np.float32))
        assert votes == pytest.approx(np.array([[1 + vote * 2 / 3, vote * 4 / 3, 0]]), abs=1e-6)


def test_fewer_images_than_neighbours_are_an_error() -> None:
    with pytest.raises(CocabenchError, match="knn: 3 training images; wanted 20 or more, as k"):
        probes.neighbours(np.eye(3, dtype=np.float32), np.arange(3), 3, 20, 0.07)


@pytest.mark.parametrize("classes", [2, 4])
def test_logistic_regression_scores_its_classes_and_puts_unseen_ones_last(classes: int) -> None:
    rows, labels = clusters(120, 6, classes, apart=2)
    found = probes.logistic(rows, labels + 1, classes + 2, 1.0, 1000)
    scores = found.scorer.of(rows)
    assert found.converged
    assert scores.shape == (120, classes + 2)
    assert probes.accuracy(scores, labels + 1) > 0.95
    assert (scores[:, [0, -1]] < scores[:, 1:-1].min(axis=1, keepdims=True)).all()
    assert not probes.logistic(rows, labels, classes, 1e6, 1).converged


def test_the_search_finds_the_peak_and_computes_no_point_twice() -> None:
    asked: list[int] = []

    def accuracy(point: int) -> float:
        asked.append(point)
        return 1 - abs(point - 61) / 100

    assert probes.peak(accuracy, range(0, 97, 16), 97) == 61
    assert len(asked) == len(set(asked)) <= 15


def test_the_search_takes_the_lowest_of_equal_points_and_point_0_where_nothing_is_right() -> None:
    assert probes.peak(lambda point: 0.5, range(0, 97, 16), 97) == 0
    assert probes.peak(lambda point: 0.0, range(0, 97, 16), 97) == 0
    assert probes.peak(lambda point: float(point >= 33), range(0, 97, 16), 97) == 33, "48, then 40, 36, 34, 33"


FITS: dict[str, Callable[..., probes.Scorer]] = {
    "ridge": lambda rows, labels, n: probes.ridge(rows, labels, n, [1024.0])[0],
    "clip": lambda rows, labels, n: probes.logistic(rows, labels, n, 1.0, 1000).scorer,
    "knn": lambda rows, labels, n: probes.neighbours(unit(rows), labels, n, 20, 0.07),
}


def unit(rows: np.ndarray) -> np.ndarray:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


@pytest.mark.parametrize("name", FITS)
def test_features_that_say_nothing_of_the_class_score_chance(name: str) -> None:
    rows, labels = clusters(600, 8, 4, apart=0.0)
    scores = FITS[name](rows[:300], labels[:300], 4).of(unit(rows[300:]) if name == "knn" else rows[300:])
    assert abs(probes.accuracy(scores, labels[300:]) - 1 / 4) < 0.08
    good, same = clusters(600, 8, 4, apart=2.0)
    scores = FITS[name](good[:300], same[:300], 4).of(unit(good[300:]) if name == "knn" else good[300:])
    assert probes.accuracy(scores, same[300:]) > 0.8
