"""NLLB-CLIP's tokenizer is told the language of each text, and the cache keeps languages apart."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from cocabench.core.errors import ModelError
from cocabench.core.notes import CODES
from cocabench.models.open_clip.languages import LanguageTokenizer, in_language, takes_language
from cocabench.models.spoken import Spoken
from cocabench.models.tokens import TokenCounts


class Nllb:
    """A tokenizer as open_clip wraps NLLB's: the first id is the language's."""

    LANGUAGES = ("eng_Latn", "deu_Latn", "jpn_Jpan", "zho_Hant")

    def __init__(self) -> None:
        self.tokenizer, self.src_lang = self, "eng_Latn"

    def __call__(self, texts: Sequence[str], context_length: int | None = None) -> Tensor:
        return torch.tensor([[self.LANGUAGES.index(self.src_lang), len(text)] for text in texts])


def test_each_text_is_read_in_its_language_and_others_in_english() -> None:
    tokenizer = LanguageTokenizer("nllb", Nllb())
    texts = [
        in_language("Hund", "de"),
        "dog",
        in_language("犬", "jp"),
        in_language("Katze", "de"),
        in_language("狗", "zh"),
    ]
    assert tokenizer(texts).tolist() == [[1, 4], [0, 3], [2, 1], [1, 5], [3, 1]]
    assert tokenizer(["dog"]).tolist() == [[0, 3]], "the next texts are in English again"
    assert tokenizer([in_language("Hund", "deu_Latn"), in_language("Hund", "DE")])[:, 0].tolist() == [1, 1]


def test_a_language_that_nllb_lacks_is_an_error_in_one_line() -> None:
    with pytest.raises(ModelError, match="clip-benchmark names no NLLB language for 'tlh'"):
        LanguageTokenizer("nllb", Nllb())([in_language("Qapla'", "tlh")])


class Heard:
    """A model of one token a letter (and start and end), two for those outside ASCII, which reads 12 of them."""

    id = "heard"

    def __init__(self, unknown: bool = True) -> None:
        self.unknown, self.asked = unknown, [""]

    def encode_texts(self, texts: Sequence[str], *, progress: Any) -> list[str]:
        return list(texts)

    def count_tokens(self, texts: Sequence[str]) -> TokenCounts:
        self.asked = list(texts)
        tokens = [2 + sum(1 if letter.isascii() else 3 for letter in text) for text in texts]
        unknown = [text.count("?") for text in texts]
        return TokenCounts(12, tokens, unknown if self.unknown else None)


def test_a_spoken_model_hands_on_texts_with_their_language_if_its_tokenizer_has_one() -> None:
    spoken = Spoken(Heard(), "de", tells=True)
    assert spoken.encode_texts(["Hund"]) == [in_language("Hund", "de")]  # type: ignore[comparison-overlap]
    assert spoken.id == "heard"
    assert list(spoken.notes()) == []
    assert spoken.model.asked == [in_language(text, "de") for text in ("", "Hund")]
    assert Spoken(Heard(), "de", tells=False).encode_texts(["Hund"]) == ["Hund"]  # type: ignore[comparison-overlap]


@pytest.mark.parametrize(
    ("texts", "codes"),
    [
        (["a dog", "a cat"], []),
        ([], []),
        (["犬", "猫"], ["many_tokens"]),
        (["犬a", "猫a"], []),  # 4 tokens of 2 characters are not more than 2 for each
        (["a"] * 50 + ["a dog in a house"], ["cut_texts"]),  # 1 of 2 distinct texts
        ([f"{k:04}" for k in range(100)] + ["a dog in a house"], []),  # 1 of 101 is not over 1 %
        ([f"{k:04}" for k in range(98)] + ["a dog in a house"], ["cut_texts"]),  # 1 of 99 is
        ([f"{k:04}" for k in range(24)] + ["???0"], ["unknown_tokens"]),  # 3 of 100 letters
        ([f"{k:04}" for k in range(24)] + ["?000"], []),  # 1 of 100
    ],
)
def test_notes_of_how_a_language_is_read_stand_beyond_their_limits_alone(texts: list[str], codes: list[str]) -> None:
    spoken = Spoken(Heard(), "xx", tells=False)
    spoken.encode_texts(texts)
    assert [note.code for note in spoken.notes()] == codes
    assert all(code in CODES for code in codes)


def test_notes_say_the_numbers_and_a_vocabulary_of_bytes_knows_everything() -> None:
    spoken = Spoken(Heard(), "ja", tells=False)
    spoken.encode_texts(["犬", "a dog in a house", "?????"])
    assert [note.text for note in spoken.notes()] == [
        "1 of 3 distinct texts (33.3 %) are longer than the context of 12 tokens and are cut",
        "5 of 24 tokens (20.8 %) are unknown to the vocabulary, which reads all of them as one",
    ]
    spoken = Spoken(Heard(unknown=False), "ja", tells=False)
    spoken.encode_texts(["犬", "?????"])
    assert list(spoken.notes()) == []
    mute = Spoken(object(), "ja", tells=False)
    mute.heard["a"] = None
    assert list(mute.notes()) == []


def test_of_very_many_texts_evenly_spread_ones_are_counted() -> None:
    model = Heard()
    spoken = Spoken(model, "ja", tells=False)
    spoken.encode_texts([f"{k:05} and much more" for k in range(25_000)])
    (note,) = spoken.notes()
    assert len(model.asked) == 1 + 8334
    assert note.text.startswith("8,334 of 8,334 texts counted (100.0 %)")


@pytest.mark.parametrize(
    ("name", "found"),
    [("facebook/nllb-200-distilled-600M", True), ("xlm-roberta-base", False), (None, False)],
)
def test_nllb_is_known_by_its_tokenizer(name: str | None, found: bool, tmp_path: Path) -> None:
    assert takes_language({"text_cfg": {"hf_tokenizer_name": name}}) == found
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "NllbTokenizer"}')
    assert takes_language({"text_cfg": {"hf_tokenizer_name": str(tmp_path)}})
