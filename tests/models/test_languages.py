"""NLLB-CLIP's tokenizer is told the language of each text, and the cache keeps languages apart."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from cocabench.core.errors import ModelError
from cocabench.models.open_clip.languages import LanguageTokenizer, Spoken, in_language, takes_language


class Nllb:
    """A tokenizer as open_clip wraps NLLB's: the first id is the language's."""

    LANGUAGES = ("eng_Latn", "deu_Latn", "jpn_Jpan", "zho_Hant")

    def __init__(self) -> None:
        self.tokenizer, self.language = self, "eng_Latn"

    def set_language(self, language: str) -> None:
        self.language = language

    def __call__(self, texts: Sequence[str], context_length: int | None = None) -> Tensor:
        return torch.tensor([[self.LANGUAGES.index(self.language), len(text)] for text in texts])


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


def test_a_spoken_model_hands_on_texts_with_their_language() -> None:
    class Heard:
        id = "heard"
        texts: list[str]

        def encode_texts(self, texts: Sequence[str], *, progress: Any) -> list[str]:
            return list(texts)

    spoken = Spoken(Heard(), "de")
    assert spoken.encode_texts(["Hund"]) == [in_language("Hund", "de")]  # type: ignore[comparison-overlap]
    assert spoken.id == "heard"


@pytest.mark.parametrize(
    ("name", "found"),
    [("facebook/nllb-200-distilled-600M", True), ("xlm-roberta-base", False), (None, False)],
)
def test_nllb_is_known_by_its_tokenizer(name: str | None, found: bool, tmp_path: Path) -> None:
    assert takes_language({"text_cfg": {"hf_tokenizer_name": name}}) == found
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "NllbTokenizer"}')
    assert takes_language({"text_cfg": {"hf_tokenizer_name": str(tmp_path)}})
