"""Texts of about one length together, cut to the longest of them; by the tower's own blocks, whatever these are."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from cocabench.models.open_clip.text.tower import Tower

BATCH_TOKENS = 256 * 77
"""Token positions in a batch."""


class Cut:
    """A causal tower in length buckets."""

    def __init__(self, tower: Tower) -> None:
        self._tower = tower

    def batches(self, token_ids: Tensor) -> Iterator[Tensor]:
        """Yield rows (k,) of about one length, the longest first."""
        lengths = self._tower.lengths(token_ids)
        order = lengths.argsort(descending=True, stable=True)
        start = 0
        while start < len(order):
            rows = max(1, BATCH_TOKENS // int(lengths[order[start]]))
            yield order[start : start + rows]
            start += rows

    def __call__(self, token_ids: Tensor) -> Tensor:
        """Return features (k, d), computing no position behind the longest text."""
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
