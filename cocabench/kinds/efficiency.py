"""Efficiency: what a model costs on this machine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, JsonValue

from cocabench.core.types import Dataset, Model, Progress, SampleScore, Workload, silent
from cocabench.kinds.captioning import OPTIONS, Captioning
from cocabench.metrics.base import Metric, Samples
from cocabench.metrics.efficiency import declared
from cocabench.specs.spec import Spec

Positive = Annotated[int, Field(ge=1, strict=True)]


class Efficiency(Spec):
    """Count operations, and time encoding, captioning and training. Each image of the data is a repeat.

    batch_size, train_batch_size: samples at once; by default 8 and 4 on a CPU, 256 and 32 elsewhere.
    device: as --device; with the number of threads it is part of the protocol, so that times of different machines are
    never compared.
    """

    needs: ClassVar[Literal["contrastive", "captioner"]] = "contrastive"

    batch_size: Positive | None = None
    train_batch_size: Positive | None = None
    device: str = "auto"

    def protocol(self, dataset: Dataset) -> dict[str, JsonValue]:
        """Return the machine, batches and decoding; all of them move a time."""
        machine, threads = self._machine()
        batch, train = self._batches()
        return {
            "machine": machine,
            "threads": threads,
            "batch_size": batch,
            "train_batch_size": train,
            "decoding": _decoding(),
        }

    def _machine(self) -> tuple[str, int]:
        import torch

        from cocabench.models.hardware import hardware, machine_name

        return machine_name(hardware(device=self.device).device), torch.get_num_threads()

    def _batches(self) -> tuple[int, int]:
        from cocabench.models.hardware import hardware

        on_cpu = hardware(device=self.device).device.type == "cpu"
        batch, train = (8, 4) if on_cpu else (256, 32)
        return self.batch_size or batch, self.train_batch_size or train

    def metrics(self, dataset: Dataset) -> Sequence[Metric]:
        return declared()

    def classes(self, dataset: Dataset) -> Sequence[str]:
        return ()

    def notes(self, dataset: Dataset) -> Sequence[str]:
        return ()

    def remarks(self, dataset: Dataset, samples: Samples) -> Sequence[str]:
        told = samples["remark"].dropna() if "remark" in samples else ()
        return tuple(str(text) for text in told)

    def unavailable(self) -> dict[str, str]:
        return {}

    def score(self, model: Model, dataset: Dataset, *, progress: Progress = silent) -> Iterator[SampleScore]:
        work = Workload(dataset.examples, *self._batches(), _decoding())
        rows: list[dict[str, Any]] = [{} for _ in dataset.examples]
        for number, found in model.costs(work, progress=progress):
            rows[number] |= found
        for example, stats in zip(dataset.examples, rows, strict=True):
            yield SampleScore(example.id, example.id, stats)


def _decoding() -> dict[str, Any]:
    """Return how captions are decoded for timing: the defaults of captioning, to the full length."""
    options: Mapping[str, Any] = {name: getattr(Captioning(), name) for name in OPTIONS}
    return {**options, "min_seq_len": options["seq_len"] - 1}
