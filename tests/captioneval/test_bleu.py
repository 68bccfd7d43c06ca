import numpy as np
import pytest

from cocabench.captioneval import bleu


def test_worked_by_hand() -> None:
    """3 of 4 words and 1 of 3 bigrams match; "the" counts once, as in the reference; r = 5, so exp(1 - 5/4)."""
    columns = bleu.statistics(["the the cat sat"], [["a cat sat on the mat", "the dog on a mat"]])
    assert [int(columns[f"bleu_match_{n}"][0]) for n in (1, 2, 3, 4)] == [3, 1, 0, 0]
    assert [int(columns[f"bleu_guess_{n}"][0]) for n in (1, 2, 3, 4)] == [4, 3, 2, 1]
    assert (columns["bleu_test_length"][0], columns["bleu_reference_length"][0]) == (4, 5)
    assert columns["bleu_1"][0] == pytest.approx(3 / 4 * np.exp(1 - 5 / 4))
    assert columns["bleu_2"][0] == pytest.approx(np.sqrt(3 / 4 * 1 / 3) * np.exp(1 - 5 / 4))


def test_the_shorter_of_two_equally_close_lengths_counts() -> None:
    columns = bleu.statistics(["a b c"], [["a b c d", "a b"]])
    assert columns["bleu_reference_length"][0] == 2


def test_the_corpus_value_is_not_the_mean_of_the_captions_values() -> None:
    columns = bleu.statistics(["a b c d", "x"], [["a b c d"], ["y"]])
    sums = np.array([columns[name].sum() for name in bleu.COLUMNS], dtype=float)
    assert bleu.value(sums, 1) == pytest.approx(4 / 5)
    assert np.mean(columns["bleu_1"]) == pytest.approx(1 / 2)


def test_an_empty_caption_is_near_zero_and_no_error() -> None:
    columns = bleu.statistics([""], [["a dog"]])
    assert columns["bleu_1"][0] < 1e-5
    assert columns["bleu_4"][0] == 0
