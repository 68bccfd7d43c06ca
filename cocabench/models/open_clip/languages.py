"""NLLB-CLIP's tokenizer, which begins each text with the code of its language.

A text that is to be read in a language carries it: ``in_language("Hund", "de")``. So the cache and workers on other
devices, which know texts alone, keep languages apart.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from cocabench.core.errors import ModelError, unreadable
from cocabench.core.files import parse_json, read_text

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")

_SPOKEN = re.compile("\x01([^\x01\x02]+)\x02(.*)", re.DOTALL)


def in_language(text: str, language: str) -> str:
    """Return a text with its language, in clip-benchmark's codes (``de``, or FLORES-200's ``deu_Latn``)."""
    return f"\x01{language}\x02{text}"


def takes_language(config: Mapping[str, Any]) -> bool:
    """Return whether a model's tokenizer has languages: NLLB's, by its name on the hub or by its folder's files."""
    name = str(config["text_cfg"].get("hf_tokenizer_name") or "")
    file = Path(name) / "tokenizer_config.json"
    if Path(name).is_absolute() and file.is_file():
        try:
            content = parse_json(read_text(file))
        except (OSError, ValueError) as error:
            raise ModelError(str(file), unreadable(error)) from None
        return isinstance(content, dict) and str(content.get("tokenizer_class")).startswith("Nllb")
    return "nllb" in name.lower()


class LanguageTokenizer:
    """open_clip's HFTokenizer of an NLLB model, which is passed the language of each text.

    Texts without one are read in the language that the tokenizer was made with (English). It sets ``src_lang``: what
    clip-benchmark calls, ``set_src_lang_special_tokens``, is undone by the next call of a transformers tokenizer.
    """

    def __init__(self, id: str, tokenizer: Any) -> None:  # noqa: A002
        self.id, self._tokenizer = id, tokenizer
        self._default = str(getattr(tokenizer.tokenizer, "src_lang", "") or "eng_Latn")

    def __getattr__(self, name: str) -> Any:
        if name == "_tokenizer":  # not set yet, while it is unpickled
            raise AttributeError(name)
        return getattr(self._tokenizer, name)

    def __call__(self, texts: Sequence[str], context_length: int | None = None) -> Tensor:
        """Return token ids (n, context_length); ModelError for a language that NLLB does not have."""
        from torch import stack  # plans import this module, and never torch

        return stack(self.map(texts, lambda tokenizer, plain: tokenizer(plain, context_length)))

    def map(self, texts: Sequence[str], apply: Callable[[Any, list[str]], Iterable[T]]) -> list[T]:
        """Return what ``apply(tokenizer, texts of one language)`` returns for each text, in their order."""
        found: dict[int, T] = {}
        for language, places, plain in self._by_language(texts):
            self._tokenizer.tokenizer.src_lang = language
            found |= zip(places, apply(self._tokenizer, plain), strict=True)
        self._tokenizer.tokenizer.src_lang = self._default
        return [found[i] for i in range(len(texts))]

    def _by_language(self, texts: Sequence[str]) -> Iterator[tuple[str, list[int], list[str]]]:
        found: dict[str, list[tuple[int, str]]] = {}
        for i, text in enumerate(texts):
            match = _SPOKEN.fullmatch(text)
            code, plain = (self._code(match[1]), match[2]) if match else (self._default, text)
            found.setdefault(code, []).append((i, plain))
        for code, own in found.items():
            yield code, [i for i, _ in own], [plain for _, plain in own]

    def _code(self, language: str) -> str:
        """Return FLORES-200's code of a language, by clip-benchmark's map."""
        from clip_benchmark.models.nllb_clip import lang_map

        if code := lang_map.get(language) or lang_map.get(language.lower()):
            return str(code)
        fix = "use a model whose tokenizer needs no language"
        raise ModelError(self.id, f"clip-benchmark names no NLLB language for {language!r}", fix=fix)
