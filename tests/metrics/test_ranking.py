"""Ranks and recall: literal matrices, brute force, ties, and what must fail."""

import itertools

import numpy as np
import pytest

from cocabench.core.errors import NumericsError
from cocabench.metrics.ranking import Ranks, expected_rank, highest, hits_at, pessimistic, positive_ranks

SCORES = np.array([[0.9, 0.8, 0.1], [0.2, 0.2, 0.1], [0.5, 0.5, 0.5]], np.float32)
POSITIVE = np.array([[0, 1, 0], [0, 0, 1], [1, 0, 1]], bool)


def test_ranks_of_a_literal_matrix() -> None:
    ranks = positive_ranks(SCORES, POSITIVE)
    assert ranks.n_above.tolist() == [1, 2, 0]
    assert ranks.tied_negatives.tolist() == [0, 0, 1]
    assert ranks.tied_positives.tolist() == [1, 1, 2]
    assert hits_at(ranks, 1).tolist() == [0, 0, 0]
    assert hits_at(ranks, 2).tolist() == [1, 0, 1]
    assert expected_rank(ranks).tolist() == [2, 3, 2]


def test_a_tie_counts_against_the_model_so_a_collapsed_one_never_hits() -> None:
    ranks = positive_ranks(np.zeros((10, 50), np.float32), np.eye(10, 50, dtype=bool))
    assert hits_at(ranks, 10).sum() == 0
    assert (expected_rank(ranks) == 50).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_scores_that_are_not_finite_are_an_error(bad: float) -> None:
    scores = SCORES.copy()
    scores[1, 2] = bad
    with pytest.raises(NumericsError, match="row 1"):
        positive_ranks(scores, POSITIVE)


@pytest.mark.parametrize(
    ("above", "identical", "tied_positives", "k"), list(itertools.product((0, 1, 2), (0, 1, 3), (1, 2), (1, 2, 5)))
)
def test_identical_items_get_the_expected_value_over_every_order(
    above: int, identical: int, tied_positives: int, k: int
) -> None:
    ranks = Ranks(*(np.array([v]) for v in (above, identical, identical, tied_positives)))
    block = [True] * tied_positives + [False] * identical
    orders = set(itertools.permutations(range(len(block))))
    hit = [any(block[i] for i in order[: max(k - above, 0)]) for order in orders]
    assert hits_at(ranks, k)[0] == pytest.approx(np.mean(hit))


def test_identical_items_are_told_from_other_ties() -> None:
    scores = np.array([[0.5, 0.5, 0.5, 0.1]], np.float32)
    ranks = positive_ranks(scores, np.array([[True, False, False, False]]), items=np.array([7, 7, 8, 9]))
    assert (ranks.tied_negatives[0], ranks.identical[0], pessimistic(ranks)[0]) == (2, 1, 1)
    assert hits_at(ranks, 2)[0] == 0.5


def test_highest_marks_missing_candidates() -> None:
    found = highest(np.array([[0.1, 0.9, 0.5]], np.float32), np.array([[True, False, True]]), 5)
    assert found.indices.tolist() == [[2, 0, -1]]
    assert np.isnan(found.scores[0, 2])


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (40, 7), (30, 400)])
def test_of_equal_scores_the_first_candidates_are_highest(rows: int, columns: int) -> None:
    """By a whole sort; numpy's partition leaves equal scores in an order that depends on the processor."""
    rng = np.random.default_rng(columns)
    scores = rng.integers(-2, 3, (rows, columns)).astype(np.float32)
    scores[0] = 0
    allowed = rng.random((rows, columns)) < 0.8
    found = highest(scores, allowed, 5)
    for row, mask, indices, values in zip(scores, allowed, found.indices.tolist(), found.scores, strict=True):
        wanted = sorted(np.flatnonzero(mask).tolist(), key=lambda i: (-row[i], i))[:5]
        assert indices == (wanted + [-1] * 5)[: min(5, columns)]
        assert values[: len(wanted)].tolist() == row[wanted].tolist()
        assert np.isnan(values[len(wanted) :]).all()


def test_thousands_of_identical_items_do_not_overflow() -> None:
    ranks = Ranks(np.array([0]), np.array([2000]), np.array([2000]), np.array([1]))
    assert hits_at(ranks, 500)[0] == pytest.approx(500 / 2001)
