"""A causal text tower over a trie of texts: linear layers on its nodes, attention along its paths."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np
import torch
from open_clip.transformer import ResidualAttentionBlock
from torch import Tensor, nn

from cocabench.models.open_clip.decoding.blocks import SelfBlock, attention
from cocabench.models.open_clip.decoding.towers import additive
from cocabench.models.open_clip.text import trie
from cocabench.models.open_clip.text.tower import Tower

BATCH_NODES = 1024
"""Nodes in a batch on a CPU, whose caches then hold the activations."""
GPU_BATCH_NODES = 1 << 15
"""Nodes in a batch elsewhere."""


def has_standard_blocks(tower: Tower) -> bool:
    """Tell whether all blocks are open_clip's standard ones, which alone can be taken apart."""
    return all(
        type(block) is ResidualAttentionBlock and type(block.attn) is nn.MultiheadAttention
        for block in tower.text.transformer.resblocks
    )


class Tree:
    """A causal tower of standard blocks over the distinct prefixes of a batch."""

    def __init__(self, tower: Tower) -> None:
        self._tower = tower

    def batches(self, token_ids: Tensor) -> Iterator[Tensor]:
        """Yield runs of rows (k,), which are sorted, so that each has about as many nodes."""
        lengths = self._tower.lengths(token_ids).numpy()
        on_cpu = self._tower.text.positional_embedding.device.type == "cpu"
        room = BATCH_NODES if on_cpu else GPU_BATCH_NODES
        cls = self._tower.pool == "cls"
        batch = np.cumsum(trie.new_nodes(token_ids.numpy(), lengths) + cls) // room
        for rows in np.split(np.arange(len(batch)), np.flatnonzero(np.diff(batch)) + 1):
            yield torch.from_numpy(rows)

    def __call__(self, token_ids: Tensor) -> Tensor:
        """Return features (k, d)."""
        text, device = self._tower.text, token_ids.device
        cls, pad_id = self._tower.pool == "cls", getattr(text, "pad_id", 0)
        lengths = self._tower.lengths(token_ids)
        tree = trie.build(token_ids.cpu().numpy(), lengths.cpu().numpy(), cls=cls, pad_id=pad_id)
        tokens, positions, read, keys, visible = (torch.from_numpy(part).to(device) for part in tree)
        x = self._embedded(tokens, positions)
        mask = additive(visible, x.dtype)
        for block in self._blocks[:-1]:
            x = block(x, keys, mask, None)
        return self._tower.features(self._blocks[-1](x, keys, mask, read))

    def _embedded(self, tokens: Tensor, positions: Tensor) -> Tensor:
        text, dtype = self._tower.text, self._tower.text.transformer.get_cast_dtype()
        words = text.token_embedding(tokens.clamp(min=0)).to(dtype)
        if self._tower.pool == "cls":
            words = torch.where(tokens[:, None] < 0, text.cls_emb.to(dtype), words)
        return torch.as_tensor(words + text.positional_embedding[positions].to(dtype))

    @cached_property
    def _blocks(self) -> list[TreeBlock]:
        """Made at the first batch: how a layer is computed depends on autocast."""
        return [TreeBlock(block) for block in self._tower.text.transformer.resblocks]


class TreeBlock(SelfBlock):
    """A self-attention block over nodes."""

    def __call__(self, x: Tensor, keys: Tensor, mask: Tensor, read: Tensor | None) -> Tensor:  # type: ignore[override]
        """Return nodes (n, width) after this block, or those in read (k,) alone.

        x: (n, width). keys: (b, m) nodes that s queries look at. mask: (b, 1, s, m) additive.
        """
        q, k, v = self._qkv(self._block.ln_1(x)).chunk(3, dim=-1)
        blocks, size = mask.shape[0], mask.shape[2]
        q = nn.functional.pad(q, (0, 0, 0, blocks * size - len(q))).unflatten(0, (blocks, size))
        attended = attention(self._split(q), self._split(k[keys]), self._split(v[keys]), mask.to(q.dtype))
        attended = attended.transpose(1, 2).flatten(2).flatten(0, 1)[: len(x)]
        if read is not None:
            x, attended = x[read], attended[read]
        heads: Any = self._split(attended[None])
        return self._finish(x[None], heads)[0]
