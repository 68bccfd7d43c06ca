import random

import pytest

from cocabench.captioneval import jvm, tokens

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


def test_known_captions_need_no_java(runner: jvm.Runner) -> None:
    tokens.tokenise(list(CASES), runner)
    runner.close()
    assert tokens.tokenise(["", "a ||| b", "a plain one"], runner) == ["", "a | | | b", "a plain one"]


def test_plain_captions_are_their_own_tokens(runner: jvm.Runner) -> None:
    """The shortcut, against the jar, with words that might be taken for something else."""
    captions = [
        "gonna go",
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
    captions += sorted(tokens.TORN) + [f"the {word} is" for word in sorted(tokens.TORN)]
    assert tokens.tokenise(captions, runner) == tokens._run(runner, captions)


def test_all_that_counts_as_plain_is_tokenised_as_the_jar_does(runner: jvm.Runner) -> None:
    rng = random.Random(0)
    words = ["dog", "Dogs", "US", "tri", "black", "e", "I", "o", "St", "cannot", "ft", "it", "men", "ten", "x", "am"]
    shapes = ["{}", "{}'s", "{},", "{}'s,", "{}-{}", "{}-and-{},", "'s", ",", ";", ":", '"', "'", "7", "12"]

    def caption() -> str:
        tokens = (rng.choice(shapes).format(*rng.choices(words, k=2)) for _ in range(rng.randrange(1, 9)))
        return " ".join(tokens) + rng.choice(["", " .", " !", " ?"])

    captions = [caption() for _ in range(3000)]
    known = {text: found for text in captions if (found := tokens._plain(text)) is not None}
    assert len(known) > 1000
    assert list(known.values()) == tokens._run(runner, list(known))


@pytest.mark.parametrize(
    "caption", ["12 345 .", "3 4 dogs", "a dog.", "gonna-be", "5, six", "3.5 kg", "a  dog", "'Tis", ""]
)
def test_what_is_not_plain_is_left_to_the_jar(caption: str) -> None:
    assert tokens._plain(caption) is None


def test_a_caption_does_not_depend_on_its_neighbours(runner: jvm.Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner.kept, "through", lambda _kind, texts, compute: compute(list(texts)))
    captions = ["made in the U.S.", "Dogs bark", "etc.", 'he says "', 'yes"', "x" * 10_000, "a dog."]
    together = tokens.tokenise(captions, runner)
    assert together == [tokens.tokenise([caption], runner)[0] for caption in captions]


@pytest.mark.parametrize("locale", ["C", "tr_TR.UTF-8"])
def test_locale_does_not_matter(locale: str, runner: jvm.Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", locale)
    monkeypatch.setattr(runner.kept, "through", lambda _kind, texts, compute: compute(list(texts)))
    assert tokens.tokenise(["TITLE IN ISTANBUL é I"], runner) == ["title in istanbul é i"]
