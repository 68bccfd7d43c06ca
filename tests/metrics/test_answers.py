"""Answers to questions: the official normalisation and accuracy by hand, yes and no against scikit-learn."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score, precision_score

from cocabench.metrics.answers import (
    CONTRACTIONS,
    Agreement,
    Normalise,
    accuracy,
    compared,
    in_words,
    is_yes_or_no,
    matches,
    normalised,
    says_yes,
    trimmed,
    without_punctuation,
    yes_f1,
    yes_precision,
)


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        ("cat", "cat"),
        (" cat ", "cat"),
        ("\tcat\n", "cat"),
        ("a\ncat", "a cat"),
        ("a\tcat", "a cat"),
        ("a  cat", "a  cat"),  # spaces inside stay until the words are split
        ("\n", ""),
        ("", ""),
    ],
)
def test_trimmed_by_hand(answer: str, wanted: str) -> None:
    assert trimmed(answer) == wanted


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        ("cat", "cat"),
        ("black/white", "black white"),  # between letters a mark becomes a space
        ("black / white", "black  white"),  # next to a space it is removed
        ("black/ white", "black white"),
        ("t-shirt", "t shirt"),
        ("t -shirt", "t shirt"),
        ("yes, sir", "yes sir"),
        ("yes,sir", "yes sir"),
        ("a,b, c", "ab c"),  # one comma has a space, so that both are removed
        ("a/b, c", "a b c"),  # each mark is judged alone
        ("what?", "what "),
        ("what? no", "what no"),
        ("stop!", "stop "),
        ("[stop]", " stop "),
        ("{stop}", " stop "),
        ("(left) side", " left side"),
        ('"stop"', " stop "),
        ('a "stop" sign', "a stop sign"),
        ("a=b", "a b"),
        ("a+b", "a b"),
        ("a\\b", "a b"),
        ("a_b", "a b"),
        ("a>b", "a b"),
        ("a<b", "a b"),
        ("me@home", "me home"),
        ("a`b", "a b"),
        ("a;b", "a b"),
        ("cat's", "cat's"),  # apostrophes stay
        ("12:30", "12:30"),  # and so do colons
        ("50%", "50%"),  # and what the list lacks
        ("$5", "$5"),
        ("a&b", "a&b"),
    ],
)
def test_punctuation_by_hand(answer: str, wanted: str) -> None:
    assert without_punctuation(answer) == wanted


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        ("1,000", "1000"),  # a comma between digits: all marks are removed
        ("1,000,000", "1000000"),
        ("1,000/day", "1000day"),  # also those that would have become spaces
        ("t-shirt 1,5", "tshirt 15"),
        ("(1,2)", "12"),
        ("1, 000", "1 000"),
        ("1,a", "1 a"),  # not between digits
        ("a,1", "a 1"),
        ("10,", "10 "),
        (",10", " 10"),
    ],
)
def test_a_comma_between_digits_removes_all_marks(answer: str, wanted: str) -> None:
    assert without_punctuation(answer) == wanted


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        ("cat.", "cat"),
        ("st. john", "st john"),
        ("u.s.a.", "usa"),
        ("3.5", "3.5"),  # before a digit a period stays
        (".5", ".5"),
        ("5.", "5"),
        ("v.2", "v.2"),
        ("...", ""),
        ("no. 1", "no 1"),
        ("." * 33, "."),  # re.UNICODE is 32, and a count
    ],
)
def test_periods_by_hand(answer: str, wanted: str) -> None:
    assert without_punctuation(answer) == wanted


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        ("none", "0"),
        ("zero", "0"),
        ("one", "1"),
        ("two", "2"),
        ("three", "3"),
        ("four", "4"),
        ("five", "5"),
        ("six", "6"),
        ("seven", "7"),
        ("eight", "8"),
        ("nine", "9"),
        ("ten", "10"),
        ("eleven", "eleven"),
        ("twenty one", "twenty 1"),
        ("One", "1"),
        ("someone", "someone"),
        ("2", "2"),
        ("no one", "no 1"),
    ],
)
def test_number_words_by_hand(answer: str, wanted: str) -> None:
    assert in_words(answer) == wanted


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        ("a cat", "cat"),
        ("an apple", "apple"),
        ("the cat", "cat"),
        ("The Cat", "cat"),
        ("on the left", "on left"),
        ("a", ""),
        ("the the", ""),
        ("theater", "theater"),
        ("plan a", "plan"),
        ("vitamin  A", "vitamin"),
        ("  big   dog ", "big dog"),
        ("RED", "red"),
    ],
)
def test_articles_case_and_spaces_by_hand(answer: str, wanted: str) -> None:
    assert in_words(answer) == wanted


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        ("dont", "don't"),
        ("Dont", "don't"),
        ("cant see", "can't see"),
        ("don't", "don't"),
        ("its", "its"),  # not in the list
        ("im", "im"),  # in the list as Im, which lower case never is
        ("ive", "ive"),
        ("lets", "lets"),  # the list has let's for let's only
        ("shes", "shes"),
        ("couldnt've", "couldn't've"),
        ("couldn'tve", "couldn't've"),
        ("couldntve", "couldntve"),  # with one apostrophe missing, not two
        ("twas", "'twas"),
        ("oclock", "o'clock"),
        ("maam", "ma'am"),
        ("yall'd've", "y'all'd've"),
        ("somebody'd", "somebodyd"),  # the wrong way round in the list
        ("somebodyd", "somebodyd"),
        ("wed", "wed"),
        ("wed've", "we'd've"),
        ("hes", "he's"),
        ("werent", "weren't"),
        ("someones", "someone's"),
    ],
)
def test_contractions_by_hand(answer: str, wanted: str) -> None:
    assert in_words(answer) == wanted


def test_the_list_of_contractions_has_the_scripts_length() -> None:
    assert len(CONTRACTIONS) == 114  # lower-case entries of the official table that change a word


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        ("The cat's bed, upstairs.", "cat's bed upstairs"),
        ("Two T-shirts!", "2 t shirts"),
        ("a.m.", "am"),
        ("one-way", "1 way"),  # the hyphen goes first, so that one is a word
        ("It's 3.5 miles", "it's 3.5 miles"),
        ("an umbrella/a hat", "umbrella hat"),
        ("dont know", "don't know"),
        ("2,000 people", "2000 people"),
    ],
)
def test_normalised_by_hand(answer: str, wanted: str) -> None:
    assert normalised(answer) == wanted


OFFICIAL = json.loads((Path(__file__).parent / "vqa_answers.json").read_text())


@pytest.mark.parametrize("how", ["official", "earlier"])
def test_each_rule_gives_what_the_official_script_gives(how: Normalise) -> None:
    """The two commits of the script that the file names, on the same answers."""
    place = OFFICIAL["columns"].index(how)
    wrong, rules = [], Counter[str]()
    for row in OFFICIAL["rows"]:
        rule, answer, counts = row[:3]
        human = [text for text, n in counts.items() for _ in range(n)]
        rules[rule] += 1
        if accuracy(matches(answer, human, how), len(human)) != pytest.approx(row[place], abs=1e-6):
            wrong.append(row)
    assert not wrong
    assert rules.total() >= 60
    assert min(rules.values()) >= 3, "of each rule"


def test_the_two_commits_of_the_official_script_differ_on_the_table() -> None:
    """Must fail: one in the place of the other."""
    assert sum(row[3] != row[4] for row in OFFICIAL["rows"]) == 34


TEN = ["yes"] * 10


@pytest.mark.parametrize(
    ("answer", "human", "how", "wanted"),
    [
        ("yes", TEN, "official", 10),
        ("Yes", TEN, "official", 0),  # all equal: nothing is normalised
        ("Yes", [*TEN[:9], "no"], "official", 9),
        (" yes\n", TEN, "official", 10),  # but white space is
        ("two", ["2"] * 10, "official", 0),
        ("two", ["2"] * 9 + ["3"], "official", 9),
        ("2", ["two"] * 9 + ["3"], "official", 9),
        ("a cat", ["cat"] * 5 + ["the cat"] * 5, "official", 10),
        ("t shirt", ["t-shirt"] * 3 + ["shirt"] * 7, "official", 3),
        ("t shirt", ["t-shirt"] * 10, "official", 0),
        ("cat", ["cat", "cat "] * 5, "official", 10),  # equal after white space
        ("Cat", ["cat", "cat "] * 5, "official", 0),
        ("Yes", TEN, "earlier", 10),  # the model's answer is always normalised
        ("two", ["2"] * 10, "earlier", 10),
        ("2", ["two"] * 9 + ["3"], "earlier", 0),  # number words of humans are not
        ("t shirt", ["t-shirt"] * 3 + ["shirt"] * 7, "earlier", 3),
        ("cat", ["the cat"] * 3 + ["cat"] * 7, "earlier", 7),
        ("cat", ["cat "] * 10, "earlier", 0),
        ("Yes", ["YES"] * 10, "always", 10),
        ("two", ["2"] * 10, "always", 10),
        ("t shirt", ["t-shirt"] * 10, "always", 10),
        ("Yes", [*TEN[:9], "no"], "spaces", 0),
        ("yes\t", [" yes", "no"], "spaces", 1),
        ("cats", ["cat"] * 9 + ["dog"], "official", 0),  # no stemming
        ("", ["a"] * 2 + ["cat"] * 8, "official", 2),  # an article alone is an empty answer
        ("unanswerable", ["unanswerable"] * 6 + ["Unanswerable."] * 4, "official", 10),
    ],
)
def test_matches_by_hand(answer: str, human: Sequence[str], how: Normalise, wanted: int) -> None:
    assert matches(answer, human, how) == wanted


def test_a_question_of_its_own_answers_keeps_their_number() -> None:
    assert compared("cat", ["cat", "cat"]) == ("cat", ("cat", "cat"))


@pytest.mark.parametrize(
    ("n", "of", "agreement", "wanted"),
    [
        (0, 10, "leave_one_out", 0),
        (1, 10, "leave_one_out", 0.3),  # nine sets hold it once: 9/10 * 1/3
        (2, 10, "leave_one_out", 0.6),  # 2/10 * 1/3 + 8/10 * 2/3
        (3, 10, "leave_one_out", 0.9),  # 3/10 * 2/3 + 7/10
        (4, 10, "leave_one_out", 1),
        (10, 10, "leave_one_out", 1),
        (1, 1, "leave_one_out", 0),  # no other human
        (4, 4, "leave_one_out", 1),
        (3, 4, "leave_one_out", 0.75),  # 3/4 * 2/3 + 1/4
        (3, 3, "leave_one_out", 2 / 3),
        (0, 10, "min_n_3", 0),
        (1, 10, "min_n_3", 1 / 3),
        (2, 10, "min_n_3", 2 / 3),
        (3, 10, "min_n_3", 1),
        (7, 10, "min_n_3", 1),
        (0, 1, "any", 0),
        (1, 1, "any", 1),
        (2, 5, "any", 1),
    ],
)
def test_accuracy_by_hand(n: int, of: int, agreement: Agreement, wanted: float) -> None:
    assert accuracy(n, of, agreement) == pytest.approx(wanted)


@pytest.mark.parametrize("n", range(11))
def test_leave_one_out_is_the_mean_over_the_sets_of_nine(n: int) -> None:
    human = ["cat"] * n + ["dog"] * (10 - n)
    sets = itertools.combinations(human, 9)
    assert accuracy(n, 10) == pytest.approx(np.mean([min(1, nine.count("cat") / 3) for nine in sets]))


@pytest.mark.parametrize(("n", "of"), [(-1, 10), (11, 10), (0, 0)])
def test_accuracy_of_impossible_counts_is_an_error(n: int, of: int) -> None:
    with pytest.raises(ValueError, match=f"got {n} of {of} answers, wanted"):
        accuracy(n, of)


@pytest.mark.parametrize(
    ("answer", "yes", "read"),
    [
        ("yes", True, True),
        ("Yes, there is.", True, True),
        ("no", False, True),
        ("No", False, True),
        ("No, there is none.", False, True),
        ("There is not.", False, True),
        ("there is no car", False, True),
        ("Yes. There is no car", True, True),  # the first sentence counts
        ("NO", True, True),  # POPE's script knows No and no only
        ("nothing", True, False),
        ("a red car", True, False),
        ("", True, False),
    ],
)
def test_yes_and_no_as_pope_reads_them(answer: str, yes: bool, read: bool) -> None:
    assert (says_yes(answer), is_yes_or_no(answer)) == (yes, read)


def yes_table(truth: Sequence[int], said: Sequence[int]) -> pd.DataFrame:
    names = [str(k) for k in range(len(truth))]
    return pd.DataFrame({"id": names, "image_id": names, "truth_yes": truth, "says_yes": said})


@pytest.mark.parametrize("seed", range(5))
def test_precision_and_f1_are_scikit_learns(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth, said = rng.integers(0, 2, 60), rng.integers(0, 2, 60)
    rows = yes_table(truth, said)
    assert yes_precision(rows)[0] == pytest.approx(precision_score(truth, said), abs=1e-15)
    assert yes_f1(rows)[0] == pytest.approx(f1_score(truth, said), abs=1e-15)


def test_a_model_that_always_says_no_has_no_precision() -> None:
    rows = yes_table([1, 0], [0, 0])
    assert np.isnan(yes_precision(rows)[0])
    assert yes_f1(rows)[0] == 0


def test_a_model_that_always_says_yes_is_right_as_often_as_yes_is() -> None:
    rows = yes_table([1, 0, 0, 1], [1, 1, 1, 1])
    assert (yes_precision(rows)[0], yes_f1(rows)[0]) == (0.5, pytest.approx(2 / 3))


@pytest.mark.parametrize("function", [yes_precision, yes_f1])
def test_influences_are_those_of_one_row_more(function: object) -> None:
    rng = np.random.default_rng(3)
    truth, said = rng.integers(0, 2, 400), rng.integers(0, 2, 400)
    value, influence = function(yes_table(truth, said))  # type: ignore[operator]
    assert influence.sum() == pytest.approx(0, abs=1e-12)
    doubled = [function(yes_table([*truth, truth[k]], [*said, said[k]]))[0] - value for k in range(20)]  # type: ignore[operator]
    assert influence[:20] == pytest.approx(doubled, rel=0.02, abs=1e-9)
