import numpy as np
import pytest

from cocabench.metrics.captions import meteor


def stats(**given: int) -> np.ndarray:
    return np.array([given.get(name.removeprefix("meteor_"), 0) for name in meteor.COLUMNS], dtype=float)


def test_worked_by_hand() -> None:
    """4 words (1 function word) against 5 (2): 2 content words match exactly and 1 by stem, in 2 chunks.

    P = 0.75 · 2.6 / (0.75 · 3 + 0.25 · 1) = 0.78, R = 0.75 · 2.6 / (0.75 · 3 + 0.25 · 2).
    """
    one = stats(
        test_length=4,
        test_function=1,
        reference_length=5,
        reference_function=2,
        exact_test_content=2,
        exact_reference_content=2,
        stem_test_content=1,
        stem_reference_content=1,
        chunks=2,
        test_matches=3,
        reference_matches=3,
    )
    precision, recall = 1.95 / 2.5, 1.95 / 2.75
    expected = 1 / (0.15 / precision + 0.85 / recall) * (1 - 0.6 * (2 / 3) ** 0.2)
    assert meteor.value(one) == pytest.approx(expected)
    assert meteor.value(np.stack([one, 2 * one])) == pytest.approx([expected, expected])


def test_nothing_matched_and_nothing_there_are_zero() -> None:
    assert meteor.value(stats(test_length=3, reference_length=3)) == 0
    assert meteor.value(stats()) == 0


def test_a_whole_alignment_costs_no_chunk() -> None:
    whole = stats(
        test_length=2,
        reference_length=2,
        exact_test_content=2,
        exact_reference_content=2,
        chunks=1,
        test_matches=2,
        reference_matches=2,
    )
    assert meteor.value(whole) == pytest.approx(1)
    assert meteor.value(meteor.counted(np.stack([whole, whole])).sum(axis=0)) == pytest.approx(1)
