"""Training batches, drawn at random from one seed."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from tools.demo.augment import augment, premultiplied
from tools.demo.configs import IMAGE_SIZE
from tools.demo.pictures import STYLES, TrainingSet
from tools.demo.recipes import Settings


class Batches:
    """Random (images, tokens) pairs: distinct emoji, each augmented, with a caption, in one of the styles that have it.

    pictures: what `shrunk` made of the data's.
    """

    def __init__(self, data: TrainingSet, pictures: Tensor, tokenizer: Any, settings: Settings) -> None:
        self._pictures = pictures
        self._drawn = torch.from_numpy(data.drawn) & torch.tensor([style in settings.styles for style in STYLES])
        self._flippable = torch.from_numpy(data.flippable)
        self._tokens: list[Tensor] = [tokenizer(captions) for captions in data.captions]
        self._settings = settings
        self._generator = torch.Generator().manual_seed(settings.seed)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        drawn = self._drawn.any(dim=1).nonzero().flatten()
        while True:
            for rows in drawn[torch.randperm(len(drawn), generator=self._generator)].split(self._settings.batch):
                if len(rows) == self._settings.batch:
                    yield self._images(rows), torch.stack([self._caption(row) for row in rows.tolist()])

    def _images(self, rows: Tensor) -> Tensor:
        styles = torch.multinomial(self._drawn[rows].float(), 1, generator=self._generator).flatten()
        rgb = augment(self._pictures[rows, styles], self._flippable[rows], IMAGE_SIZE, self._generator)
        return rgb * 2 - 1

    def _caption(self, row: int) -> Tensor:
        """Return the tokens of the CLDR name, which comes first, or of any of the other captions."""
        tokens = self._tokens[row]
        first, other = torch.rand(2, generator=self._generator).tolist()
        return tokens[0 if first < self._settings.named or len(tokens) == 1 else 1 + int(other * (len(tokens) - 1))]


def shrunk(data: TrainingSet) -> Tensor:
    """Return the pictures as premultiplied uint8 (n, styles, 4, t, t), t a quarter larger than the models' input."""
    size = IMAGE_SIZE * 5 // 4
    parts = [premultiplied(part) for part in torch.from_numpy(data.pictures).flatten(0, 1).split(256)]
    small = [F.interpolate(part, (size, size), mode="bilinear", antialias=True) for part in parts]
    whole = torch.cat([(part * 255).round().byte() for part in small])
    return whole.reshape(*data.pictures.shape[:2], 4, size, size)
