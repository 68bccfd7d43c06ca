"""A short check of a device: compare the demo's features, captions and likelihoods with those of the CPU."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cocabench.core.types import Likelihoods
from cocabench.models.hardware import hardware
from cocabench.specs.registry import find_tasks, model_sources
from cocabench.specs.spec import parse_models


class Deviation(NamedTuple):
    """The largest absolute difference from fp32 on the CPU, and the tolerance for rounding."""

    name: str
    found: float
    allowed: float


TOLERANCES = {"fp32": 1e-4, "fp16": 2e-2, "bf16": 1e-1}
"""Of features, and of log-likelihoods per token (nats), of which some are below -8."""


def deviations(device: str, *, images: int = 64, precisions: Sequence[str] = tuple(TOLERANCES)) -> Iterator[Deviation]:
    """Yield the deviations of features and of likelihoods per precision, and the share of fp32 captions that differ."""
    (task,) = find_tasks(["emoji_captions"])
    examples = task.loader.build(Path()).examples[:images]
    sources, texts = [example.image for example in examples], [example.texts[:1] for example in examples]
    (source,) = model_sources(parse_models("demo/coca"))
    reference = source.load(hardware(device="cpu", precision="fp32"))
    expected, captions = reference.encode_images(sources).rows, reference.caption(sources, {}).texts
    likely = per_token(reference.score_captions(sources, texts))
    for precision in precisions:
        model = source.load(hardware(device=device, precision=precision))
        yield Deviation(
            f"features in {precision}",
            float(np.abs(model.encode_images(sources).rows - expected).max()),
            TOLERANCES[precision],
        )
        found = float(np.abs(per_token(model.score_captions(sources, texts)) - likely).max())
        yield Deviation(f"likelihoods per token in {precision}", found, TOLERANCES[precision])
        if precision == "fp32":
            other = model.caption(sources, {}).texts
            differing = sum(a != b for a, b in zip(captions, other, strict=True)) / len(captions)
            yield Deviation("captions in fp32 (share that differs)", differing, 0.05)


def per_token(scored: Likelihoods) -> NDArray[np.float64]:
    """Return the log-likelihoods per token (k, m)."""
    return scored.logprobs / scored.n_tokens
