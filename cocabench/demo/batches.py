"""Training batches, drawn at random from one seed."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cocabench.demo.augment import augment
from cocabench.demo.configs import IMAGE_SIZE
from cocabench.demo.pictures import STYLES, TrainingSet

PROMPTS = ("an emoji of {}", "a drawing of {}", "a picture of {}", "{} emoji")
"""Templates that a few training captions are put into, so that classification prompts are not unknown text."""


@dataclass(frozen=True)
class Settings:
    """Everything that shapes a run. rate: peak learning rate; prompted: fraction of captions put into a template."""

    steps: int
    batch: int = 256
    rate: float = 1.5e-3
    decay: float = 0.1
    warmup: int = 100
    prompted: float = 0.15
    seed: int = 0
    styles: tuple[str, ...] = STYLES


class Batches:
    """Random (images, tokens) pairs: distinct emoji, each in one style, augmented, with one of its captions.

    An emoji's first caption, the CLDR name, is as likely as all the others together.
    """

    def __init__(self, data: TrainingSet, tokenizer: Any, settings: Settings) -> None:
        self._pictures = torch.from_numpy(data.pictures)
        self._styles = torch.tensor([STYLES.index(style) for style in settings.styles])
        self._flippable = torch.from_numpy(data.flippable)
        self._tokens: list[Tensor] = [tokenizer(captions) for captions in data.captions]
        self._prompted: list[list[Tensor]] = [
            [tokenizer([prompt.format(caption) for prompt in PROMPTS]) for caption in captions]
            for captions in data.captions
        ]
        self._settings = settings
        self._generator = torch.Generator().manual_seed(settings.seed)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            for rows in torch.randperm(len(self._pictures), generator=self._generator).split(self._settings.batch):
                if len(rows) == self._settings.batch:
                    yield self._images(rows), torch.stack([self._caption(row) for row in rows.tolist()])

    def _images(self, rows: Tensor) -> Tensor:
        styles = self._styles[torch.randint(len(self._styles), (len(rows),), generator=self._generator)]
        rgb = augment(self._pictures[rows, styles], self._flippable[rows], IMAGE_SIZE, self._generator)
        return rgb * 2 - 1

    def _caption(self, row: int) -> Tensor:
        choose, prompt, other = torch.rand(3, generator=self._generator).tolist()
        tokens = self._tokens[row]
        which = 0 if choose < 0.5 else int((choose - 0.5) * 2 * (len(tokens) - 1)) + (len(tokens) > 1)
        if prompt < self._settings.prompted:
            return self._prompted[row][which][int(other * len(PROMPTS))]
        return tokens[which]
