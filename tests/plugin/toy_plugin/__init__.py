"""A plugin package: a kind of task, a loader, a model adapter and a task file, found by entry points."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from cocabench.core.types import Context, Dataset, Example, ImageFeatures, Model, SampleScore
from cocabench.data.base import LocalLoader
from cocabench.data.images import FileImage
from cocabench.kinds.base import Kind
from cocabench.kinds.shown import Column
from cocabench.metrics.base import Metric
from cocabench.metrics.statistics import Mean
from cocabench.specs.spec import Spec


class Plain:
    def open(self) -> Image.Image:
        return Image.new("RGB", (8, 8))


REGIONS = ("north", "south")


class Blank(Spec):
    """Blank images from two regions. split: another one has twice as many."""

    count: int = 3
    split: str = "test"

    def build(self, root: Path, *, download: bool = False) -> Dataset:
        number = self.count if self.split == "test" else 2 * self.count
        rows = [Example(f"i{i}", Plain(), metadata={"region": REGIONS[i % 2]}) for i in range(number)]
        return Dataset("blank", self.split, rows)


@dataclass(frozen=True)
class HeldImage(FileImage):
    """An image that cannot be decoded as long as NAME.held is beside it. NAME.asked appears when somebody waits."""

    def open(self) -> Image.Image:
        held = self.path.with_suffix(".held")
        while held.exists():
            held.with_suffix(".asked").touch()
            time.sleep(0.02)
        return super().open()


class Held(LocalLoader):
    """The first two images of a folder, with a caption each; the second may be held."""

    def build(self, root: Path, *, download: bool = False) -> Dataset:
        first, second = sorted(self.folder(root).glob("*.png"))[:2]
        rows = [Example("one", FileImage(first), ("one",)), Example("two", HeldImage(second), ("two",))]
        return Dataset("held", "all", rows)


NORM = Metric("norm", "Mean length.", Mean("norm"), ("norm",), unit="number")
NORTH = Metric("norm_north", "Mean length in the north.", Mean("north"), ("north",), unit="number")
LONGER = Metric("longer", "Mean length less that of training images.", Mean("longer"), ("longer",), unit="number")


class Norms(Kind):
    """How long features are, by region, and against those of the training images."""

    name = "norms"
    declared = (NORM, NORTH, LONGER)
    samples = (
        Column("norm", "float", "Length of the feature"),
        Column("north", "float", "The same, of images from the north"),
        Column("longer", "float", "Length less the training images' mean length"),
    )

    def extra_data(self) -> Mapping[str, str]:
        return {"train": "train"}

    def score(self, model: Model, data: Dataset, context: Context) -> Iterator[SampleScore]:
        norms, before = (self._norms(model, some) for some in (data, context.data["train"]))
        for example, norm in zip(data.examples, norms, strict=True):
            north = {"north": norm} if example.metadata["region"] == "north" else {}
            yield SampleScore(example.id, example.id, {"norm": norm, "longer": norm - before.mean(), **north})

    def _norms(self, model: Model, data: Dataset) -> Any:
        return np.linalg.norm(model.encode_images([e.image for e in data.examples]).rows.astype(float), axis=1)


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
        return {"id": self.id, "weights": "0.5", "preprocess": "", "vocabulary": ""}

    def load(self, hardware: Any) -> "Ones":
        return self

    def encode_images(self, images: Any, *, progress: Any) -> ImageFeatures:
        return ImageFeatures(np.full((len(images), 4), 0.5, np.float32), np.arange(len(images)))


def sources(spec: Any, *, download: bool) -> list[Ones]:
    return [Ones(spec.weights)]
