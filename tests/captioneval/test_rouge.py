import pytest

from cocabench.captioneval import rouge


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
def test_worked_by_hand(candidate: str, references: list[str], expected: float) -> None:
    assert rouge.scores([candidate], [references])[0] == pytest.approx(expected)


def test_ten_thousand_words_take_no_time() -> None:
    long = " ".join(str(i % 97) for i in range(10_000))
    assert rouge.scores([long], [[long]])[0] == pytest.approx(1)
