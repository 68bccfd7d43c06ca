"""How many tokens texts have."""

from __future__ import annotations

from typing import Any, NamedTuple


class TokenCounts(NamedTuple):
    """How many tokens n texts have, special ones included, and how many of these are unknown to the vocabulary.

    context: how many the model reads; it cuts what is longer. unknown: None where the tokenizer cannot tell.
    """

    context: int
    tokens: list[int]
    unknown: list[int] | None = None

    @property
    def cut(self) -> list[bool]:
        """Which texts are longer than the model reads."""
        return [n > self.context for n in self.tokens]


def unknown_token(tokenizer: Any) -> int | None:
    """Return the id of a hub tokenizer's unknown tokens; None without one, or if it is another token's (CLIP's)."""
    found: int | None = tokenizer.unk_token_id
    others = (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id, tokenizer.sep_token_id)
    return None if found in others else found
