"""The two towers a caption passes through, rebuilt on cached blocks: text tower, then image-conditioned decoder.

Shapes: b images, r rows (a multiple of b, an image's rows next to each other), n positions, V vocabulary.
"""

from functools import partial
from typing import Any

import torch
from open_clip.transformer import ResidualAttentionBlock, TextTransformer
from torch import Tensor, nn

from .blocks import CrossBlock, SelfBlock, Write, linear
from .cache import Cache


def is_causal(text: nn.Module) -> bool:
    """Tell whether this text tower can be cached: open_clip's own, causal, with standard attention blocks."""
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


def _writer(cache: Cache | None, layer: int) -> Write | None:
    return partial(cache.write, layer) if cache is not None else None


class TextTower:
    """open_clip's causal text tower without its CLS token, which comes last and so touches no other position."""

    def __init__(self, text: Any) -> None:
        self._text = text
        self._blocks = [SelfBlock(block) for block in text.transformer.resblocks]
        self.layers = len(self._blocks)
        self.dtype: torch.dtype = text.transformer.get_cast_dtype()

    def hidden_keys(self, tokens: Tensor, previous: Tensor) -> Tensor:
        """Tell which tokens are hidden as keys from all queries, themselves included; previous: the tokens before.

        A tower with a CLS token builds its padding mask shifted by one (`correct_cls_mask=False`), so that the key
        *after* a pad is hidden; since the causal mask is on top of it, this matters where a pad is not last.
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
        self.layers = len(self._blocks)

    def __call__(self, x: Tensor, mask: Tensor, cache: Cache | None) -> Tensor:
        """x: (r, n, width) token embeddings; returns hidden states (r, n, width)."""
        for layer, (attend, look) in enumerate(self._blocks):
            x = look(attend(x, mask, _writer(cache, layer)))
        return x

    def logits(self, hidden: Tensor) -> Tensor:
        """(..., width) -> (..., V)."""
        return self._project(self._decoder.ln_final(hidden))

    def keep(self, images: Tensor) -> None:
        """Keep only these images, in this order."""
        for _, look in self._blocks:
            look.keep(images)
