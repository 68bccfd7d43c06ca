"""Next-token logits of growing captions: cached for causal text towers, recomputed for others.

On CUDA, where launching kernels costs more than the kernels, cached steps can be captured once per shape and replayed.

Shapes: b images, n captions per image, p tokens of a prefix, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, Protocol, get_args

import torch
from torch import Tensor
from torch.nn.functional import pad

from cocabench.models.open_clip.decoding.towers import Cache, ImageDecoder, TextTower, additive, causal, is_causal


class CachedSteps:
    """Feeds only the newest tokens. All captions of an image share one pool of keys and values.

    A caption attends to the entries of its ancestors: `lineage` (b, n, capacity) marks them, so reordering beams moves
    this mask and no keys. `text_lineage` also excludes keys that the text tower hides (see `hidden_keys`). When the
    pool is full, a sweep drops the entries without descendants and makes room for `room` steps; between sweeps shapes
    are constant, and all state is in tensors that are written in place.
    """

    def __init__(self, model: Any, image_embs: Tensor, *, room: int) -> None:
        self.images, self._room, self._left = len(image_embs), room, 0
        self._decoder = ImageDecoder(model.text_decoder, image_embs)
        self._text = TextTower(model.text)

    def start(self, prefix: Tensor) -> Tensor:
        positions = torch.arange(prefix.shape[1], device=prefix.device)
        seen = causal(len(positions), prefix.device).expand(len(prefix), -1, -1)
        shown = self._text.visible(prefix)
        self._text_cache, self._cache = (Cache(positions) for _ in (self._text, self._decoder))
        hidden = self._run(prefix, positions, seen, shown)
        self._lineage, self._text_lineage = seen[:, -1:], shown[:, -1:]
        self._last, self._position = prefix[:, -1:], positions[-1:] + 1
        return self._decoder.logits(hidden[:, -1:])

    def extend(self, tokens: Tensor, parents: Tensor) -> Tensor:
        self.make_room(tokens.shape[1])
        return self.step(tokens, parents)

    def make_room(self, captions: int) -> bool:
        """Prepare for one step with this many captions per image; return whether shapes and buffers are new."""
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
            for cache in (self._text_cache, self._cache):
                cache.keep(images)
            self._lineage, self._text_lineage = self._lineage[images], self._text_lineage[images]
            self._last = self._last[images]

    def _sweep(self, captions: int) -> None:
        """Keep the entries that some caption attends to; images with fewer entries keep some unused ones."""
        alive = self._lineage.any(dim=1)
        kept, first = torch.stack([alive.sum(1).max(), alive.all(dim=0).cumprod(0).sum()]).tolist()
        entries, room = alive.sort(dim=1, descending=True, stable=True).indices[:, :kept], self._room * captions
        for cache in (self._text_cache, self._cache):
            cache.sweep(entries, first, room)

        def swept(lineage: Tensor) -> Tensor:
            found = lineage.gather(2, entries[:, None].expand(-1, lineage.shape[1], -1))
            return pad(found.expand(-1, captions, -1), (0, room))

        self._lineage, self._text_lineage = swept(self._lineage), swept(self._text_lineage)
        self._last = self._last.expand(-1, captions).clone()
        self._text_cache.slots = self._cache.slots = torch.arange(captions, device=entries.device) + kept
        self._left = self._room

    def _run(self, tokens: Tensor, positions: Tensor, seen: Tensor, shown: Tensor) -> Tensor:
        x = self._text(tokens, positions, additive(shown, self._text.dtype), self._text_cache)
        return self._decoder(x, additive(seen, x.dtype), self._cache)


def of_parents(lineage: Tensor, parents: Tensor) -> Tensor:
    """Give each caption (b, n) the row of its parent: (b, m, k) -> (b, n, k)."""
    return lineage.gather(1, parents[:, :, None].expand(-1, -1, lineage.shape[2]))


Step = Callable[[], Tensor]
"""Works in place on fixed tensors, and returns logits, which the next call may overwrite."""

MIN_FINISHED_FRACTION = (
    1 / 2
)  # finished images leave the batch from this fraction on, since every new shape is captured again


class ReplayedSteps:
    """The steps of a CachedSteps, replayed; shapes stay between its sweeps and until half of the images are finished.

    capture: turns a Step that has run before into one that does the same. It must not run what it captures.
    """

    def __init__(self, steps: CachedSteps, capture: Callable[[Step], Step]) -> None:
        self._steps, self._capture = steps, capture
        self._rows: Tensor | None = None  # positions of the remaining images among the images of the steps
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
        if len(self._rows) <= (1 - MIN_FINISHED_FRACTION) * self._steps.images:
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


class Steps(Protocol):
    """The interface that beam search and sampling use."""

    def start(self, prefix: Tensor) -> Tensor:
        """Begin one caption per image with these tokens (b, p); return the next token's logits (b, 1, V)."""

    def extend(self, tokens: Tensor, parents: Tensor) -> Tensor:
        """Continue with n captions: caption i is caption parents[:, i] plus tokens[:, i]; both (b, n) -> (b, n, V)."""

    def keep(self, images: Tensor) -> None:
        """Keep only these images, which ascend; the others are finished."""


