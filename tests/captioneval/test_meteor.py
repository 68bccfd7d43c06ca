import random
from pathlib import Path

import numpy as np
import pytest

from cocabench.captioneval import jvm, meteor
from cocabench.core.cache import DiskCache
from cocabench.core.types import Note
from tests.captioneval.sentences import pictures


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


def test_a_complete_alignment_has_no_chunk_penalty() -> None:
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


ODD = [
    "a",
    "the",
    "don't",
    "it's",
    "naïve",
    "狗",
    "1,000",
    "3.5",
    "U.S.",
    "...",
    "e-mail",
    "😀",
    "helpful",
    "handfuls",
    "men",
]


def perturbed(number: int) -> list[str]:
    """Return lines for METEOR whose alignments are ambiguous: shuffled, repeated, looped and odd words."""
    rng = random.Random(5)
    groups = [[p.candidate, *p.references] for p in pictures()]

    def odd(text: str, share: float) -> str:
        return " ".join(rng.choice(ODD) if rng.random() < share else word for word in text.split())

    lines = []
    for i in range(number):
        group = rng.choice(groups)
        words = " ".join(group).split()
        candidate = [
            lambda group=group: rng.choice(rng.choice(groups)),
            lambda words=words: " ".join(rng.choices(words, k=rng.randrange(0, 40))),
            lambda group=group: odd(group[0], 0.3),
            lambda group=group: group[1],
            lambda group=group: " ".join(rng.choices(group[0].split()[:4], k=rng.randrange(1, 20))),
        ][i % 5]()
        lines.append(" ||| ".join([*(odd(text, 0.1) for text in group[1:]), candidate]))
    return lines


@pytest.mark.slow
def test_alignments_equal_the_jars(runner: jvm.Runner) -> None:
    """Every segment's line of statistics, also of those whose matches tie, overlap and are many."""
    lines = perturbed(400)
    table = str(jvm.jar("meteor", "data", "paraphrase-en.gz"))
    options = ["-", "-", "-stdio", "-l", "en", "-norm", "-a", table]
    theirs = jvm.Job("METEOR 1.5", "Meteor", [jvm.jar("meteor", "meteor-1.5.jar")], options, memory_mib=2048)
    expected = runner.run(theirs, [f"SCORE ||| {line}" for line in lines])
    parts = [line.split(" ||| ") for line in lines]
    groups = [part[:-1] for part in parts]
    columns = meteor.statistics(meteor.start(groups, runner), [part[-1] for part in parts], groups)
    found = np.column_stack([columns[name] for name in meteor.COLUMNS])
    assert found.tolist() == [[float(x) for x in line.split()] for line in expected]


@pytest.mark.slow
def test_the_paraphrases_of_references_are_cached_and_recreated_if_damaged(java: jvm.Java, tmp_path: Path) -> None:
    notes: list[Note] = []
    groups = [["children are riding a bicycle"], ["a dog"]]

    def score() -> float:
        with jvm.Runner(java, DiskCache(tmp_path, 10**9, notes.append)) as runner:
            return float(
                meteor.statistics(meteor.start(groups, runner), ["kids ride bikes", "a cat"], groups)["meteor"][0]
            )

    cold = score()
    assert cold == pytest.approx(0.1923996263018105)
    (file,) = tmp_path.glob("*.sqlite")
    assert score() == cold
    content = bytearray(file.read_bytes())
    content[content.index(b"\x1f\x8b") + 20] ^= 1  # inside the packed table
    file.write_bytes(content)
    assert score() == cold
    assert len(notes) == 1
    assert score() == cold
    assert len(notes) == 1


@pytest.mark.slow
def test_many_different_captions_need_little_memory(runner: jvm.Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    """20,000 images, whose five million phrases Java once held as numbers in 400 MB; the paraphrases are 270 MB."""
    rng = random.Random(0)
    known = [f"{a}{b}{c}" for a in "bdfgklm" for b in "aeiou" for c in ("ck", "ll", "nd", "rt", "st", "mp", "sh")]
    groups = [[" ".join(rng.choices(known, k=10)) for _ in range(5)] for _ in range(20_000)]
    monkeypatch.setattr(meteor, "MEMORY_MIB", 448)
    columns = meteor.statistics(meteor.start(groups, runner), [group[0] for group in groups], groups)
    assert columns["meteor"] == pytest.approx(1)
