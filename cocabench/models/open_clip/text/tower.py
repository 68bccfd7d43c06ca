"""The parts of an open_clip text tower that can be cut short, and which position of a text it reads."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from open_clip.coca_model import CoCa
from open_clip.model import CLIP
from open_clip.transformer import TextTransformer
from torch import Tensor, nn


class Tower(NamedTuple):
    """A causal text tower.

    text: the module that holds its parts (the network itself for a CLIP). pool: which position is read, cls where a CLS
    token comes last. normalize: whether the network's encode_text returns unit rows (CoCa).
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
        """CLS sees the pad behind the last token, and none behind that one."""
        positions = torch.arange(1, token_ids.shape[1] + 1, device=token_ids.device)
        last = (token_ids.ne(self.text.pad_id) * positions).amax(dim=1)
        return (last + 1).clamp(max=token_ids.shape[1])

    def features(self, hidden: Tensor) -> Tensor:
        """Return features (k, d) from the last layer where it is read: (k, width)."""
        pooled, projection = self.text.ln_final(hidden), self.text.text_projection
        if projection is not None:
            pooled = projection(pooled) if isinstance(projection, nn.Linear) else pooled @ projection
        return F.normalize(pooled, dim=-1) if self.normalize else pooled


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
