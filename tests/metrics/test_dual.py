"""Dual softmax: by hand, against the formula on whole matrices, equal candidates, and what it must not do."""

import numpy as np
import pytest

from cocabench.metrics import dual
from cocabench.metrics.dual import dual_ranks
from cocabench.metrics.ranking import hits_at


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def own(n: int) -> list[np.ndarray]:
    return [np.array([i]) for i in range(n)]


def test_a_hub_no_longer_wins_every_query() -> None:
    """Candidate 0 is nearest to both queries, but fits the first one better; only dual softmax tells them apart."""
    queries = np.eye(3, dtype=np.float32)[:2]
    candidates = np.array([[0.7, 0.6, 0.387298], [0.1, 0.55, 0.829156]], np.float32)
    plain, ranks = (dual_ranks(queries, candidates, own(2), temperature) for temperature in (0, 100))
    assert hits_at(plain, 1).tolist() == [1, 0], "0.6 beats 0.55"
    assert hits_at(ranks, 1).tolist() == [1, 1], "0.6 · exp(-10) against 0.55 · 1"


def test_ranks_are_those_of_the_formula(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    queries, candidates = unit(rng.normal(size=(50, 6))), unit(rng.normal(size=(30, 6)))
    positives = [rng.choice(30, rng.integers(1, 4), replace=False) for _ in queries]
    scores = queries.astype(np.float64) @ candidates.T.astype(np.float64)
    revised = scores * np.exp(20 * scores) / np.exp(20 * scores).sum(axis=0)  # the published code's softmax over dim 0
    wanted = [(row > row[mine].max()).sum() for row, mine in zip(revised, positives, strict=True)]
    for size in (1 << 22, 70):
        monkeypatch.setattr(dual, "SCORES_PER_CHUNK", size)
        assert dual_ranks(queries, candidates, positives, 20).n_above.tolist() == wanted


def test_equal_candidates_tie_and_a_constant_model_finds_nothing() -> None:
    same = unit(np.ones((4, 3)))
    ranks = dual_ranks(same, same, own(4), 100)
    assert ranks.n_above.tolist() == [0] * 4
    assert ranks.tied_negatives.tolist() == [3] * 4
    assert hits_at(ranks, 1).tolist() == [0] * 4
    items = np.zeros(4, np.int64)
    assert hits_at(dual_ranks(same, same, own(4), 100, items), 1).tolist() == pytest.approx([1 / 4] * 4)
