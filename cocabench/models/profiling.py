"""What a loaded model costs, repeat by repeat: counts first, then encoding, captioning and training."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, Protocol

import torch

from cocabench.core.types import Ability, Example, Progress, Workload
from cocabench.models.costs import Peak, gflops, seconds, training_step, weight_mib
from cocabench.models.footprint import GIB, STATE_BYTES, available
from cocabench.models.hardware import Hardware
from cocabench.models.loading import Transform
from cocabench.models.open_clip.build import Tokenizer
from cocabench.models.open_clip.captions import decode_options, special_ids
from cocabench.models.open_clip.decode import generate_scored
from cocabench.models.open_clip.decoding.towers import context_limit
from cocabench.models.training import saved_bytes, shapes_of

Found = tuple[int, dict[str, Any]]
Prepare = Callable[[Example, int], Callable[[], object]]
"""Given a repeat and a batch, what is to be timed."""


class Loaded(Protocol):
    """The parts of a loaded model that are measured."""

    net: Any
    tokenizer: Tokenizer
    hardware: Hardware
    compiled: Callable[[torch.Tensor], torch.Tensor] | None
    abilities: frozenset[Ability]

    @property
    def transform(self) -> Transform: ...
    def computing(self) -> AbstractContextManager[None]: ...


def costs(model: Loaded, work: Workload, progress: Progress) -> Iterator[Found]:
    """Yield (repeat, {metric: value}); what is known once is the first repeat's.

    It is computed as a run computes it. Inputs are a repeat's image and text, batch times over, preprocessed before and
    on the device. Before the repeats each work is done once untimed. Texts run at full length, which is what a text
    costs without its neighbours.
    """
    yield 0, gflops(model.net)
    peak = Peak(model.hardware.device)
    with peak:
        for name, prepare in _works(model, work.decoding).items():
            yield from _rates(model, work, name, prepare, progress)
    if peak.mib is not None:
        yield 0, {"peak_memory_mib": peak.mib + weight_mib(model.net)}
    yield from _training(model, len(work.repeats), work.train_batch, progress)


def _works(model: Loaded, decoding: Mapping[str, Any]) -> dict[str, Prepare]:
    device = model.hardware.device

    def pixels(example: Example, n: int) -> torch.Tensor:
        return torch.as_tensor(model.transform(example.image.open())).expand(n, -1, -1, -1).contiguous().to(device)

    def images(example: Example, n: int) -> Callable[[], object]:
        inputs = pixels(example, n)
        return partial(model.compiled or model.net.encode_image, inputs)

    def texts(example: Example, n: int) -> Callable[[], object]:
        inputs = model.tokenizer([example.texts[0]] * n).to(device)
        return lambda: model.net.encode_text(inputs)

    def captions(example: Example, n: int) -> Callable[[], object]:
        inputs, ids = pixels(example, n), special_ids(model.tokenizer, model.net)
        shortest = min(decoding["min_seq_len"], context_limit(model.net) - 1)
        options = decode_options({**decoding, "min_seq_len": shortest}, model.net)
        return lambda: generate_scored(model.net, inputs, options=options, **ids._asdict())

    found: dict[str, Prepare] = {"images_per_s": images, "texts_per_s": texts}
    return {**found, "captions_per_s": captions} if "caption" in model.abilities else found


def _rates(model: Loaded, work: Workload, name: str, prepare: Prepare, progress: Progress) -> Iterator[Found]:
    stage = name.removesuffix("_per_s")
    with model.hardware.precision_context(), model.computing():
        prepare(work.repeats[0], work.batch)()
    for number, example in enumerate(work.repeats):
        timed = prepare(example, work.batch)
        with model.hardware.precision_context(), model.computing():
            took = seconds(timed, model.hardware.device)
        progress(stage, number + 1, len(work.repeats))
        yield number, {name: work.batch / took}


def _training(model: Loaded, repeats: int, batch: int, progress: Progress) -> Iterator[Found]:
    """Time training steps on a copy of the network, or say that there is no room for one."""
    device, precision = model.hardware.device, model.hardware.precision
    if lacking := _lacking(model, batch):
        yield 0, {"remark": lacking}
        return
    peak = Peak(device)
    times = []
    with peak, training_step(model.net, batch, precision) as step:
        step()
        for number in range(repeats):
            times.append(seconds(step, device))
            progress("training steps", number + 1, repeats)
    yield from ((number, {"train_step_s": took}) for number, took in enumerate(times))
    if peak.mib is not None:
        yield 0, {"train_memory_mib": peak.mib}


def _lacking(model: Loaded, batch: int) -> str:
    """Return why no training step can be measured, '' where it can."""
    weights = sum(parameter.numel() for parameter in model.net.parameters())
    needed = STATE_BYTES * weights + saved_bytes(shapes_of(model.net), batch)
    free = available(str(model.hardware.device))
    if needed <= free:
        return ""
    return f"no training step measured: it needs about {needed / GIB:.1f} GiB, {free / GIB:.1f} GiB are free"
