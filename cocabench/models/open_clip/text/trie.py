"""Texts as a tree of their distinct prefixes, each node computed once.

In a causal tower what stands at a position depends on the tokens up to it alone, so that texts which begin alike share
everything up to where they part: ImageNet's 80,000 prompts have 0.33 million distinct prefixes, and 6.16 million
positions when padded. Nodes are numbered as they are met going through the sorted texts, so that the nodes below a node
follow it without a gap, and an ancestor is told from two numbers.

Shapes: k texts of l positions, n nodes, b blocks of s queries with m keys.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]

BLOCK = 64
"""Queries that share one gather of keys: themselves, and the path to the first of them."""


class Trie(NamedTuple):
    """Nodes in order, and what each sees.

    tokens (n,): -1 for a CLS token. positions (n,). read (k,): the node that is each text's feature. keys (b, m): nodes
    that a block of queries may look at. visible (b, s, m): which of them a query does look at.
    """

    tokens: Ints
    positions: Ints
    read: Ints
    keys: Ints
    visible: Mask


def build(token_ids: Ints, lengths: Ints, *, cls: bool, pad_id: int) -> Trie:
    """Return the trie of token_ids (k, l), each cut to its length (k,), at least 1; best in sorted order.

    cls: a CLS token comes behind each text, at position l, and open_clip's legacy mask holds: a key is hidden from all
    queries, itself among them, where the token before it is padding.
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
    """Return how many nodes (k,) each text adds to those before it, CLS tokens aside."""
    return lengths - _shared(token_ids, lengths)


def _shared(token_ids: Ints, lengths: Ints) -> Ints:
    """Return how many first tokens (k,) each text has in common with the text before it."""
    alike = np.logical_and.accumulate(token_ids[1:] == token_ids[:-1], axis=1).sum(axis=1)
    return np.concatenate([[0], np.minimum(alike, np.minimum(lengths[1:], lengths[:-1]))])


class _Paths:
    """Which node each position of each text is: nodes (k, l), meaningless behind a text's end. leaves (k,): the CLS."""

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
        """Return (k, l) the node behind the last one below the node of each text and position."""
        parted = self.shared[:, None] <= np.arange(self.nodes.shape[1])
        at = np.where(parted, self.first[:, None], self.n)
        next_one = np.concatenate([at[1:], np.full((1, at.shape[1]), self.n)])
        return np.minimum.accumulate(next_one[::-1], axis=0)[::-1]

    def blocks(self) -> tuple[Ints, Ints, Mask]:
        """Return queries (b, s), keys (b, m): the path to the first query, then the block; and which keys are there."""
        starts = np.arange(0, self.n, BLOCK)
        text = np.searchsorted(self.first, starts, side="right") - 1
        depth = self.shared[text] + starts - self.first[text]
        block = starts[:, None] + np.arange(BLOCK)
        above = np.arange(depth.max())
        keys = np.concatenate([self.nodes[text][:, above], block], axis=1)
        there = np.concatenate([above < depth[:, None], block < self.n], axis=1)
        return np.minimum(block, self.n - 1), np.where(there, keys, 0), there
