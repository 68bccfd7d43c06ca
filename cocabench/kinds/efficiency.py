"""Efficiency: operations, speed and memory of a model on this machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated, Any, ClassVar

from pydantic import Field, JsonValue

from cocabench.core.types import (
    Ability,
    Context,
    Dataset,
    Machine,
    Model,
    Note,
    SampleScore,
    Unit,
    Workload,
)
from cocabench.kinds.base import Kind
from cocabench.kinds.shown import Column, Part, Presentation
from cocabench.metrics.base import UNKNOWN, Interval, Metric, Samples
from cocabench.metrics.statistics import Whole
from cocabench.specs.decoding import DEFAULTS, MEANINGS

Positive = Annotated[int, Field(ge=1, le=1_000_000, strict=True)]

MIN_REPEATS = 6
"""For an interval: the range of this many repeats covers the median with 96.9 % (1 - 2 / 2**6), at least 95 %."""

NOT_MEASURED = "remark"
"""The column that says what could not be measured; samples of 0.1 have it under this name."""


def _exact(name: str, unit: Unit, summary: str, label: str = "") -> Metric:
    first = Whole(lambda samples: float(samples[name].iloc[0]))
    return Metric(name, summary, first, (name,), unit, higher_is_better=False, role="cost", label=label)


def _median(name: str, unit: Unit, summary: str, label: str, *, higher_is_better: bool = True) -> Metric:
    median = Whole(lambda samples: float(samples[name].median()), _range_of(name))
    return Metric(name, summary, median, (name,), unit, higher_is_better, role="cost", label=label)


def _range_of(name: str) -> Callable[[Samples], Interval]:
    def spread(samples: Samples) -> Interval:
        values = samples[name]
        return Interval(float(values.min()), float(values.max())) if len(values) >= MIN_REPEATS else UNKNOWN

    return spread


TRAINING_STEP = "Seconds of a training step: forward, loss, backward, AdamW."
TRAINING_MEMORY = "Peak memory of training: weights, gradients, AdamW's state, activations."
METRICS = (
    _exact("gflops", "gflops", "GFLOPs of one image and one text, and of a CoCa's decoder over it.", "GFLOPs, whole"),
    _exact("image_gflops", "gflops", "GFLOPs of one image; a multiplication with its addition counts as two."),
    _exact("text_gflops", "gflops", "GFLOPs of one text at full length."),
    _exact("decoder_gflops", "gflops", "GFLOPs of a CoCa's decoder over one image and one text."),
    _median("images_per_s", "per_s", "Images encoded per second, without preprocessing.", "images per second"),
    _median("texts_per_s", "per_s", "Full-length texts encoded per second, without tokenising.", "texts per second"),
    _median("captions_per_s", "per_s", "Images captioned per second, without preprocessing.", "captions per second"),
    _exact(
        "peak_memory_mib",
        "mib",
        "Peak memory over everything timed above, weights included.",
        "peak memory, MiB",
    ),
    _median("train_step_s", "s", TRAINING_STEP, "train step, s", higher_is_better=False),
    _exact("train_memory_mib", "mib", TRAINING_MEMORY, "train memory, MiB"),
)


class Efficiency(Kind):
    """Count operations, and time encoding, captioning and training. Each image of the data is one repeat.

    batch_size, train_batch_size: samples per batch; by default 8 and 4 on a CPU, 256 and 32 on other devices.
    The protocol includes the machine and the number of threads, so that times of different machines are not compared.
    """

    name = "efficiency"
    declared = METRICS
    primaries = ("images_per_s",)
    samples = (
        *(Column(metric.name, "float", metric.summary) for metric in METRICS),
        Column(NOT_MEASURED, "text", "What could not be measured, and why"),
    )
    shown = Presentation(order=50, tables=(), costs=True)
    parts: ClassVar = {
        "machine": Part("machine on which times were measured"),
        "threads": Part("CPU threads"),
        "batch_size": Part("samples per encoding batch"),
        "train_batch_size": Part("samples per training step"),
        "decoding": Part("option of the decoder"),
        **{f"decoding.{key}": Part(words) for key, words in MEANINGS.items()},
    }

    batch_size: Positive | None = None
    train_batch_size: Positive | None = None

    def needs(self) -> frozenset[Ability]:
        return frozenset({"profile"})

    def protocol(self, data: Dataset, machine: Machine) -> dict[str, JsonValue]:
        """Return machine, batch sizes and decoding, which all affect times."""
        batch, train = self._batches(machine)
        return {
            "machine": machine.name,
            "threads": machine.threads,
            "batch_size": batch,
            "train_batch_size": train,
            "decoding": _decoding(),
        }

    def _batches(self, machine: Machine) -> tuple[int, int]:
        batch, train = (8, 4) if machine.device == "cpu" else (256, 32)
        return self.batch_size or batch, self.train_batch_size or train

    def sample_notes(self, data: Dataset, samples: Samples) -> Iterator[Note]:
        if NOT_MEASURED in samples:
            yield from (Note("not_profiled", str(text)) for text in samples[NOT_MEASURED].dropna())

    def score(self, model: Model, data: Dataset, context: Context) -> Iterator[SampleScore]:
        work = Workload(data.examples, *self._batches(context.machine), _decoding())
        rows: list[dict[str, Any]] = [{} for _ in data.examples]
        for number, found in model.costs(work, progress=context.progress):
            rows[number] |= found
        for example, stats in zip(data.examples, rows, strict=True):
            yield SampleScore(example.id, example.id, stats)


def _decoding() -> dict[str, Any]:
    """Return the decoding options for timing: the defaults of captioning, at full length."""
    return {**DEFAULTS.model_dump(), "min_seq_len": DEFAULTS.seq_len - 1}
