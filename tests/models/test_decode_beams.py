"""Beam bookkeeping on literal numbers: each case worked by hand after transformers 4.49's BeamSearchScorer."""

import pytest
import torch

from cocabench.models.open_clip.decoding.options import SpecialTokens
from cocabench.models.open_clip.decoding.search import (
    Candidates,
    Group,
    _on_cpu,
    forbid,
    keep_top_k,
    keep_top_p,
    penalise_repetition,
)

TOKENS = SpecialTokens(start=1, end=2, pad=0)


def _group(beams: list[list[int]], scores: list[float], penalty: float = 1.0) -> Group:
    return Group(beams, scores, penalty)


def test_an_end_among_the_best_finishes_and_the_next_best_continues() -> None:
    group = _group([[1, 7], [1, 8]], [5.0, 4.0])
    group.advance(Candidates([9.0, 8.0, 7.0, 6.0], [2, 5, 6, 3], [0, 1, 0, 1]), TOKENS)
    assert [(c.score, c.tokens) for c in group.finished] == [(3.0, [1, 7])]  # 9 / (2 tokens + end)
    assert group.beams == [[1, 8, 5], [1, 7, 6]]
    assert group.scores == [8.0, 7.0]
    assert group.parents == [1, 0]
    assert not group.done


def test_an_end_below_the_g_best_is_dropped() -> None:
    group = _group([[1, 7], [1, 8]], [5.0, 4.0])
    group.advance(Candidates([9.0, 8.5, 8.0, 7.0], [5, 2, 2, 6], [0, 0, 1, 1]), TOKENS)
    assert [c.tokens for c in group.finished] == [[1, 7]]
    assert group.beams == [[1, 7, 5], [1, 8, 6]]


def test_a_group_is_done_when_no_open_beam_can_win() -> None:
    group = _group([[1, 7], [1, 8]], [-1.0, -2.0])
    group.finish([1, 9], -0.3, 3)
    group.finish([1, 6], -0.6, 3)
    group.advance(Candidates([-0.5, -0.7, -0.8, -0.9], [5, 6, 7, 8], [0, 0, 0, 0]), TOKENS)
    assert not group.done  # -0.5 / 3 beats the worse finished one, -0.6 / 3
    group.advance(Candidates([-0.9, -1.0, -1.1, -1.2], [5, 6, 7, 8], [0, 0, 0, 0]), TOKENS)
    assert group.done  # -0.9 / 4 does not
    group.advance(Candidates([9.0, 9.0, 9.0, 9.0], [5, 6, 7, 8], [0, 0, 0, 0]), TOKENS)
    assert [beam[-1] for beam in group.beams] == [0, 0]


def test_only_the_g_best_finished_are_kept_and_closing_adds_open_beams() -> None:
    group = _group([[1, 7], [1, 8]], [8.0, 1.0])
    group.finish([1], 4.0, 2)
    group.finish([1, 5], 9.0, 3)
    group.finish([1, 6], 6.0, 3)  # a tie with the worst is not better
    assert [c.score for c in group.finished] == [2.0, 3.0]
    group.close()
    assert sorted(c.score for c in group.finished) == [3.0, 4.0]


@pytest.mark.parametrize(("penalty", "score"), [(0.0, 12.0), (1.0, 3.0), (2.0, 0.75)])
def test_length_penalty_divides(penalty: float, score: float) -> None:
    group = _group([[1], [1]], [0.0, 0.0], penalty)
    group.finish([1, 5, 6], 12.0, 4)
    assert group.finished[0].score == score


def test_logit_processors() -> None:
    logits = torch.tensor([[2.0, -1.0, 1.0, 0.5]])
    inf = torch.inf
    assert forbid(logits, 2).tolist() == [[2.0, -1.0, -inf, 0.5]]
    assert penalise_repetition(logits, torch.tensor([[0, 1, 0]]), 2.0).tolist() == [[1.0, -2.0, 1.0, 0.5]]
    assert keep_top_k(logits, 2).tolist() == [[2.0, -inf, 1.0, -inf]]
    assert keep_top_k(torch.tensor([[1.0, 1.0, 0.0]]), 1).tolist() == [[1.0, 1.0, -inf]]
    assert logits.tolist() == [[2.0, -1.0, 1.0, 0.5]]


@pytest.mark.parametrize(
    ("p", "kept"), [(0.0, [3]), (0.45, [3]), (0.55, [1, 3]), (0.85, [1, 2, 3]), (1.0, [0, 1, 2, 3])]
)
def test_top_p_keeps_the_smallest_sufficient_set(p: float, kept: list[int]) -> None:
    logits = torch.tensor([[0.1, 0.25, 0.15, 0.5]]).log()
    assert keep_top_p(logits, p).isfinite()[0].nonzero()[:, 0].tolist() == kept


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_scores_and_places_travel_together_unchanged(dtype: torch.dtype) -> None:
    values = torch.tensor([[1 / 3, -0.0, float("-inf")], [-1e9, 1e-40, float("nan")]], dtype=dtype)
    places = torch.tensor([[0, 49_407 * 6, 2**40], [1, 2, 3]])
    found, where = _on_cpu(values, places)
    assert found.numpy().tobytes() == values.numpy().tobytes()
    assert torch.equal(where, places)
