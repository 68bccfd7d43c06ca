"""Text features: each distinct text is encoded once, and common prefixes are computed once.

open_clip pads every text to the context length (77) and computes the padding. In a causal tower nothing after the
pooled position can change it: texts are truncated there and share the computation of common prefixes, or, if the
tower's blocks are not standard ones, are truncated to the longest text of the batch. Towers without a causal mask,
towers that pool all positions or the last one, and towers that are not open_clip's own run at full length.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from cocabench.core.types import Progress, silent
from cocabench.models.open_clip.build import Tokenizer
from cocabench.models.open_clip.tree import Tower, Tree, has_standard_blocks, tower

TOKENS_PER_BATCH = 256 * 77
"""Token positions per batch."""


class Cut:
    """A causal tower in length buckets."""

    def __init__(self, tower: Tower) -> None:
        self._tower = tower

    def batches(self, token_ids: Tensor) -> Iterator[Tensor]:
        """Yield rows (k,) of similar length, longest first."""
        lengths = self._tower.lengths(token_ids)
        order = lengths.argsort(descending=True, stable=True)
        start = 0
        while start < len(order):
            rows = max(1, TOKENS_PER_BATCH // int(lengths[order[start]]))
            yield order[start : start + rows]
            start += rows

    def __call__(self, token_ids: Tensor) -> Tensor:
        """Return features (k, d), computing no position after the end of the longest text."""
        lengths = self._tower.lengths(token_ids)
        hidden = self._hidden(token_ids, int(lengths.max()))
        read = lengths - 1 if self._tower.pool != "cls" else torch.full_like(lengths, -1)
        return self._tower.features(hidden[torch.arange(len(hidden), device=hidden.device), read])

    def _hidden(self, token_ids: Tensor, length: int) -> Tensor:
        """Return the last layer (k, length, width), with a CLS token one position more."""
        text, ids = self._tower.text, token_ids[:, :length]
        dtype = text.transformer.get_cast_dtype()
        x = text.token_embedding(ids).to(dtype) + text.positional_embedding[:length].to(dtype)
        mask = text.attn_mask[:length, :length]
        if self._tower.pool == "cls":
            cls = text.cls_emb.to(dtype) + text.positional_embedding[token_ids.shape[1]].to(dtype)
            x = torch.cat([x, cls.expand(len(x), 1, -1)], dim=1)
            mask = text.attn_mask[: length + 1, : length + 1] + text._build_additive_mask(ids, length + 1, dtype)
        return torch.as_tensor(text.transformer(x, attn_mask=mask))


Encode = Callable[[Tensor], Tensor]
"""token_ids (k, context_length) -> features (k, d)."""


class TextEncoder(Protocol):
    """A way to run a text tower."""

    def batches(self, token_ids: Tensor) -> Iterator[Tensor]:
        """Yield the rows (k,) of distinct, sorted token_ids (n, context_length) that are encoded together."""

    def __call__(self, token_ids: Tensor) -> Tensor:
        """Return what the network's encode_text returns for token_ids (k, context_length), on its device: (k, d)."""


class Whole:
    """open_clip's own encode_text, at full length."""

    def __init__(self, net: Any) -> None:
        self._net = net

    def batches(self, token_ids: Tensor) -> Iterator[Tensor]:
        """Yield 256 rows at a time."""
        yield from torch.arange(len(token_ids)).split(256)

    def __call__(self, token_ids: Tensor) -> Tensor:
        return torch.as_tensor(self._net.encode_text(token_ids))


def text_encoder(net: Any) -> TextEncoder:
    """Return the fastest exact way to run the network's text tower."""
    parts = tower(net)
    if parts is None:
        return Whole(net)
    return Tree(parts) if has_standard_blocks(parts) else Cut(parts)


def encode_texts(net: Any, tokenizer: Tokenizer, texts: Sequence[str]) -> Tensor:
    """Return ``net.encode_text(tokenizer(texts))`` (n, d)."""
    return encode_tokens(net, tokenizer(list(texts)))


def encode_tokens(
    net: Any, token_ids: Tensor, *, run: Callable[[Encode, Tensor], Tensor] | None = None, progress: Progress = silent
) -> Tensor:
    """Return ``net.encode_text(token_ids)`` (n, d) of padded token_ids (n, context_length), equal rows bit-identical.

    run: called with the encoder and each batch of token_ids, returns its features; None: calls the encoder.
    """
    encode = text_encoder(net)
    distinct, inverse = token_ids.unique(dim=0, return_inverse=True)
    order, parts = list(encode.batches(distinct)), []
    for rows in order:
        parts.append(run(encode, distinct[rows]) if run else encode(distinct[rows]))
        progress("texts", sum(map(len, parts)), len(distinct))
    features = torch.cat(parts)
    return features[torch.cat(order).argsort()[inverse]]
