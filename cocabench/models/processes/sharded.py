"""A Model that every process of a group holds and that encodes with all of them.

Samples are dealt in whole batches, so each batch holds what it would in one process: not a digit of a feature depends
on how many processes there are. (On the CPU the number of threads may move the last one; processes share the threads.)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from cocabench.core.types import Captions, Features, ImageFeatures, ImageSource, Likelihoods, Progress, Workload, silent
from cocabench.models.hardware import Hardware
from cocabench.models.processes.group import Group
from cocabench.specs.registry import ModelPlan

TEXTS = 2048
"""Texts that are dealt together: enough to fill a batch when they are cut to their lengths."""


@dataclass
class Sharded:
    """A model in every process of the group. batch: images that are dealt together."""

    group: Group
    batch: int
    parameters: Mapping[str, int]

    @classmethod
    def load(cls, group: Group, plan: ModelPlan, hardware: Hardware, then: ModelPlan | None = None) -> Self:
        """Let every process load the model, and begin to build the one that comes then."""
        first, *_ = group.ask("load", [(plan, hardware, then)] * group.size)
        return cls(group, hardware.images_per_batch, first)

    @property
    def warnings(self) -> Sequence[str]:
        """What each process has to say, once."""
        told = self.group.ask("warnings", [()] * self.group.size)
        return list(dict.fromkeys(text for one in told for text in one))

    def encode_images(self, images: Sequence[ImageSource], *, progress: Progress = silent) -> ImageFeatures:
        """Return unit rows for the images that could be read."""
        dealt = deal(len(images), self.batch, self.group.size)
        shares = [([images[i] for i in own],) for own in dealt]
        found: list[ImageFeatures] = self.group.ask("encode_images", shares, progress=_up_to(len(images), progress))
        kept = _kept(dealt, found)
        order = np.argsort(kept)
        return ImageFeatures(_rows([part.rows for part in found])[order], kept[order])

    def encode_texts(self, texts: Sequence[str], *, progress: Progress = silent) -> Features:
        """Return a unit row per text."""
        blocks = [texts[start : start + TEXTS] for start in range(0, len(texts), TEXTS)]
        shares = [(blocks[rank :: self.group.size],) for rank in range(self.group.size)]
        found = self.group.ask("encode_texts", shares, progress=_up_to(len(texts), progress))
        rows = [found[i % self.group.size][i // self.group.size] for i in range(len(blocks))]
        return np.concatenate(rows) if rows else np.empty((0, 0), np.float32)

    def caption(
        self, images: Sequence[ImageSource], options: Mapping[str, Any], *, progress: Progress = silent
    ) -> Captions:
        """Return a caption for each image that could be read."""
        dealt = deal(len(images), self.batch, self.group.size)
        shares = [([images[i] for i in own], options) for own in dealt]
        found: list[Captions] = self.group.ask("caption", shares, progress=_up_to(len(images), progress))
        kept = _kept(dealt, found)
        order = np.argsort(kept)
        texts, scores, cut = (
            [value for part in found for value in getattr(part, name)] for name in ("texts", "scores", "truncated")
        )
        sorted_cut = [cut[i] for i in order] if cut else []
        features = _features(found, order)
        return Captions([texts[i] for i in order], [scores[i] for i in order], kept[order], sorted_cut, features)

    def likelihoods(
        self, images: Sequence[ImageSource], texts: Sequence[Sequence[str]], *, progress: Progress = silent
    ) -> Likelihoods:
        """Return how likely each image's texts are as captions of it."""
        dealt = deal(len(images), self.batch, self.group.size)
        shares = [([images[i] for i in own], [texts[i] for i in own]) for own in dealt]
        asked = self.group.ask("likelihoods", shares, progress=_up_to(len(images), progress))
        found: list[Likelihoods] = [part for part in asked if part is not None]
        kept = _kept([own for own in dealt if len(own)], found)
        order = np.argsort(kept)
        logprobs, n_tokens = (np.concatenate([part[i] for part in found])[order] for i in (0, 1))
        return Likelihoods(logprobs, n_tokens, kept[order], _features(found, order))

    def costs(self, work: Workload, *, progress: Progress = silent) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield what the model costs on the first device, with nothing else going on in any process."""
        self.group.ask("settle", [()] * self.group.size)
        yield from self.group.ask("costs", [(work,)] * self.group.size, progress=progress)[0]


def deal(n: int, batch: int, size: int) -> list[NDArray[np.int64]]:
    """Return which of n samples each of size processes gets: whole batches in turn, in order."""
    numbers = np.arange(n)
    return [numbers[numbers // batch % size == rank] for rank in range(size)]


def _kept(
    dealt: Sequence[NDArray[np.int64]], found: Sequence[ImageFeatures | Captions | Likelihoods]
) -> NDArray[np.int64]:
    return np.concatenate([own[part.kept] for own, part in zip(dealt, found, strict=True)])


def _features(found: Sequence[Captions | Likelihoods], order: NDArray[np.int64]) -> Features | None:
    """Return the features that all processes made on the way, in order; None where one made none."""
    rows = [part.features for part in found if part.features is not None]
    return _rows(rows)[order] if len(rows) == len(found) else None


def _rows(parts: Sequence[Features]) -> Features:
    """Put the rows of all processes together; one that had no image does not know their width."""
    return np.concatenate([part for part in parts if len(part)] or [parts[0]])


def _up_to(total: int, progress: Progress) -> Progress:
    """Return a Progress that never tells of more than there is: the last share may be a smaller one."""
    whole = total

    def told(stage: str, done: int, total: int) -> None:
        progress(stage, min(done, whole), whole)

    return told
