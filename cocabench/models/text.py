"""Texts to features, each distinct text once, and no longer than it is.

open_clip pads every text to the context length (77) and computes the padding. In a causal tower nothing behind the
position that is read can change it, so a batch is cut to its longest text. CoCa reads a CLS token at the very end; its
mask hides all padding but the first pad, so this tower too can be cut, and the CLS keeps its position. Towers without a
causal mask, that pool all positions or the last one, or that are not open_clip's own run at full length.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from open_clip.coca_model import CoCa
from open_clip.model import CLIP
from open_clip.transformer import TextTransformer
from torch import Tensor, nn

from cocabench.models.build import Tokenizer
from cocabench.types import Progress, silent

BATCH_TOKENS = 256 * 77
"""Token positions in a batch."""


class Tower(NamedTuple):
    """An open_clip text tower that can be cut short.

    text: the module that holds its parts (the network itself for a CLIP). pool: which position is read, cls where a CLS
    token comes last. normalize: whether the network's encode_text returns unit rows (CoCa).
    """

    text: Any
    pool: Literal["cls", "first", "argmax", "eos"]
    eos_id: int
    normalize: bool


def tower(net: Any) -> Tower | None:
    """Return the network's text tower, or None where it must run at full length."""
    text = net if isinstance(net, CLIP) else getattr(net, "text", None)
    if not isinstance(text, CLIP | TextTransformer) or text.attn_mask is None:
        return None
    if isinstance(text, CLIP):
        pool, eos_id = text.text_pool_type, text.text_eos_id
    else:
        pool, eos_id = "cls" if text.cls_emb is not None else text.pool_type, text.eos_id
    if pool not in ("cls", "first", "argmax", "eos") or getattr(text, "correct_cls_mask", False):
        return None
    return Tower(text, pool, eos_id, normalize=isinstance(net, CoCa))


def encode_texts(net: Any, tokenizer: Tokenizer, texts: Sequence[str]) -> Tensor:
    """Return ``net.encode_text(tokenizer(texts))`` (n, d)."""
    return encode_tokens(net, tokenizer(list(texts)))


def encode_tokens(
    net: Any, token_ids: Tensor, *, encode: Callable[[Tensor], Tensor] | None = None, progress: Progress = silent
) -> Tensor:
    """Return ``net.encode_text(token_ids)`` (n, d) of padded token_ids (n, context_length), equal rows sharing bits.

    encode: what is called for each batch of token_ids (k, context_length) instead of ``encode_batch(net, …)``.
    """
    encode = partial(encode_batch, net) if encode is None else encode
    distinct, inverse = token_ids.unique(dim=0, return_inverse=True)
    order = list(batches(net, distinct))
    parts = []
    for rows in order:
        parts.append(encode(distinct[rows]))
        progress("texts", sum(map(len, parts)), len(distinct))
    features = torch.cat(parts)
    return features[torch.cat(order).argsort()[inverse]]


def batches(net: Any, token_ids: Tensor) -> Iterator[Tensor]:
    """Yield the rows (k,) of token_ids (n, l) that are encoded together: of about one length, the longest first."""
    lengths = kept_lengths(net, token_ids)
    order = lengths.argsort(descending=True, stable=True)
    start = 0
    while start < len(order):
        rows = max(1, BATCH_TOKENS // int(lengths[order[start]]))
        yield order[start : start + rows]
        start += rows


def kept_lengths(net: Any, token_ids: Tensor) -> Tensor:
    """Return how many tokens (n,) of each text its feature depends on."""
    parts = tower(net)
    if parts is None:
        return torch.full(token_ids.shape[:1], token_ids.shape[1])
    if parts.pool == "cls":
        return _until_first_pad(token_ids, parts.text.pad_id)
    return _position_read(token_ids, parts) + 1


def _until_first_pad(token_ids: Tensor, pad_id: int) -> Tensor:
    """Return the length up to the last token that is not padding and the one pad behind it, which CLS sees."""
    positions = torch.arange(1, token_ids.shape[1] + 1, device=token_ids.device)
    last = (token_ids.ne(pad_id) * positions).amax(dim=1)
    return (last + 1).clamp(max=token_ids.shape[1])


def _position_read(token_ids: Tensor, parts: Tower) -> Tensor:
    if parts.pool == "first":
        return token_ids.new_zeros(len(token_ids))
    return (token_ids if parts.pool == "argmax" else token_ids.eq(parts.eos_id).int()).argmax(dim=1)


def encode_batch(net: Any, token_ids: Tensor) -> Tensor:
    """Return ``net.encode_text(token_ids)`` (k, d), computing no position behind the longest text."""
    parts = tower(net)
    if parts is None:
        return torch.as_tensor(net.encode_text(token_ids))
    return _read(_hidden(parts, token_ids, int(kept_lengths(net, token_ids).max())), token_ids, parts)


def _hidden(parts: Tower, token_ids: Tensor, length: int) -> Tensor:
    """Return the last layer (k, length, width), with a CLS token one position more."""
    text, ids = parts.text, token_ids[:, :length]
    dtype = text.transformer.get_cast_dtype()
    x = text.token_embedding(ids).to(dtype) + text.positional_embedding[:length].to(dtype)
    mask = text.attn_mask[:length, :length]
    if parts.pool == "cls":
        cls = text.cls_emb.to(dtype) + text.positional_embedding[token_ids.shape[1]].to(dtype)
        x = torch.cat([x, cls.expand(len(x), 1, -1)], dim=1)
        mask = text.attn_mask[: length + 1, : length + 1] + text._build_additive_mask(ids, length + 1, dtype)
    return torch.as_tensor(text.transformer(x, attn_mask=mask))


def _read(hidden: Tensor, token_ids: Tensor, parts: Tower) -> Tensor:
    rows = torch.arange(len(hidden), device=hidden.device)
    position = torch.full_like(rows, -1) if parts.pool == "cls" else _position_read(token_ids, parts)
    pooled = parts.text.ln_final(hidden[rows, position])
    projection = parts.text.text_projection
    if projection is not None:
        pooled = projection(pooled) if isinstance(projection, nn.Linear) else pooled @ projection
    return F.normalize(pooled, dim=-1) if parts.normalize else pooled
