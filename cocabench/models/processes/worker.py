"""What each process does with its device: it holds one model and encodes its share."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, cast

import torch

from cocabench.core.errors import CocabenchError, ModelError
from cocabench.core.types import (
    Captioner,
    Captions,
    CaptionScorer,
    Features,
    ImageFeatures,
    ImageSource,
    Likelihoods,
    Model,
    Profiled,
    Progress,
    Workload,
)
from cocabench.models.hardware import Hardware
from cocabench.models.processes.ahead import Ahead
from cocabench.models.workers import start_ahead
from cocabench.specs.registry import ModelPlan


@dataclass
class Worker:
    """A device and the model on it. workers: data-loading processes where Hardware leaves their number open."""

    rank: int
    device: torch.device | None = None
    workers: int | None = None
    model: Model | None = None
    ahead: Ahead = field(default_factory=Ahead)

    def load(
        self, plan: ModelPlan, hardware: Hardware, then: ModelPlan | None = None, *, progress: Progress
    ) -> dict[str, int]:
        """Load a model in the place of the last one and begin to build the next; return its numbers of parameters."""
        self.model = None
        own = replace(hardware, device=self.device or hardware.device)
        if own.device.type == "cuda" and own.device.index is not None:
            torch.cuda.set_device(own.device)
        own = own if own.workers is not None else replace(own, workers=self.workers)
        start_ahead(own.workers)
        self.model = self.ahead.load(plan, own)
        self.ahead.start(then)
        return dict(self.model.parameters)

    def warnings(self, *, progress: Progress) -> tuple[str, ...]:
        return tuple(self._held.warnings)

    def encode_images(self, images: Sequence[ImageSource], *, progress: Progress) -> ImageFeatures:
        return self._held.encode_images(images, progress=progress)

    def encode_texts(self, blocks: Sequence[Sequence[str]], *, progress: Progress) -> list[Features]:
        """Return the rows of each block of texts. A block is encoded alone, so that no other moves its last digits."""
        done, rows = 0, []
        for block in blocks:
            rows.append(self._held.encode_texts(block))
            done += len(block)
            progress("texts", done, sum(map(len, blocks)))
        return rows

    def caption(self, images: Sequence[ImageSource], options: Mapping[str, Any], *, progress: Progress) -> Captions:
        return cast(Captioner, self._held).caption(images, options, progress=progress)

    def likelihoods(
        self, images: Sequence[ImageSource], texts: Sequence[Sequence[str]], *, progress: Progress
    ) -> Likelihoods | None:
        """Return how likely each image's texts are; None for no images, of which no number of texts is known."""
        if not isinstance(self._held, CaptionScorer):
            raise ModelError(
                "likelihood", f"a {type(self._held).__name__} says no likelihoods", wanted="open_clip's CoCa"
            )
        return self._held.likelihoods(images, texts, progress=progress) if len(images) else None

    def settle(self, *, progress: Progress) -> None:
        """Wait until the next model is built."""
        self.ahead.settle()

    def costs(self, work: Workload, *, progress: Progress) -> list[tuple[int, dict[str, Any]]]:
        """Return what the model costs; the first process measures, while the others wait."""
        if self.rank:
            return []
        if not isinstance(self._held, Profiled):
            raise ModelError("efficiency", f"a {type(self._held).__name__} cannot be profiled", wanted="open_clip's")
        return list(self._held.costs(work, progress=progress))

    @property
    def _held(self) -> Model:
        assert self.model is not None, "a model is loaded before it is asked"
        return self.model


class Answer(NamedTuple):
    """What a call gave, or how it failed."""

    value: Any = None
    error: Exception | None = None

    def get(self) -> Any:
        if self.error is not None:
            raise self.error
        return self.value


def answer(worker: Worker, method: str, arguments: Sequence[Any], *, progress: Progress) -> Answer:
    """Call a method of the worker. Every failure is an Answer, for the others wait to be told."""
    try:
        return Answer(getattr(worker, method)(*arguments, progress=progress))
    except CocabenchError as error:
        return Answer(error=error)
    except Exception as error:
        if worker.rank == 0:
            return Answer(error=error)
        logging.getLogger(__name__).critical("unforeseen error in process %d", worker.rank, exc_info=error)
        fix = "this is a bug; please report the traceback above"
        return Answer(error=CocabenchError(f"process {worker.rank}", f"{type(error).__name__}: {error}", fix=fix))
