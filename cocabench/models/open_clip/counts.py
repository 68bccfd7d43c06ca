"""How many tokens texts have, by a tokenizer of open_clip."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from open_clip.tokenizer import HFTokenizer

from cocabench.models.open_clip.languages import LanguageTokenizer
from cocabench.models.tokens import TokenCounts, unknown_token

CLIPS_SPECIALS = 3
"""Start, end and class token, which HFTokenizer adds itself in its mode ``clips``."""


def count_tokens(tokenizer: Any, texts: Sequence[str]) -> TokenCounts | None:
    """Return how many tokens texts have before they are cut, None for tokenizers that do not say.

    Byte-level vocabularies know every token; their unknown ones are None.
    """
    context = getattr(tokenizer, "context_length", None)
    if context is None:
        return None
    if isinstance(tokenizer, LanguageTokenizer):
        return TokenCounts(context, *_columns(tokenizer.map(texts, _of_hub)))
    if isinstance(tokenizer, HFTokenizer):
        return TokenCounts(context, *_columns(_of_hub(tokenizer, texts)))
    if not hasattr(tokenizer, "encode"):
        return None
    return TokenCounts(context, [len(tokenizer.encode(text)) + 2 for text in texts])


Count = tuple[int, int | None]
"""Tokens, and of these unknown ones."""


def _columns(counts: Sequence[Count]) -> tuple[list[int], list[int] | None]:
    unknown = [n for _, n in counts if n is not None]
    return [n for n, _ in counts], unknown if len(unknown) == len(counts) else None


def _of_hub(tokenizer: Any, texts: Sequence[str]) -> list[Count]:
    """Return the counts of a tokenizer of the hub, with the special tokens that open_clip's wrapper adds."""
    bare = tokenizer.tokenizer_mode == "clips"
    more = CLIPS_SPECIALS if bare else 0
    cleaned = [tokenizer.clean_fn(text) for text in texts]
    ids = tokenizer.tokenizer(cleaned, truncation=False, add_special_tokens=not bare)["input_ids"] if texts else []
    unknown = unknown_token(tokenizer.tokenizer)
    return [(len(own) + more, None if unknown is None else own.count(unknown)) for own in ids]
