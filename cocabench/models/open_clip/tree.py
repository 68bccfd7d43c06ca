"""Texts as a tree of their distinct prefixes, each node computed once.

In a causal tower a position depends only on the tokens up to it, so that texts with a common prefix share its
computation: ImageNet's 80,000 prompts have 0.33 million distinct prefixes, but 6.16 million positions when padded.
Nodes are numbered in the order of the sorted texts, so that the descendants of a node are the nodes directly after it,
and two comparisons decide whether a node is an ancestor.

Shapes: k texts of l positions, n nodes, b blocks of s queries with m keys.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from open_clip.coca_model import CoCa
from open_clip.model import CLIP
from open_clip.transformer import ResidualAttentionBlock, TextTransformer
from torch import Tensor, nn

from cocabench.models.open_clip.decoding.towers import SelfBlock, additive, attention


class Tower(NamedTuple):
    """A causal text tower.

    text: the module with its parts (the network itself for a CLIP). pool: the pooled position, cls if a CLS token is
    appended. normalize: whether the network's encode_text returns unit rows (CoCa).
    """

    text: Any
    pool: Literal["cls", "first", "argmax", "eos"]
    eos_id: int
    normalize: bool

    def lengths(self, token_ids: Tensor) -> Tensor:
        """Return how many tokens (k,) of each text (k, l) its feature depends on; a CLS token is not counted."""
        if self.pool == "cls":
            return self._until_first_pad(token_ids)
        if self.pool == "first":
            return token_ids.new_ones(len(token_ids))
        return (token_ids if self.pool == "argmax" else token_ids.eq(self.eos_id).int()).argmax(dim=1) + 1

    def _until_first_pad(self, token_ids: Tensor) -> Tensor:
        """The CLS token sees the pad after the last token, but no later ones."""
        positions = torch.arange(1, token_ids.shape[1] + 1, device=token_ids.device)
        last = (token_ids.ne(self.text.pad_id) * positions).amax(dim=1)
        return (last + 1).clamp(max=token_ids.shape[1])

    def features(self, hidden: Tensor) -> Tensor:
        """Return features (k, d) from the last layer at the pooled position: (k, width)."""
        pooled, projection = self.text.ln_final(hidden), self.text.text_projection
        if projection is not None:
            pooled = projection(pooled) if isinstance(projection, nn.Linear) else pooled @ projection
        return F.normalize(pooled, dim=-1) if self.normalize else pooled


def tower(net: Any) -> Tower | None:
    """Return the network's text tower, or None if it must run at full length."""
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


Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]

QUERIES_PER_BLOCK = 64
"""Queries that share one gather of keys: the queries themselves and the path to the first of them."""


class Trie(NamedTuple):
    """Nodes in order, and their attention.

    tokens (n,): -1 for a CLS token. positions (n,). read (k,): the pooled node of each text. keys (b, m): nodes that a
    block of queries may attend to. visible (b, s, m): which of them a query does attend to.
    """

    tokens: Ints
    positions: Ints
    read: Ints
    keys: Ints
    visible: Mask


def build_trie(token_ids: Ints, lengths: Ints, *, cls: bool, pad_id: int) -> Trie:
    """Return the trie of token_ids (k, l), each cut to its length (k,), at least 1; best in sorted order.

    cls: a CLS token follows each text, at position l, with open_clip's legacy mask: a key is hidden from all queries,
    including itself, if the token before it is padding.
    """
    paths = _Paths(token_ids, lengths, cls)
    tokens, positions = np.empty((2, paths.n), np.int64)
    ends, hidden = np.empty(paths.n, np.int64), np.zeros(paths.n, bool)
    row, position = np.nonzero(paths.own)
    node = paths.nodes[row, position]
    tokens[node], positions[node], ends[node] = token_ids[row, position], position, paths.ends()[row, position]
    read = paths.nodes[np.arange(len(lengths)), lengths - 1]
    if cls:
        hidden[node] = (position > 0) & (token_ids[row, position - 1] == pad_id)
        read = paths.leaves
        tokens[read], positions[read], ends[read] = -1, token_ids.shape[1], read + 1
        hidden[read] = token_ids[:, -1] == pad_id
    queries, keys, there = paths.blocks()
    query, key = queries[:, :, None], keys[:, None, :]
    visible = there[:, None, :] & ~hidden[key] & (key <= query) & (query < ends[key])
    return Trie(tokens, positions, read, keys, visible)


def new_nodes(token_ids: Ints, lengths: Ints) -> Ints:
    """Return the number of nodes (k,) that each text adds to those before it, without CLS tokens."""
    return lengths - _shared(token_ids, lengths)


