"""Answers to questions about images: the official VQA accuracy and its normalisation, and yes/no answers.

The rules are those of the official script of VQAv2 (github.com/GT-Vision-Lab/VQA, vqaEvaluation/vqaEval.py), with its
quirks, since published numbers have them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cocabench.core.formatting import plural
from cocabench.metrics.base import Samples

Normalise = Literal["official", "earlier", "always", "spaces"]
"""When answers are normalised; public copies of the official script differ in it. White space is always trimmed.

official: the model's answer and the human ones, if the human ones are not all equal (commit a013f00, the last).
earlier: the model's answer always; of human ones the punctuation, if they are not all equal (commits before, such as
c4e6a0e, and copies of them, such as LAVIS').
always: all answers. spaces: none, only white space (GQA's script compares as written).
"""

Agreement = Literal["leave_one_out", "min_n_3", "any"]
"""What an answer that n humans gave is worth. leave_one_out: the mean of min(1, matches / 3) over the sets that lack
one of the human answers, as in VQAv2. min_n_3: min(1, n / 3), as the papers write it. any: 1 if n > 0."""

FEWEST_ANSWERS = 4
"""With fewer human answers nothing can score 1 by leave_one_out."""

PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
DIGIT_COMMA = re.compile(r"\d,\d")
PERIOD = re.compile(r"\.(?!\d)")
"""The script's lookbehind has a typing error, ``(?!<=\\d)``, which is true before every period."""

MAX_PERIODS = 32
"""The script passes ``re.UNICODE``, which is 32, as the count of its substitution."""

NUMBERS = {
    word: str(min(k, 10))
    for k, words in enumerate(
        ("none zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
    )
    for word in words.split()
}
ARTICLES = frozenset({"a", "an", "the"})

CONTRACTED = """
ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd he'd've he's
how'd how'll how's isn't it'd it'd've it'll ma'am mightn't mightn't've might've mustn't must've needn't not've o'clock
oughtn't 'ow's'at shan't she'd've should've shouldn't shouldn't've somebody'd've somebody'll somebody's someone'd
someone'd've someone'll someone's something'd something'd've something'll that's there'd there'd've there're there's
they'd they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll what're what's what've when's
where'd where's where've who'd who'd've who'll who's who've why'll why're why's won't would've wouldn't wouldn't've
y'all y'all'll y'all'd've you'd you'd've you'll you're you've
"""
"""The script's contractions; its capitalised ones (I'm) never apply, since answers are in lower case."""


def _without_an_apostrophe(word: str) -> list[str]:
    return [word[:k] + word[k + 1 :] for k, letter in enumerate(word) if letter == "'"]


CONTRACTIONS = {short: word for word in CONTRACTED.split() for short in _without_an_apostrophe(word)}
CONTRACTIONS["somebody'd"] = "somebodyd"  # the wrong way round, as in the script


def trimmed(answer: str) -> str:
    """Return an answer with tabs and newlines as spaces, without those at its ends.

    >>> trimmed(" a\\tcat\\n")
    'a cat'
    """
    return answer.replace("\n", " ").replace("\t", " ").strip()


def without_punctuation(answer: str) -> str:
    """Return an answer without the punctuation that the script knows.

    A mark next to a space is removed, any other becomes a space; but if a comma stands between two digits anywhere,
    all marks of the answer are removed. Apostrophes, colons and periods before a digit stay.

    >>> without_punctuation("black/white"), without_punctuation("yes, sir"), without_punctuation("1,000-ish")
    ('black white', 'yes sir', '1000ish')
    """
    text, all_removed = answer, DIGIT_COMMA.search(answer) is not None
    for mark in PUNCTUATION:
        removed = all_removed or f"{mark} " in answer or f" {mark}" in answer
        text = text.replace(mark, "" if removed else " ")
    return PERIOD.sub("", text, count=MAX_PERIODS)


def in_words(answer: str) -> str:
    """Return an answer in lower case, numbers to ten as digits, without articles, contractions with apostrophes.

    >>> in_words("The two dogs dont")
    "2 dogs don't"
    """
    numbered = [NUMBERS.get(word, word) for word in answer.lower().split()]
    return " ".join(CONTRACTIONS.get(word, word) for word in numbered if word not in ARTICLES)


def normalised(answer: str) -> str:
    """Return an answer by all of the script's rules.

    >>> normalised("The cat's bed, upstairs.")
    "cat's bed upstairs"
    """
    return in_words(without_punctuation(answer))


def compared(answer: str, human: Sequence[str], how: Normalise = "official") -> tuple[str, tuple[str, ...]]:
    """Return the model's answer and the human ones as they are compared."""
    answer = trimmed(answer)
    own = tuple(map(trimmed, human)) if how != "earlier" else tuple(human)
    differ = len(set(own)) > 1
    if how == "always" or (how == "official" and differ):
        return normalised(answer), tuple(map(normalised, own))
    if how == "earlier":
        return normalised(answer), tuple(map(without_punctuation, own)) if differ else own
    return answer, own


def matches(answer: str, human: Sequence[str], how: Normalise = "official") -> int:
    """Return how many human answers a model's answer equals.

    >>> matches("Two", ["2", "two", "three"])
    2
    """
    answer, own = compared(answer, human, how)
    return own.count(answer)


def accuracy(n: int, of: int, agreement: Agreement = "leave_one_out") -> float:
    """Return what an answer is worth (0-1) that n of the human answers equal, by the rule of agreement.

    >>> [round(accuracy(n, 10), 3) for n in range(5)]
    [0.0, 0.3, 0.6, 0.9, 1.0]
    """
    if not 0 <= n <= of or of < 1:
        raise ValueError(f"n, of: got {n} of {of} answers, wanted 0 or more of 1 or more")
    if agreement == "any":
        return float(n > 0)
    if agreement == "min_n_3":
        return min(1.0, n / 3)
    return (n * min(1.0, (n - 1) / 3) + (of - n) * min(1.0, n / 3)) / of


NO = frozenset({"No", "not", "no"})


def says_yes(answer: str) -> bool:
    """Return how POPE's script reads an answer: as no if its first sentence holds the word no or not, else as yes.

    Source: github.com/AoiDragon/POPE, evaluate.py. Only lower-case "not" and "no" or "No" count.

    >>> says_yes("No, there is none."), says_yes("Yes. It does not move."), says_yes("a red car")
    (False, True, True)
    """
    return not NO & set(answer.partition(".")[0].replace(",", "").split(" "))


def is_yes_or_no(answer: str) -> bool:
    """Return whether an answer holds the word yes, no or not at all.

    >>> is_yes_or_no("Yes!"), is_yes_or_no("a red car")
    (True, False)
    """
    return bool({"yes", "no", "not"} & set(re.findall(r"[a-z]+", answer.lower())))


Array = NDArray[np.float64]


def share_of_sums(part: Array, whole: Array) -> tuple[float, Array]:
    """Return sum(part) / sum(whole), NaN if there is nothing to divide by, and (rows,) how each row moves it."""
    total = whole.sum()
    if total == 0:
        return float("nan"), np.zeros(len(part))
    value = part.sum() / total
    return float(value), np.asarray((part - value * whole) / total, np.float64)


def yes_precision(samples: Samples) -> tuple[float, Array]:
    """Return the share of answers yes that are right, 0-1, and (rows,) how each row moves it; NaN without a yes.

    samples: with the columns truth_yes and says_yes, 0 or 1.
    """
    true, said = _yes(samples)
    return share_of_sums(true * said, said)


def yes_f1(samples: Samples) -> tuple[float, Array]:
    """Return the harmonic mean of precision and recall, 2 TP / (said yes + truly yes), as yes_precision does."""
    true, said = _yes(samples)
    return share_of_sums(2 * true * said, true + said)


def _yes(samples: Samples) -> tuple[Array, Array]:
    return samples["truth_yes"].to_numpy(np.float64), samples["says_yes"].to_numpy(np.float64)


FEWEST_YES, FEWEST_OF_EACH = 30, 5
"""With fewer answers yes, or fewer right or wrong ones, intervals of precision and F1 cover less than they should: at
a precision of 0.95, 50 answers yes have no wrong one in 8 of 100 draws, and then no variance."""


def few_said_yes(samples: Samples) -> str:
    """Return why the precision of samples gets no interval, '' where it does."""
    true, said = _yes(samples)
    return _few(said.sum(), (true * said).sum(), ((1 - true) * said).sum())


def few_yes(samples: Samples) -> str:
    """Return why F1 of samples gets no interval, '' where it does."""
    true, said = _yes(samples)
    return _few(min(true.sum(), said.sum()), (true * said).sum(), np.abs(true - said).sum())


def _few(yes: float, right: float, wrong: float) -> str:
    if yes < FEWEST_YES:
        return f"{plural(round(yes), 'question')} with yes, {FEWEST_YES} are the fewest that tell"
    few = min(right, wrong)
    return (
        f"{few:.0f} right or wrong, {FEWEST_OF_EACH} of each are the fewest that tell" if few < FEWEST_OF_EACH else ""
    )
