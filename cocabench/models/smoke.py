"""A short check of a device: the demo's features and captions there against the CPU's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cocabench.models.hardware import hardware
from cocabench.specs.registry import find_tasks, model_sources
from cocabench.specs.spec import parse_models


class Deviation(NamedTuple):
    """The largest absolute difference from the CPU in fp32, and the largest that rounding explains."""

    name: str
    found: float
    allowed: float


ALLOWED = {"fp32": 1e-4, "fp16": 2e-2, "bf16": 1e-1}


def deviations(device: str, *, images: int = 64, precisions: Sequence[str] = tuple(ALLOWED)) -> Iterator[Deviation]:
    """Yield the deviation of image features per precision, and the share of captions that differ in fp32."""
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
            ALLOWED[precision],
        )
        if precision == "fp32":
            other = model.caption(sources, {}).texts
            differing = sum(a != b for a, b in zip(captions, other, strict=True)) / len(captions)
            yield Deviation("captions in fp32 (share that differs)", differing, 0.05)
