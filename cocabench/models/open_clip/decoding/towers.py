"""The two towers a caption passes through, rebuilt on cached blocks: text tower, then image-conditioned decoder.

open_clip's residual attention blocks are decomposed, so that keys and values can be kept between steps.

Shapes: b images, r rows (a multiple of b, an image's rows next to each other), n positions, h heads, e = width / h,
k keys, V vocabulary. Of a cache: n new entries per row, c capacity, m kept entries.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import torch
from open_clip.transformer import ResidualAttentionBlock, TextTransformer
from torch import Tensor, nn
from torch.nn import functional as F

Linear = Callable[[Tensor], Tensor]

Write = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""Stores new keys and values (r, n, width) and returns all of them (r, k, width)."""


def linear(weight: Tensor, bias: Tensor | None) -> Linear:
    """Return x -> x @ weight.T + bias.

    In fp32 on a CPU it uses oneDNN: for 3 to 100 rows it is 1.5 to 2 times faster than the BLAS behind `F.linear`.
    The weights are not packed: a packed copy, as torch's inductor makes it, would save a third of a step's linear
    layers, but packing costs as much as it saves in 30 steps, and half of the model's memory. Under autocast the
    weights are cast here, once, instead of at each step.
    """
    device = weight.device.type
    if torch.is_autocast_enabled(device):
        weight = weight.to(torch.get_autocast_dtype(device))
    if not _by_onednn(weight):
        return lambda x: F.linear(x, weight, bias)
    run, plain = torch.ops.mkldnn._linear_pointwise, weight.detach()
    return lambda x: run(x, plain, bias, "none", [], "")


def _by_onednn(weight: Tensor) -> bool:
    plain = weight.device.type == "cpu" and weight.dtype == torch.float32
    return plain and torch.backends.mkldnn.is_available() and bool(torch.backends.mkldnn.enabled)


def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """Return softmax(q k' / sqrt(e) + mask) v. q: (r, h, n, e); k, v: (r, h, k, e); mask: (r or 1, 1, n, k)."""
    if q.device.type == "cpu" and q.dtype != torch.float32:
        # torch's half-precision flash kernel for CPU is very slow on short sequences.
        scores: Tensor = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
        scores = scores if mask is None else scores + mask
        return torch.matmul(scores.softmax(-1), v)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


def of_rows(values: Tensor, rows: Tensor) -> Tensor:
    """Return values (2, r, …) of these rows (k,), which ascend; values are used up.

    On a CPU rows move to the front of the same memory: asking for fresh memory costs more than copying does.
    """
    if values.device.type != "cpu":
        return values[:, rows]
    for new, old in enumerate(rows.tolist()):
        if new != old:
            values[:, new] = values[:, old]
    return values[:, : len(rows)]


class Block:
    """The common parts of self- and cross-attention blocks: query side, output projection and MLP."""

    def __init__(self, block: Any) -> None:
        self._block = block
        self._heads = int(block.attn.num_heads)
        self._out = linear(block.attn.out_proj.weight, block.attn.out_proj.bias)
        self._up = linear(block.mlp.c_fc.weight, block.mlp.c_fc.bias)
        self._down = linear(block.mlp.c_proj.weight, block.mlp.c_proj.bias)

    def _split(self, x: Tensor) -> Tensor:
        """(r, n, width) -> (r, h, n, e)."""
        return x.view(*x.shape[:2], self._heads, -1).transpose(1, 2)

    def _finish(self, x: Tensor, attended: Tensor) -> Tensor:
        """Add attention (r, h, n, e) and MLP to the residual stream x: (r, n, width)."""
        block = self._block
        x = x + block.ls_1(self._out(attended.transpose(1, 2).flatten(2)))
        mlp: Tensor = block.ls_2(self._down(block.mlp.gelu(self._up(block.ln_2(x)))))
        return x + mlp


