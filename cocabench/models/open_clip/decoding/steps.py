"""Next-token logits for growing captions, cached where the text tower is causal, recomputed where it is not.

Shapes: b images, n captions per image, p tokens of a prefix, V vocabulary.
"""

from typing import Any, Literal, Protocol, get_args

import torch
from torch import Tensor

from .cached import CachedSteps, of_parents
from .replay import ReplayedSteps, capture_cuda_graph
from .towers import ImageDecoder, additive, causal, is_causal


class Steps(Protocol):
    """What beam search and sampling ask of a model."""

    def start(self, prefix: Tensor) -> Tensor:
        """Begin one caption per image with these tokens (b, p); return the next token's logits (b, 1, V)."""

    def extend(self, tokens: Tensor, parents: Tensor) -> Tensor:
        """Continue with n captions: caption i is caption parents[:, i] plus tokens[:, i]; both (b, n) -> (b, n, V)."""

    def keep(self, images: Tensor) -> None:
        """Keep only these images, in this order; the others are finished."""


Stepping = Literal["cached", "cuda_graphs", "recomputed"]

SWEEP = 8  # steps between two sweeps of the cache


def prepare(model: Any, image_embs: Tensor, *, window: int, stepping: Stepping) -> Steps:
    """Return the stepper of encoded images (b, tokens, width).

    window: the model is shown at most this many last tokens of a caption; only if recomputed may one outgrow it.
    """
    if stepping not in get_args(Stepping):
        raise ValueError(f"stepping: got {stepping!r}, wanted one of {', '.join(get_args(Stepping))}")
    if stepping == "recomputed" or not is_causal(model.text):
        return PrefixSteps(model, image_embs, window)
    if stepping == "cuda_graphs":
        return ReplayedSteps(CachedSteps(model, image_embs, room=window), capture_cuda_graph)
    return CachedSteps(model, image_embs, room=SWEEP)


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
        self._captions = torch.cat([of_parents(self._captions, parents), tokens[:, :, None]], dim=2)
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
