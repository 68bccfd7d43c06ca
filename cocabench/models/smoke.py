"""A short check of a device: compare the demo's features and captions with those of the CPU."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cocabench.models.hardware import hardware
from cocabench.specs.registry import find_tasks, model_sources
from cocabench.specs.spec import parse_models


class Deviation(NamedTuple):
    """The largest absolute difference from fp32 on the CPU, and the tolerance for rounding."""

    name: str
    found: float
    allowed: float


TOLERANCES = {"fp32": 1e-4, "fp16": 2e-2, "bf16": 1e-1}


def deviations(device: str, *, images: int = 64, precisions: Sequence[str] = tuple(TOLERANCES)) -> Iterator[Deviation]:
    """Yield the deviation of image features per precision, and the share of fp32 captions that differ."""
    (task,) = find_tasks(["emoji_captions"])
    sources = [example.image for example in task.loader.build(Path()).examples[:images]]
    (source,) = model_sources(parse_models("demo/coca"))
    reference = source.load(hardware(device="cpu", precision="fp32"))
    expected, captions = reference.encode_images(sources).rows, reference.caption(sources, {}).texts
    for precision in precisions:
        model = source.load(hardware(device=device, precision=precision))
        yield Deviation(
            f"features in {precision}",
            float(np.abs(model.encode_images(sources).rows - expected).max()),
            TOLERANCES[precision],
        )
        if precision == "fp32":
            other = model.caption(sources, {}).texts
            differing = sum(a != b for a, b in zip(captions, other, strict=True)) / len(captions)
            yield Deviation("captions in fp32 (share that differs)", differing, 0.05)
