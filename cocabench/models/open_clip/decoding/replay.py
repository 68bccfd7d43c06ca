"""Steps that are captured once per shape and then replayed: on CUDA, launching kernels costs more than the kernels.

Shapes: b images, n captions per image, V vocabulary.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from .cached import CachedSteps

Step = Callable[[], Tensor]
"""Reads and writes tensors that stay where they are, and returns logits, which may be overwritten by the next call."""

LEAVE = 1 / 2  # finished images leave once they are this part of the batch: every new shape is captured anew


class ReplayedSteps:
    """The steps of a CachedSteps, replayed; shapes stay between its sweeps and until half of the images are finished.

    capture: turns a Step that has run before into one that does the same. It must not run what it captures.
    """

    def __init__(self, steps: CachedSteps, capture: Callable[[Step], Step]) -> None:
        self._steps, self._capture = steps, capture
        self._rows: Tensor | None = None  # where the images still asked for are among the images of the steps
        self._tokens = self._parents = torch.empty(0, 0)

    def start(self, prefix: Tensor) -> Tensor:
        self._rows = torch.arange(len(prefix), device=prefix.device)
        return self._steps.start(prefix)

    def extend(self, tokens: Tensor, parents: Tensor) -> Tensor:
        assert self._rows is not None  # start comes first
        if self._steps.make_room(tokens.shape[1]) or len(self._tokens) != self._steps.images:
            self._renew(tokens)
        self._tokens[self._rows], self._parents[self._rows] = tokens, parents
        logits = self._next()
        return logits if len(self._rows) == len(logits) else logits[self._rows]

    def keep(self, images: Tensor) -> None:
        if self._rows is None:
            return self._steps.keep(images)
        self._rows = self._rows[images]
        if len(self._rows) <= (1 - LEAVE) * self._steps.images:
            self._steps.keep(self._rows)
            self._rows = torch.arange(len(images), device=images.device)
        return None

    def _renew(self, like: Tensor) -> None:
        """Start over for new shapes: the next step runs as it is, the one after it is captured."""
        self._tokens, self._parents = (like.new_zeros(self._steps.images, like.shape[1]) for _ in range(2))
        self._runs, self._replay = 0, self._step

    def _step(self) -> Tensor:
        return self._steps.step(self._tokens, self._parents)

    def _next(self) -> Tensor:
        if self._runs == 1:
            self._replay = self._capture(self._step)
        self._runs += 1
        return self._replay()


def capture_cuda_graph(step: Step) -> Step:
    """Return the step as a CUDA graph. It must have run once, so that libraries have made their workspaces."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        logits = step()

    def replay() -> Tensor:
        graph.replay()
        return logits

    return replay
