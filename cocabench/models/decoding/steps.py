"""Next-token logits for growing captions, cached where the text tower is causal, recomputed where it is not.

Shapes: b images, n captions per image, p tokens of a prefix, V vocabulary.
"""

from typing import Any, Protocol

import torch
from torch import Tensor

from .blocks import KeyValues
from .towers import ImageDecoder, TextTower, additive, causal, is_causal


class Steps(Protocol):
    """What beam search and sampling ask of a model."""

    def start(self, prefix: Tensor) -> Tensor:
        """Begin one caption per image with these tokens (b, p); return the next token's logits (b, 1, V)."""

    def extend(self, tokens: Tensor, parents: Tensor) -> Tensor:
        """Continue with n captions: caption i is caption parents[:, i] plus tokens[:, i]; both (b, n) -> (b, n, V)."""

    def keep(self, images: Tensor) -> None:
        """Keep only these images, in this order; the others are finished."""


SWEEP = 8  # steps between two sweeps of the cache


def prepare(model: Any, images: Tensor, *, window: int, use_cache: bool) -> Steps:
    """Encode the images once and return their stepper.

    window: the model is shown at most this many last tokens of a caption; a caption must not outgrow it when cached.
    """
    _, image_embs = model.visual(images)
    if use_cache and is_causal(model.text):
        return CachedSteps(model, image_embs)
    return PrefixSteps(model, image_embs, window)


class CachedSteps:
    """Feeds only the newest tokens. All captions of an image share one pool of keys and values.

    A caption sees the entries of its own ancestors: `lineage` (b, n, entries) marks them, so a reordering of beams
    moves this mask and no keys. `text_lineage` also leaves out keys that the text tower hides (see `hidden_keys`).
    Every few steps a sweep drops the entries that no caption descends from any more, and makes room for new ones.
    """

    def __init__(self, model: Any, image_embs: Tensor) -> None:
        self._decoder = ImageDecoder(model.text_decoder, image_embs)
        self._text = TextTower(model.text)
        self._text_caches = [KeyValues() for _ in range(self._text.layers)]
        self._caches = [KeyValues() for _ in range(self._decoder.layers)]
        self._room = 0

    def start(self, prefix: Tensor) -> Tensor:
        length = prefix.shape[1]
        seen = causal(length, prefix.device).expand(len(prefix), -1, -1)
        shown = self._text.visible(prefix)
        hidden = self._run(prefix, torch.arange(length, device=prefix.device), seen, shown)
        self._lineage, self._text_lineage = seen[:, -1:], shown[:, -1:]
        self._last, self._length, self._room = prefix[:, -1:], length, 0
        return self._decoder.logits(hidden[:, -1:])

    def extend(self, tokens: Tensor, parents: Tensor) -> Tensor:
        images, captions = tokens.shape
        if not self._room:
            self._sweep(captions)
        itself = torch.eye(captions, dtype=torch.bool, device=tokens.device).expand(images, -1, -1)
        shown = itself & ~self._text.hidden_keys(tokens, self._last.gather(1, parents))[:, None]
        self._lineage = torch.cat([_of_parents(self._lineage, parents), itself], dim=2)
        self._text_lineage = torch.cat([_of_parents(self._text_lineage, parents), shown], dim=2)
        position = torch.tensor([self._length], device=tokens.device)
        self._last, self._length, self._room = tokens, self._length + 1, self._room - 1
        return self._decoder.logits(self._run(tokens, position, self._lineage, self._text_lineage))

    def keep(self, images: Tensor) -> None:
        self._decoder.keep(images)
        if self._caches[0].length:
            entries = torch.arange(self._caches[0].length, device=images.device).expand(len(images), -1)
            self._select(images, entries, self._room * self._last.shape[1])
            self._last = self._last[images]

    def _sweep(self, captions: int) -> None:
        """Keep the entries that some caption still sees; where an image has fewer than others, some dead ones too."""
        alive = self._lineage.any(dim=1)
        order = alive.sort(dim=1, descending=True, stable=True).indices[:, : int(alive.sum(1).max())]
        self._select(torch.arange(len(order), device=order.device), order, SWEEP * captions)
        self._room = SWEEP

    def _select(self, images: Tensor, entries: Tensor, room: int) -> None:
        for cache in (*self._text_caches, *self._caches):
            cache.select(images, entries, room)
        index = entries[:, None].expand(-1, self._lineage.shape[1], -1)
        self._lineage = self._lineage[images].gather(2, index)
        self._text_lineage = self._text_lineage[images].gather(2, index)

    def _run(self, tokens: Tensor, position: Tensor, seen: Tensor, shown: Tensor) -> Tensor:
        x = self._text(tokens, position, additive(shown, self._text.dtype), self._text_caches)
        return self._decoder(x, additive(seen, x.dtype), self._caches)


def _of_parents(lineage: Tensor, parents: Tensor) -> Tensor:
    return lineage.gather(1, parents[:, :, None].expand(-1, -1, lineage.shape[2]))


class PrefixSteps:
    """Feeds every caption whole at each step: right for any text tower; only the image's keys and values are kept."""

    def __init__(self, model: Any, image_embs: Tensor, window: int) -> None:
        self._model = model
        self._decoder = ImageDecoder(model.text_decoder, image_embs)
        self._window = window

    def start(self, prefix: Tensor) -> Tensor:
        self._captions = prefix[:, None]
        return self._logits()

    def extend(self, tokens: Tensor, parents: Tensor) -> Tensor:
        self._captions = torch.cat([_of_parents(self._captions, parents), tokens[:, :, None]], dim=2)
        return self._logits()

    def keep(self, images: Tensor) -> None:
        self._decoder.keep(images)
        if hasattr(self, "_captions"):
            self._captions = self._captions[images]

    def _logits(self) -> Tensor:
        return prefix_logits(self._model, self._decoder, self._captions[:, :, -self._window :])


def prefix_logits(model: Any, decoder: ImageDecoder, captions: Tensor) -> Tensor:
    """Run both towers over whole captions (b, n, p) and return the next token's logits (b, n, V)."""
    _, x = model.text(captions.flatten(0, 1))
    hidden = decoder(x, additive(causal(x.shape[1], x.device), x.dtype), None)
    return decoder.logits(hidden[:, -1].unflatten(0, captions.shape[:2]))
