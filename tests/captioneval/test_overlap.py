import random
import tracemalloc

import numpy as np
import pytest

from cocabench.captioneval import overlap


def test_bleu_worked_by_hand() -> None:
    """3 of 4 words and 1 of 3 bigrams match; "the" counts once, as in the reference; r = 5, so exp(1 - 5/4)."""
    columns = overlap.bleu_statistics(["the the cat sat"], [["a cat sat on the mat", "the dog on a mat"]])
    assert [int(columns[f"bleu_match_{n}"][0]) for n in (1, 2, 3, 4)] == [3, 1, 0, 0]
    assert [int(columns[f"bleu_guess_{n}"][0]) for n in (1, 2, 3, 4)] == [4, 3, 2, 1]
    assert (columns["bleu_test_length"][0], columns["bleu_reference_length"][0]) == (4, 5)
    assert columns["bleu_1"][0] == pytest.approx(3 / 4 * np.exp(1 - 5 / 4))
    assert columns["bleu_2"][0] == pytest.approx(np.sqrt(3 / 4 * 1 / 3) * np.exp(1 - 5 / 4))


def test_bleu_takes_the_shorter_of_two_equally_close_lengths() -> None:
    columns = overlap.bleu_statistics(["a b c"], [["a b c d", "a b"]])
    assert columns["bleu_reference_length"][0] == 2


def test_corpus_bleu_is_not_the_mean_of_the_captions_bleu() -> None:
    columns = overlap.bleu_statistics(["a b c d", "x"], [["a b c d"], ["y"]])
    sums = np.array([columns[name].sum() for name in overlap.BLEU_COLUMNS], dtype=float)
    assert overlap.bleu_value(sums, 1) == pytest.approx(4 / 5)
    assert np.mean(columns["bleu_1"]) == pytest.approx(1 / 2)


def test_bleu_of_an_empty_caption_is_near_zero() -> None:
    columns = overlap.bleu_statistics([""], [["a dog"]])
    assert columns["bleu_1"][0] < 1e-5
    assert columns["bleu_4"][0] == 0


@pytest.mark.parametrize(
    ("candidate", "references", "expected"),
    [
        ("a b c d", ["a b c d"], 1.0),
        ("a b c d", ["x y"], 0.0),
        ("", ["a"], 0.0),
        ("", [""], 1.0),
        # Longest common subsequence "a c": P = 2/3, R = 2/4.
        ("a b c", ["a c d e"], 2.44 * (2 / 3) * (1 / 2) / (1 / 2 + 1.44 * (2 / 3))),
        # The best precision (1, with the first) and the best recall (1, with the second) may be of two references.
        ("a b", ["a b c d", "b"], 1.0),
    ],
)
def test_rouge_l_worked_by_hand(candidate: str, references: list[str], expected: float) -> None:
    assert overlap.rouge_l([candidate], [references])[0] == pytest.approx(expected)


def test_rouge_l_of_ten_thousand_words_is_computed() -> None:
    long = " ".join(str(i % 97) for i in range(10_000))
    assert overlap.rouge_l([long], [[long]])[0] == pytest.approx(1)


def test_cider_d_worked_by_hand() -> None:
    """Words only, lengths equal: idf(dog) = log 2, idf(a) = 0, so the candidate "a dog" equals its reference.

    One order of four matches ("a dog" is also the bigram, with idf log 2): 10 · (1 + 1 + 0 + 0) / 4 = 5.
    """
    assert overlap.cider_d(["a dog", "a cat"], [["a dog"], ["a cat"]]) == pytest.approx([5, 5])


def test_cider_d_of_the_wrong_caption_is_zero() -> None:
    assert overlap.cider_d(["a cat", "a dog"], [["a dog"], ["a cat"]]) == pytest.approx([0, 0])


def test_cider_d_penalises_length_by_a_gaussian_in_bigrams() -> None:
    """Four words match all n-grams of "one two three four"; the repeat adds 4 bigrams, and halves no clipped weight."""
    whole, other = "one two three four", "five six seven eight"
    exact = overlap.cider_d([whole, other], [[whole], [other]])
    longer = overlap.cider_d([f"{whole} {whole}", other], [[whole], [other]])
    assert exact == pytest.approx([10, 10])
    assert longer[0] < 10 * np.exp(-(4**2) / (2 * overlap.CIDER_SIGMA**2))


def test_cider_d_of_one_image_is_undefined() -> None:
    assert np.isnan(overlap.cider_d(["a dog"], [["a dog"]])).all()


def test_cider_d_takes_frequencies_from_the_whole_corpus() -> None:
    references = [["a red dog", "a dog runs"], ["a cat"], ["two dogs", "a dog"]]
    candidates = ["a dog", "a cat runs", "two red dogs"]
    whole = overlap.cider_d(candidates, references)
    assert overlap.cider_d(candidates[:1], references[:1], references) == pytest.approx(whole[:1])


def test_cider_d_of_an_empty_caption_is_zero() -> None:
    assert overlap.cider_d(["", "a cat"], [["a dog"], ["a cat"]])[0] == 0


@pytest.mark.parametrize("at_once", [1, 7])
def test_values_do_not_depend_on_how_much_is_counted_at_a_time(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(0)
    texts = [" ".join(rng.choices("abcde", k=rng.randrange(9))) for _ in range(200)]
    candidates, references = texts[:40], [texts[40 + 3 * i : 43 + 3 * i] for i in range(40)]
    corpus = [*references, texts[:40], [""]]

    def values() -> list[bytes]:
        ciders = [overlap.cider_d(candidates, references), overlap.cider_d(candidates, references, corpus)]
        return [array.tobytes() for array in (*ciders, *overlap.bleu_statistics(candidates, references).values())]

    whole = values()
    monkeypatch.setattr(overlap, "IMAGES_AT_ONCE", at_once)
    monkeypatch.setattr(overlap, "TOKENS_AT_ONCE", at_once)
    assert values() == whole


def test_cider_d_holds_little_more_than_its_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    """30 bytes for each of 180,000 tokens; counting all n-grams of a length at a time takes 117."""
    monkeypatch.setattr(overlap, "IMAGES_AT_ONCE", 64)
    monkeypatch.setattr(overlap, "TOKENS_AT_ONCE", 4096)
    words = [[str((i * k) % 97) for k in range(1, 11)] for i in range(18_000)]
    texts = [" ".join(text) for text in words]
    references = [texts[i : i + 5] for i in range(3000, 18_000, 5)]
    tracemalloc.start()
    try:
        overlap.cider_d(texts[:3000], references)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 30 * 180_000