def _shared(token_ids: Ints, lengths: Ints) -> Ints:
    """Return the length (k,) of the prefix that each text shares with the text before it."""
    alike = np.logical_and.accumulate(token_ids[1:] == token_ids[:-1], axis=1).sum(axis=1)
    return np.concatenate([[0], np.minimum(alike, np.minimum(lengths[1:], lengths[:-1]))])


class _Paths:
    """The node of each position of each text: nodes (k, l), undefined after its end. leaves (k,): the CLS tokens."""

    def __init__(self, token_ids: Ints, lengths: Ints, cls: bool) -> None:
        self.shared = _shared(token_ids, lengths)
        counts = lengths - self.shared + cls
        self.first = np.cumsum(counts) - counts
        self.n = int(counts.sum())
        self.leaves = self.first + counts - 1
        position = np.arange(token_ids.shape[1])
        self.own = (position >= self.shared[:, None]) & (position < lengths[:, None])
        offsets = (self.first - self.shared)[:, None] + position
        self.nodes = np.maximum.accumulate(np.where(self.own, offsets, -1), axis=0)

    def ends(self) -> Ints:
        """Return (k, l) the node after the last descendant of each text's and position's node."""
        parted = self.shared[:, None] <= np.arange(self.nodes.shape[1])
        at = np.where(parted, self.first[:, None], self.n)
        next_one = np.concatenate([at[1:], np.full((1, at.shape[1]), self.n)])
        return np.minimum.accumulate(next_one[::-1], axis=0)[::-1]

    def blocks(self) -> tuple[Ints, Ints, Mask]:
        """Return queries (b, s), keys (b, m): the path to the first query, then the block; and which keys exist."""
        starts = np.arange(0, self.n, QUERIES_PER_BLOCK)
        text = np.searchsorted(self.first, starts, side="right") - 1
        depth = self.shared[text] + starts - self.first[text]
        block = starts[:, None] + np.arange(QUERIES_PER_BLOCK)
        above = np.arange(depth.max())
        keys = np.concatenate([self.nodes[text][:, above], block], axis=1)
        there = np.concatenate([above < depth[:, None], block < self.n], axis=1)
        return np.minimum(block, self.n - 1), np.where(there, keys, 0), there


NODES_PER_BATCH_ON_CPU = 1024
"""Small enough for the activations to stay in the CPU's caches."""
NODES_PER_BATCH_ON_GPU = 1 << 15
"""Nodes per batch on other devices."""


def has_standard_blocks(tower: Tower) -> bool:
    """Return whether all blocks are open_clip's standard ones; only those can be decomposed."""
    return all(
        type(block) is ResidualAttentionBlock and type(block.attn) is nn.MultiheadAttention
        for block in tower.text.transformer.resblocks
    )


class Tree:
    """A causal tower of standard blocks over the distinct prefixes of a batch."""

    def __init__(self, tower: Tower) -> None:
        self._tower = tower

    def batches(self, token_ids: Tensor) -> Iterator[Tensor]:
        """Yield runs of sorted rows (k,) with about equal numbers of nodes."""
        lengths = self._tower.lengths(token_ids).numpy()
        on_cpu = self._tower.text.positional_embedding.device.type == "cpu"
        room = NODES_PER_BATCH_ON_CPU if on_cpu else NODES_PER_BATCH_ON_GPU
        cls = self._tower.pool == "cls"
        batch = np.cumsum(new_nodes(token_ids.numpy(), lengths) + cls) // room
        for rows in np.split(np.arange(len(batch)), np.flatnonzero(np.diff(batch)) + 1):
            yield torch.from_numpy(rows)

    def __call__(self, token_ids: Tensor) -> Tensor:
        """Return features (k, d)."""
        text, device = self._tower.text, token_ids.device
        cls, pad_id = self._tower.pool == "cls", getattr(text, "pad_id", 0)
        lengths = self._tower.lengths(token_ids)
        tree = build_trie(token_ids.cpu().numpy(), lengths.cpu().numpy(), cls=cls, pad_id=pad_id)
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
        """Return the blocks; built at the first batch, since layers depend on autocast."""
        return [TreeBlock(block) for block in self._tower.text.transformer.resblocks]


class TreeBlock(SelfBlock):
    """A self-attention block over nodes."""

    def __call__(self, x: Tensor, keys: Tensor, mask: Tensor, read: Tensor | None) -> Tensor:  # type: ignore[override]
        """Return nodes (n, width) after this block, or only those in read (k,).

        x: (n, width). keys: (b, m) nodes that s queries attend to. mask: (b, 1, s, m) additive.
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