class SelfBlock(Block):
    """A causal self-attention block."""

    def __init__(self, block: Any) -> None:
        super().__init__(block)
        self._qkv = linear(block.attn.in_proj_weight, block.attn.in_proj_bias)

    def __call__(self, x: Tensor, mask: Tensor | None, write: Write | None) -> Tensor:
        """x: (r, n, width); mask: (r or 1, 1, n, k) additive; write: see `Write`. None: no mask, nothing stored."""
        q, k, v = self._qkv(self._block.ln_1(x)).chunk(3, dim=-1)
        if write is not None:
            k, v = write(k, v)
        return self._finish(x, attention(self._split(q), self._split(k), self._split(v), mask))


class CrossBlock(Block):
    """A block that attends to the image; its keys and values are computed once."""

    def __init__(self, block: Any, image_embs: Tensor) -> None:
        super().__init__(block)
        attn = block.attn
        width, weight, bias = attn.embed_dim, attn.in_proj_weight, attn.in_proj_bias
        self._q = linear(weight[:width], bias[:width])
        k, v = linear(weight[width:], bias[width:])(block.ln_1_kv(image_embs)).chunk(2, dim=-1)
        self._kv = torch.stack([self._split(k), self._split(v)])

    def __call__(self, x: Tensor) -> Tensor:
        """x: (r, n, width), the r / b rows of an image next to each other."""
        images = self._kv.shape[1]
        q = self._split(self._q(self._block.ln_1(x)).reshape(images, -1, x.shape[-1]))
        attended = attention(q, self._kv[0], self._kv[1], None)
        if len(x) != images:
            attended = attended.transpose(1, 2).reshape(len(x), -1, *attended.shape[1::2]).transpose(1, 2)
        return self._finish(x, attended)

    def keep(self, images: Tensor) -> None:
        """Keep only these images, which ascend."""
        self._kv = of_rows(self._kv, images)


