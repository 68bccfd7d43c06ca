import numpy as np
import pytest

from cocabench.captioneval import cider


def test_worked_by_hand() -> None:
    """Words only, lengths equal: idf(dog) = log 2, idf(a) = 0, so the candidate "a dog" equals its reference.

    One order of four matches ("a dog" is also the bigram, with idf log 2): 10 · (1 + 1 + 0 + 0) / 4 = 5.
    """
    assert cider.scores(["a dog", "a cat"], [["a dog"], ["a cat"]]) == pytest.approx([5, 5])


def test_the_wrong_caption_is_zero() -> None:
    assert cider.scores(["a cat", "a dog"], [["a dog"], ["a cat"]]) == pytest.approx([0, 0])


def test_length_costs_a_gaussian_in_bigrams() -> None:
    """Four words match all n-grams of "one two three four"; the repeat adds 4 bigrams, and halves no clipped weight."""
    whole, other = "one two three four", "five six seven eight"
    exact = cider.scores([whole, other], [[whole], [other]])
    longer = cider.scores([f"{whole} {whole}", other], [[whole], [other]])
    assert exact == pytest.approx([10, 10])
    assert longer[0] < 10 * np.exp(-(4**2) / (2 * cider.SIGMA**2))


def test_one_image_is_undefined_and_not_zero() -> None:
    assert np.isnan(cider.scores(["a dog"], [["a dog"]])).all()


def test_frequencies_come_from_the_whole_set_when_part_is_scored() -> None:
    references = [["a red dog", "a dog runs"], ["a cat"], ["two dogs", "a dog"]]
    candidates = ["a dog", "a cat runs", "two red dogs"]
    whole = cider.scores(candidates, references)
    assert cider.scores(candidates[:1], references[:1], references) == pytest.approx(whole[:1])


def test_an_empty_caption_is_zero() -> None:
    assert cider.scores(["", "a cat"], [["a dog"], ["a cat"]])[0] == 0
