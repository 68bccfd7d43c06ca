"""Next-token logits from cached keys and values, for causal text towers.

Shapes: b images, n captions per image, p tokens of a prefix, V vocabulary.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from .cache import Cache
from .towers import ImageDecoder, TextTower, additive, causal


class CachedSteps:
    """Feeds only the newest tokens. All captions of an image share one pool of keys and values.

    A caption sees the entries of its own ancestors: `lineage` (b, n, capacity) marks them, so a reordering of beams
    moves this mask and no keys. `text_lineage` also leaves out keys that the text tower hides (see `hidden_keys`).
    Whenever the pool is full, a sweep drops the entries that no caption descends from any more, and makes room for
    `room` steps; between sweeps all shapes stay, and all state is in tensors that are written in place.
    """

    def __init__(self, model: Any, image_embs: Tensor, *, room: int) -> None:
        self.images, self._room, self._left = len(image_embs), room, 0
        self._decoder = ImageDecoder(model.text_decoder, image_embs)
        self._text = TextTower(model.text)

    def start(self, prefix: Tensor) -> Tensor:
        positions = torch.arange(prefix.shape[1], device=prefix.device)
        seen = causal(len(positions), prefix.device).expand(len(prefix), -1, -1)
        shown = self._text.visible(prefix)
        self._text_cache, self._cache = (Cache(tower.layers, positions) for tower in (self._text, self._decoder))
        hidden = self._run(prefix, positions, seen, shown)
        self._lineage, self._text_lineage = seen[:, -1:], shown[:, -1:]
        self._last, self._position = prefix[:, -1:], positions[-1:] + 1
        return self._decoder.logits(hidden[:, -1:])

    def extend(self, tokens: Tensor, parents: Tensor) -> Tensor:
        self.make_room(tokens.shape[1])
        return self.step(tokens, parents)

    def make_room(self, captions: int) -> bool:
        """Prepare for one step with this many captions per image; tell whether shapes and buffers are new."""
        full = self._left == 0
        if full:
            self._sweep(captions)
        self._left -= 1
        return full

    def step(self, tokens: Tensor, parents: Tensor) -> Tensor:
        """See `Steps.extend`. Runs on tensors alone, in place, so that it can be captured."""
        hidden = self._text.hidden_keys(tokens, self._last.gather(1, parents))
        itself = torch.eye(tokens.shape[1], dtype=torch.bool, device=tokens.device).expand(len(tokens), -1, -1)
        for lineage, entries in ((self._lineage, itself), (self._text_lineage, itself & ~hidden[:, None])):
            lineage.copy_(of_parents(lineage, parents))
            lineage.index_copy_(2, self._cache.slots, entries)
        self._last.copy_(tokens)
        logits = self._decoder.logits(self._run(tokens, self._position, self._lineage, self._text_lineage))
        self._position += 1
        self._cache.slots += tokens.shape[1]
        return logits

    def keep(self, images: Tensor) -> None:
        self.images = len(images)
        self._decoder.keep(images)
        if hasattr(self, "_lineage"):
            entries = torch.arange(self._lineage.shape[2], device=images.device).expand(len(images), -1)
            self._select(images, entries, 0)
            self._last = self._last[images]

    def _sweep(self, captions: int) -> None:
        """Keep the entries that some caption still sees; where an image has fewer than others, some dead ones too."""
        alive = self._lineage.any(dim=1)
        order = alive.sort(dim=1, descending=True, stable=True).indices[:, : int(alive.sum(1).max())]
        self._lineage = self._lineage.expand(-1, captions, -1)
        self._text_lineage = self._text_lineage.expand(-1, captions, -1)
        self._last = self._last.expand(-1, captions).clone()
        self._select(torch.arange(len(order), device=order.device), order, self._room * captions)
        slots = torch.arange(captions, device=order.device) + order.shape[1]
        self._text_cache.slots = self._cache.slots = slots
        self._left = self._room

    def _select(self, images: Tensor, entries: Tensor, room: int) -> None:
        for cache in (self._text_cache, self._cache):
            cache.select(images, entries, room)
        index = entries[:, None].expand(-1, self._lineage.shape[1], -1)
        self._lineage = pad(self._lineage[images].gather(2, index), (0, room))
        self._text_lineage = pad(self._text_lineage[images].gather(2, index), (0, room))

    def _run(self, tokens: Tensor, positions: Tensor, seen: Tensor, shown: Tensor) -> Tensor:
        x = self._text(tokens, positions, additive(shown, self._text.dtype), self._text_cache)
        return self._decoder(x, additive(seen, x.dtype), self._cache)


def of_parents(lineage: Tensor, parents: Tensor) -> Tensor:
    """Give each caption (b, n) the row of its parent: (b, m, k) -> (b, n, k)."""
    return lineage.gather(1, parents[:, :, None].expand(-1, -1, lineage.shape[2]))
