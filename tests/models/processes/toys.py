"""Models that other processes can load, some of which die or fail there."""

import multiprocessing
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import JsonValue

from cocabench.core.errors import BadImageError
from cocabench.core.types import Captions, Features, ImageFeatures, ImageSource, Progress, silent
from cocabench.models.hardware import Hardware


@dataclass
class Toy:
    """Features tell which process made them, and of how many samples its call was."""

    behaviour: str
    parameters: Mapping[str, int]
    warnings: list[str]

    def encode_images(self, images: Sequence[ImageSource], *, progress: Progress = silent) -> ImageFeatures:
        if multiprocessing.parent_process() is not None:
            if self.behaviour == "dies":
                os.kill(os.getpid(), 9)
            if self.behaviour == "fails":
                raise BadImageError(str(images[0]), "not an image", fix="f")
            if self.behaviour == "surprises":
                raise ZeroDivisionError("division by zero")
            self.warnings.append("halved")
        progress("images", len(images), len(images))
        kept = np.array([i for i, source in enumerate(images) if "bad" not in str(source)], np.int64)
        rows = np.array([[hash_of(images[i]), os.getpid()] for i in kept], np.float32).reshape(-1, 2)
        return ImageFeatures(rows if len(rows) else np.empty((0, 0), np.float32), kept)

    def encode_texts(self, texts: Sequence[str], *, progress: Progress = silent) -> Features:
        return np.array([[len(text), len(texts), os.getpid()] for text in texts], np.float32)

    def caption(
        self, images: Sequence[ImageSource], options: Mapping[str, Any], *, progress: Progress = silent
    ) -> Captions:
        kept = np.array([i for i, source in enumerate(images) if "bad" not in str(source)], np.int64)
        return Captions(
            [f"{images[i]} {options['a']}" for i in kept],
            [float(i) for i in kept],
            kept,
            [i % 2 == 0 for i in kept],
            self.encode_images(images).rows if options.get("gives", True) else None,
        )


def hash_of(source: object) -> int:
    return int(str(source).rpartition(" ")[2])


@dataclass(frozen=True)
class Plan:
    """A ModelPlan of a Toy."""

    id: str = "toy"
    behaviour: str = ""
    notes: tuple[str, ...] = ()
    captions: bool = True
    at_hand: bool = True

    def signature(self) -> dict[str, JsonValue]:
        return {"id": self.id, "weights": self.behaviour}

    def load(self, hardware: Hardware) -> Toy:
        return Toy(self.behaviour, {"image_encoder": 7}, [f"on {hardware.device}"])