class WatchedSteps:
    """Steps that show the leading caption (a, p) of each unfinished image, prompt included, before each is continued.

    Beams are fed best first, of several groups the first group's.
    """

    def __init__(self, steps: Steps, watch: Watch) -> None:
        self._steps, self._watch = steps, watch
        self._captions: Tensor | None = None

    def start(self, prefix: Tensor) -> Tensor:
        self._captions = prefix[:, None]
        return self._steps.start(prefix)

    def extend(self, tokens: Tensor, parents: Tensor) -> Tensor:
        assert self._captions is not None  # start comes first
        self._captions = torch.cat([of_parents(self._captions, parents), tokens[:, :, None]], dim=2)
        self._watch(self._captions[:, 0])
        return self._steps.extend(tokens, parents)

    def keep(self, images: Tensor) -> None:
        self._steps.keep(images)
        if self._captions is not None:
            self._captions = self._captions[images]


Watch = Callable[[Tensor], None]

Stepping = Literal["cached", "cuda_graphs", "recomputed"]

STEPS_PER_SWEEP = 8  # steps between two sweeps of the pool


def prepare(model: Any, image_embs: Tensor, *, window: int, stepping: Stepping) -> Steps:
    """Return the stepper for encoded images (b, tokens, width).

    window: the model sees at most this many last tokens of a caption; only recomputed captions may be longer.
    """
    if stepping not in get_args(Stepping):
        raise ValueError(f"stepping: got {stepping!r}, wanted one of {', '.join(get_args(Stepping))}")
    if stepping == "recomputed" or not is_causal(model.text):
        return PrefixSteps(Towers(model, image_embs), window)
    if stepping == "cuda_graphs":
        return ReplayedSteps(CachedSteps(model, image_embs, room=window), capture_cuda_graph)
    return CachedSteps(model, image_embs, room=STEPS_PER_SWEEP)


class Prefixes(Protocol):
    """A network that computes whole captions anew, for a batch of images."""

    def __call__(self, captions: Tensor) -> Tensor:
        """Return the next token's logits (b, n, V) of captions (b, n, p)."""

    def keep(self, images: Tensor) -> None:
        """Keep only these images, which ascend."""


class PrefixSteps:
    """Feeds whole captions at each step: correct for any text tower. window: the network sees this many last tokens."""

    def __init__(self, prefixes: Prefixes, window: int) -> None:
        self._prefixes, self._window = prefixes, window

    def start(self, prefix: Tensor) -> Tensor:
        self._captions = prefix[:, None]
        return self._logits()

    def extend(self, tokens: Tensor, parents: Tensor) -> Tensor:
        self._captions = torch.cat([of_parents(self._captions, parents), tokens[:, :, None]], dim=2)
        return self._logits()

    def keep(self, images: Tensor) -> None:
        self._prefixes.keep(images)
        if hasattr(self, "_captions"):
            self._captions = self._captions[images]

    def _logits(self) -> Tensor:
        return self._prefixes(self._captions[:, :, -self._window :])


class Towers:
    """Prefixes of open_clip's two towers; only the image's keys and values are cached."""

    def __init__(self, model: Any, image_embs: Tensor) -> None:
        self._model, self._decoder = model, ImageDecoder(model.text_decoder, image_embs)

    def __call__(self, captions: Tensor) -> Tensor:
        return prefix_logits(self._model, self._decoder, captions)

    def keep(self, images: Tensor) -> None:
        self._decoder.keep(images)


def prefix_logits(model: Any, decoder: ImageDecoder, captions: Tensor) -> Tensor:
    """Run both towers over whole captions (b, n, p) and return the next token's logits (b, n, V)."""
    _, x = model.text(captions.flatten(0, 1))
    hidden = decoder(x, additive(causal(x.shape[1], x.device), x.dtype), None)
    return decoder.logits(hidden[:, -1].unflatten(0, captions.shape[:2]))
