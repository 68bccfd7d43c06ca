"""Seeded noise images with made-up captions: data for what depends on shapes alone."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from PIL import Image
from pydantic import Field

from cocabench.core.types import Dataset, Example
from cocabench.specs.spec import Spec

WORDS = (
    "a", "the", "red", "small", "old", "of", "two", "dog", "street", "with", "and", "on", "grass", "man", "riding",
    "train", "near", "under", "blue", "plate",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class NoiseImage:
    """Square RGB noise that its seed determines."""

    seed: int
    size: int

    def open(self) -> Image.Image:
        """Return the image."""
        pixels = np.random.default_rng(self.seed).integers(0, 256, (self.size, self.size, 3), dtype=np.uint8)
        return Image.fromarray(pixels)

    def __str__(self) -> str:
        return f"noise {self.seed}"


class Synthetic(Spec):
    """Noise. It needs no files.

    images: how many. size: their side in pixels. words: the length of the captions, one per image.
    """

    images: Annotated[int, Field(ge=1)] = 6
    size: Annotated[int, Field(ge=1)] = 256
    words: Annotated[int, Field(ge=1)] = 10
    seed: int = 0

    def build(self, root: Path, *, download: bool = False) -> Dataset:
        """Return the noise. root is not looked at."""
        rng = random.Random(self.seed)
        examples = [
            Example(f"noise-{k}", NoiseImage(self.seed + k, self.size), (" ".join(rng.choices(WORDS, k=self.words)),))
            for k in range(self.images)
        ]
        return Dataset("synthetic", "noise", examples)
