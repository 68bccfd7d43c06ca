"""What a model costs: operations, speed and memory. Operations are exact; times are medians over repeats."""

from __future__ import annotations

import numpy as np

from cocabench.core.types import Unit
from cocabench.metrics.base import UNKNOWN, Interval, Metric, Samples

ENOUGH = 6
"""Repeats whose whole range covers the median with 95 % (1 - 2 / 2**6 = 96.9 %)."""


def _exact(name: str, unit: Unit, summary: str) -> Metric:
    return Metric(
        name=name,
        summary=summary,
        column=name,
        value=lambda samples: float(samples[name].iloc[0]),
        interval=lambda samples, rng: UNKNOWN,
        unit=unit,
        higher_is_better=False,
    )


def _median(name: str, unit: Unit, summary: str, *, higher_is_better: bool) -> Metric:
    def interval(samples: Samples, rng: np.random.Generator) -> Interval:
        values = samples[name]
        return Interval(float(values.min()), float(values.max())) if len(values) >= ENOUGH else UNKNOWN

    return Metric(
        name=name,
        summary=summary,
        column=name,
        value=lambda samples: float(samples[name].median()),
        interval=interval,
        unit=unit,
        higher_is_better=higher_is_better,
    )


def declared() -> tuple[Metric, ...]:
    """The metrics of an efficiency run; those of captions are undefined for a model without a decoder."""
    return (
        _exact("gflops", "gflops", "GFLOPs of one image and one text, and of a CoCa's decoder over it."),
        _exact("image_gflops", "gflops", "GFLOPs of one image; a multiplication with its addition counts as two."),
        _exact("text_gflops", "gflops", "GFLOPs of one text at full length."),
        _exact("decoder_gflops", "gflops", "GFLOPs of a CoCa's decoder over one image and one text."),
        _median("images_per_s", "per_s", "Images encoded a second, preprocessing aside.", higher_is_better=True),
        _median(
            "texts_per_s", "per_s", "Texts encoded a second at full length, tokenising aside.", higher_is_better=True
        ),
        _median("captions_per_s", "per_s", "Images captioned a second, preprocessing aside.", higher_is_better=True),
        _exact("peak_memory_mib", "mib", "Weights and the most memory beyond them, of all that is timed above."),
        _median(
            "train_step_s", "s", "Seconds of a training step: forward, loss, backward, AdamW.", higher_is_better=False
        ),
        _exact("train_memory_mib", "mib", "Peak memory of training: weights, gradients, AdamW's state, activations."),
    )