class Cache:
    """The keys and values of every layer of a tower: a pool of entries per row, written in place.

    Shapes change in `keep` and `sweep` only, so that the steps between two of them can be captured and replayed.
    slots: (n,) positions of the next n entries; the writer advances it.
    """

    def __init__(self, slots: Tensor) -> None:
        self.slots = slots
        self._capacity = 0
        self._pools: dict[int, Tensor] = {}  # by layer: (2, r, c and spare entries, width)

    def write(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Put entries k, v (r, n, width) into the slots; return the layer's pool: (r, c, width) each.

        The first write determines the pool's capacity, until `sweep` changes it.
        """
        if layer not in self._pools:
            self._pools[layer], self._capacity = torch.stack([k, v]), k.shape[1]
        else:
            for part, new in zip(self._pools[layer], (k, v), strict=True):
                part.index_copy_(1, self.slots, new)
        keys, values = self._pools[layer][:, :, : self._capacity]
        return keys, values

    def keep(self, rows: Tensor) -> None:
        """Keep only these rows, which ascend."""
        self._pools = {layer: of_rows(pool, rows) for layer, pool in self._pools.items()}

    def sweep(self, entries: Tensor, first: int, room: int) -> None:
        """Keep of each row these entries (r, m), in this order; make room for further ones.

        first: entries before it stay where they are, so that a sweep of long captions costs what has changed in them.
        """
        self._capacity = entries.shape[1] + room
        self._pools = {layer: _swept(pool, entries, first, room) for layer, pool in self._pools.items()}


def _swept(pool: Tensor, entries: Tensor, first: int, room: int) -> Tensor:
    _, rows, size, width = pool.shape
    kept = entries.shape[1]
    places = (torch.arange(rows, device=pool.device)[:, None] * size + entries[:, first:]).flatten()
    moved = [part.flatten(0, 1)[places].unflatten(0, (rows, kept - first)) for part in pool]
    if size < kept + room:
        grown = pool.new_empty(2, rows, max(kept + room, size * 3 // 2), width)
        grown[:, :, :first] = pool[:, :, :first]
        pool = grown
    for part, own in zip(pool, moved, strict=True):
        part[:, first:kept] = own
    pool[:, :, kept : kept + room] = 0  # masked entries have weight 0 in attention, and 0 * NaN is NaN
    return pool


def is_causal(text: nn.Module) -> bool:
    """Return whether this text tower can be cached: open_clip's own, causal, with standard attention blocks."""
    if not isinstance(text, TextTransformer) or text.attn_mask is None:
        return False
    return all(
        type(block) is ResidualAttentionBlock and type(block.attn) is nn.MultiheadAttention
        for block in text.transformer.resblocks
    )


def context_limit(model: Any) -> int:
    """Return how many tokens fit into both towers."""
    return min(int(model.text.context_length), int(model.text_decoder.context_length))


def additive(visible: Tensor, dtype: torch.dtype) -> Tensor:
    """Return 0 where visible (r, n, k) and -inf elsewhere, with a head dimension: (r, 1, n, k)."""
    return torch.zeros_like(visible, dtype=dtype).masked_fill_(~visible, float("-inf")).unsqueeze(1)


def causal(length: int, device: torch.device) -> Tensor:
    """Return the visibility of a plain causal tower: (1, n, n), True where query i sees key j <= i."""
    return torch.ones(1, length, length, dtype=torch.bool, device=device).tril()


class Writes(Protocol):
    """What stores keys and values of each layer, as ``Cache`` does."""

    def write(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]: ...


def _writer(cache: Writes | None, layer: int) -> Write | None:
    return partial(cache.write, layer) if cache is not None else None


class TextTower:
    """open_clip's causal text tower without its CLS token, which is last and thus affects no other position."""

    def __init__(self, text: Any) -> None:
        self._text = text
        self._blocks = [SelfBlock(block) for block in text.transformer.resblocks]
        self.dtype: torch.dtype = text.transformer.get_cast_dtype()

    def hidden_keys(self, tokens: Tensor, previous: Tensor) -> Tensor:
        """Return which tokens are hidden as keys from all queries, including themselves; previous: the tokens before.

        A tower with a CLS token has its padding mask shifted by one (`correct_cls_mask=False`), so that the key *after*
        a pad is hidden; because of the causal mask this matters only for pads that are not last.
        """
        if self._text.cls_emb is None:
            return torch.zeros_like(tokens, dtype=torch.bool)
        shown = tokens if self._text.correct_cls_mask else previous
        return shown.eq(int(self._text.pad_id))

    def visible(self, tokens: Tensor) -> Tensor:
        """Return (r, n, n): which key j each query i of whole texts (r, n) sees."""
        previous = torch.cat([torch.full_like(tokens[:, :1], -1), tokens[:, :-1]], dim=1)
        return causal(tokens.shape[1], tokens.device) & ~self.hidden_keys(tokens, previous)[:, None]

    def __call__(self, tokens: Tensor, position: Tensor, mask: Tensor, cache: Cache | None) -> Tensor:
        """tokens: (r, n) at these positions: (n,) or (1,); returns token embeddings (r, n, width) for the decoder."""
        text = self._text
        x: Tensor = text.token_embedding(tokens).to(self.dtype) + text.positional_embedding[position].to(self.dtype)
        for layer, block in enumerate(self._blocks):
            x = block(x, mask, _writer(cache, layer))
        if text.cls_emb is None:
            x = text.ln_final(x)
        return x


class ImageDecoder:
    """open_clip's multimodal decoder for a fixed batch of images, whose keys and values are computed once."""

    def __init__(self, text_decoder: Any, image_embs: Tensor) -> None:
        self._decoder = text_decoder
        self._project = linear(text_decoder.text_projection.t(), None)
        self._blocks = [
            (SelfBlock(block), CrossBlock(cross, image_embs))
            for block, cross in zip(text_decoder.resblocks, text_decoder.cross_attn, strict=True)
        ]

    def __call__(self, x: Tensor, mask: Tensor, cache: Writes | None) -> Tensor:
        """x: (r, n, width) token embeddings; returns hidden states (r, n, width)."""
        for layer, (attend, look) in enumerate(self._blocks):
            x = look(attend(x, mask, _writer(cache, layer)))
        return x

    def logits(self, hidden: Tensor) -> Tensor:
        """(..., width) -> (..., V)."""
        return self._project(self._decoder.ln_final(hidden))

    def keep(self, images: Tensor) -> None:
        """Keep only these images, which ascend."""
        for _, look in self._blocks:
            look.keep(images)
