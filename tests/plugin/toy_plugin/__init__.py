"""A plugin package: an evaluator, a loader, a model adapter and a task file, found by entry points."""

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from cocabench.core.types import Dataset, Example, ImageFeatures, SampleScore
from cocabench.metrics.base import UNKNOWN, Metric
from cocabench.specs.spec import Spec


class Plain:
    def open(self) -> Image.Image:
        return Image.new("RGB", (8, 8))


class Blank(Spec):
    count: int = 3

    def build(self, root: Path, *, download: bool = False) -> Dataset:
        return Dataset("blank", "test", [Example(f"i{i}", Plain()) for i in range(self.count)])


class Norms(Spec):
    needs: ClassVar[str] = "contrastive"

    def protocol(self, dataset: Dataset) -> dict[str, Any]:
        return {}

    def classes(self, dataset: Dataset) -> tuple[str, ...]:
        return ()

    def notes(self, dataset: Dataset) -> tuple[str, ...]:
        return ()

    def remarks(self, dataset: Dataset, samples: Any) -> tuple[str, ...]:
        return ()

    def metrics(self, dataset: Dataset) -> list[Metric]:
        return [
            Metric(
                "norm", "Mean length.", "norm", lambda s: float(s["norm"].mean()), lambda s, rng: UNKNOWN, unit="score"
            )
        ]

    def unavailable(self) -> dict[str, str]:
        return {}

    def score(self, model: Any, dataset: Dataset, *, progress: Any) -> list[SampleScore]:
        rows = model.encode_images([e.image for e in dataset.examples], progress=progress).rows
        return [
            SampleScore(e.id, e.id, {"norm": float(np.linalg.norm(r))})
            for e, r in zip(dataset.examples, rows, strict=True)
        ]


class Ones:
    """A model that is its own source."""

    notes = ()
    abilities = frozenset({"encode"})
    available = True
    packages = ("numpy",)
    features_version = 1
    parameters: ClassVar[dict[str, int]] = {}

    def __init__(self, name: str) -> None:
        self.id = f"toy::{name}"

    def signature(self) -> dict[str, str]:
        return {"id": self.id}

    def load(self, hardware: Any) -> "Ones":
        return self

    def encode_images(self, images: Any, *, progress: Any) -> ImageFeatures:
        return ImageFeatures(np.full((len(images), 4), 0.5, np.float32), np.arange(len(images)))


def sources(spec: Any, *, download: bool) -> list[Ones]:
    return [Ones(spec.weights)]
