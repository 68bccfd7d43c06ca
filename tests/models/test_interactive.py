"""What a page asks of a model: the caption while it is written, and the likelihood of each word."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
import torch

from cocabench.core.errors import NotACaptionerError
from cocabench.core.types import ImageSource
from cocabench.models.hardware import hardware
from cocabench.models.interactive import Word, words_of
from cocabench.models.open_clip.model import OpenClip
from cocabench.specs.registry import find_tasks, one_model

TEXTS = ("a dog", "grinning face.", "it's an ¤ unlikely, unlikely caption", "", "face " * 100)


@pytest.fixture(scope="module")
def coca() -> OpenClip:
    model = one_model("demo/coca").load(hardware(device="cpu"))
    assert isinstance(model, OpenClip)
    return model


@pytest.fixture(scope="module")
def pictures() -> list[ImageSource]:
    (task,) = find_tasks(["emoji_captions"])
    return [example.image for example in task.loader.build(Path()).examples[: len(TEXTS)]]


def test_words_have_the_log_probabilities_of_open_clips_own_forward_pass(
    coca: OpenClip, pictures: list[ImageSource]
) -> None:
    found = coca.score_words(pictures, TEXTS)
    totals = coca.score_captions(pictures, [[text] for text in TEXTS]).logprobs[:, 0]
    for picture, text, words, total in zip(pictures, TEXTS, found, totals, strict=True):
        (row,) = coca.tokenizer([text])
        ids = [id_ for id_ in row.tolist() if id_]
        with torch.no_grad():
            pixels = coca.transform(picture.open().convert("RGB"))[None]
            logits = coca.net(pixels, row[None, : len(ids)])["logits"][0]
        each = logits.log_softmax(-1)[torch.arange(len(ids) - 1), torch.tensor(ids[1:])]
        assert sum(word.logprob for word in words) == pytest.approx(float(each.sum()), rel=1e-4) == pytest.approx(total)
        if text == "a dog":  # a token each
            assert [word.logprob for word in words] == pytest.approx(each.tolist(), rel=1e-3)
        assert words[-1] == ("", pytest.approx(float(each[-1]), rel=1e-3))
        assert " ".join(word.text for word in words[:-1]) == coca.tokenizer.decode(ids[1:-1]).strip()


def test_pieces_of_a_word_and_bytes_of_a_character_count_together() -> None:
    pieces = {1: "a ", 2: "gir", 3: "affe ", 4: ". ", 5: "\ufffd", 6: "\ufffd "}

    def decode(ids: list[int]) -> str:
        return "".join(pieces[one] for one in ids)

    assert words_of(decode, [1, 2, 3, 4], [-1.0, -2.0, -4.0, -8.0, -16.0]) == [
        ("a", -1), ("giraffe", -6), (".", -8), ("", -16),
    ]  # fmt: skip
    assert words_of(decode, [5, 6], [-1.0, -2.0]) == [("\ufffd\ufffd", -3), ("", 0)], "cut, without an end token"
    assert words_of(decode, [], [-3.0]) == [Word("", -3)]


@pytest.mark.parametrize("kind", ["beam_search", "greedy", "top_k", "top_p"])
def test_watching_changes_no_caption_and_shows_it_growing(
    coca: OpenClip, pictures: list[ImageSource], kind: str
) -> None:
    options = {"generation_type": kind, "top_k": 20, "top_p": 0.9, "seed": 3}
    for picture in pictures[:2]:
        shown: list[str] = []
        with coca.watched(shown.append):
            watched = coca.caption([picture], options, prompts="a")
        plain = coca.caption([picture], options, prompts="a")
        assert watched.texts == plain.texts
        assert watched.scores == plain.scores
        assert len(shown) >= 2
        assert len(shown[0]) > 1, "a word follows the prompt"
        if kind != "beam_search":
            assert all(after.startswith(before) for before, after in pairwise([*shown, *watched.texts]))
        assert coca.watch is None


def test_a_clip_scores_no_words(pictures: list[ImageSource]) -> None:
    model = one_model("demo/clip").load(hardware(device="cpu"))
    with pytest.raises(NotACaptionerError, match=r"demo/clip.*cannot score words.*wanted a CoCa"):
        model.score_words(pictures[:1], ["a dog"])  # type: ignore[attr-defined]  # of the base class
