import random

import pytest

from cocabench.captioneval import jvm, tokens
from cocabench.core.cache import MemoryCache
from cocabench.core.errors import MetricUnavailableError

CASES = {
    "A Man's dog isn't here, is it?": "a man 's dog is n't here is it",
    'Black-and-white (small) "dogs"; 3.5 kg!': "black-and-white -lrb- small -rrb- dogs 3.5 kg",
    "": "",
    " \t ": "",
    "line\none\r\ntwo\u2028three": "line one two three",
    "a ||| b": "a | | | b",
    "a 🐶 dog": "a dog",
    "A dog Runs .": "a dog runs",
    "you cannot . see": "you can not see",
    "I cannot": "i can not",
    "naïve café 狗": "naïve café 狗",
}


def test_tokens_are_stanfords_lower_case_and_without_punctuation(runner: jvm.Runner) -> None:
    assert dict(zip(CASES, tokens.tokenise(list(CASES), runner), strict=True)) == CASES


def test_cached_captions_need_no_java(runner: jvm.Runner) -> None:
    tokens.tokenise(list(CASES), runner)
    runner.close()
    assert tokens.tokenise(["", "a ||| b", "a plain one"], runner) == ["", "a | | | b", "a plain one"]


def by_java(runner: jvm.Runner, captions: list[str]) -> list[str]:
    """Tokenise by the jar alone: a space in front moves no token, and takes the shortcut away."""
    return tokens.tokenise([f" {caption}" for caption in captions], runner)


def test_the_shortcut_for_plain_captions_equals_the_jar(runner: jvm.Runner, closed_runner: jvm.Runner) -> None:
    """With words that might be taken for something else."""
    plain = [
        "US army",
        "am pm st mr jr",
        "A",
        "c o d",
        "in ft lb",
        "no I",
        "can not ?",
        "XVI",
        "eg ie .",
        "a man 's dog",
        "black-and-white , x-ray ; 12 ' 3",
        'a " b " c',
    ]
    assert tokens.tokenise(plain, closed_runner) == by_java(runner, plain)
    torn = sorted(tokens.SPLIT_WORDS) + [f"the {word} is" for word in sorted(tokens.SPLIT_WORDS)]
    assert tokens.tokenise(torn, runner) == by_java(runner, torn)


def test_the_shortcut_equals_the_jar_for_random_plain_captions(runner: jvm.Runner) -> None:
    rng = random.Random(0)
    words = ["dog", "Dogs", "US", "tri", "black", "e", "I", "o", "St", "cannot", "ft", "it", "men", "ten", "x", "am"]
    shapes = ["{}", "{}'s", "{},", "{}'s,", "{}-{}", "{}-and-{},", "'s", ",", ";", ":", '"', "'", "7", "12"]

    def caption() -> str:
        parts = (rng.choice(shapes).format(*rng.choices(words, k=2)) for _ in range(rng.randrange(1, 9)))
        return " ".join(parts) + rng.choice(["", " .", " !", " ?"])

    captions = [caption() for _ in range(3000)]
    assert tokens.tokenise(captions, runner) == by_java(runner, captions)


@pytest.mark.parametrize(
    "caption", ["12 345 .", "3 4 dogs", "a dog.", "gonna-be", "5, six", "3.5 kg", "a  dog", "'Tis", "", "gonna go"]
)
def test_captions_that_are_not_plain_are_left_to_the_jar(caption: str, closed_runner: jvm.Runner) -> None:
    with pytest.raises(MetricUnavailableError, match="interrupted"):
        tokens.tokenise([caption], closed_runner)


def alone(java: jvm.Java, captions: list[str]) -> list[str]:
    """Tokenise in a Java that saw no other caption."""
    with jvm.Runner(java, MemoryCache()) as runner:
        return tokens.tokenise(captions, runner)


def test_a_caption_does_not_depend_on_its_neighbours(java: jvm.Java) -> None:
    captions = ["made in the U.S.", "etc.", 'he says "', 'yes"', "x" * 10_000, "a dog."]
    assert alone(java, captions) == [alone(java, [caption])[0] for caption in captions]


@pytest.mark.parametrize("locale", ["C", "tr_TR.UTF-8"])
def test_tokens_do_not_depend_on_the_locale(locale: str, java: jvm.Java, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", locale)
    assert alone(java, ["TITLE IN ISTANBUL é I"]) == ["title in istanbul é i"]
