"""The costs of a network: operations counted from shapes; time and memory measured on its device, per repeat."""

from __future__ import annotations

import ctypes
import gc
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
from open_clip.coca_model import CoCa
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from cocabench.core.types import Ability, Example, Progress, Workload
from cocabench.data.images import shown
from cocabench.models.contexts import in_precision
from cocabench.models.hardware import Hardware
from cocabench.models.open_clip.blueprint import Blueprint
from cocabench.models.open_clip.build import Tokenizer, meta_network, tower_parameters
from cocabench.models.open_clip.captions import decode_options, special_ids
from cocabench.models.open_clip.decoding.generate import generate_scored
from cocabench.models.open_clip.decoding.towers import context_limit
from cocabench.models.pixels import Transform
from cocabench.models.training import (
    BYTES_PER_PARAMETER,
    GIB,
    available,
    batch_for,
    loss_of,
    saved_bytes,
    shapes_of,
    tokens_of,
    total_loss,
)

MIB = 2**20


def parameters(plan: Blueprint) -> dict[str, int]:
    """Return the parameters per tower (table 3 of LAION's CoCa blog) from the config alone, without weights."""
    return tower_parameters(meta_network(plan))


def gflops(net: Any) -> dict[str, float]:
    """Return GFLOPs of one image, of one text at full length, and of a CoCa's decoder over that text.

    A multiplication with its addition counts as two operations, as in open_clip's model_profile.csv. Attention is
    counted as plain matrix products: torch's fused paths are invisible to its counter.
    """
    images, texts = batch_for(net, 1, next(net.parameters()).device, tokens=tokens_of(net))
    found = {
        "image_gflops": _counted(net, lambda: net.encode_image(images)),
        "text_gflops": _counted(net, lambda: net.encode_text(texts)),
    }
    if isinstance(net, CoCa):
        with torch.no_grad():
            image_tokens, text_tokens = net._encode_image(images)[1], net._encode_text(texts)[1]
        found["decoder_gflops"] = _counted(net, lambda: net.text_decoder(image_tokens, text_tokens))
    return {**found, "gflops": sum(found.values())}


def _counted(net: Any, work: Callable[[], object]) -> float:
    before, trained = torch.backends.mha.get_fastpath_enabled(), [p for p in net.parameters() if p.requires_grad]
    torch.backends.mha.set_fastpath_enabled(False)
    net.requires_grad_(False)  # the counter fails with parameters that require gradients while none are recorded
    try:
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            work()
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
        for parameter in trained:
            parameter.requires_grad_(True)
    return float(counter.get_total_flops()) / 1e9


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """Return the duration of work in seconds, including the device's queue."""
    _wait(device)
    start = time.perf_counter()
    work()
    _wait(device)
    return time.perf_counter() - start


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class Peak:
    """The peak memory of a block of code, in MiB above the memory at its start; None if unknown."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.mib: float | None = None

    def __enter__(self) -> Peak:
        gc.collect()
        _give_back()
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        elif self.device.type == "cpu":
            _reset_high_water()
        self.before = self._held()
        return self

    def __exit__(self, *_: object) -> None:
        if self.device.type == "cuda":
            self.mib = (torch.cuda.max_memory_allocated(self.device) - self.before) / MIB
        elif self.before:
            self.mib = (_resident("VmHWM") - self.before) / MIB

    def _held(self) -> int:
        return torch.cuda.memory_allocated(self.device) if self.device.type == "cuda" else _resident("VmRSS")


def _give_back() -> None:
    """Return freed memory to the system (glibc), so that resident memory is memory in use."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)


def _reset_high_water() -> None:
    """Reset the process's peak memory on Linux (proc(5): clear_refs, 5)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def _resident(name: str) -> int:
    """Return a value of /proc/self/status in bytes; 0 if there is none (not Linux)."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:")), 0)


def weight_mib(net: Any) -> float:
    """Return the size of parameters and buffers in MiB."""
    return float(sum(tensor.numel() * tensor.element_size() for tensor in (*net.parameters(), *net.buffers()))) / MIB


@contextmanager
def training_step(net: Any, n: int, precision: str) -> Iterator[Callable[[], None]]:
    """Return a function that trains a copy of the network for one step of n samples: forward, loss, backward, AdamW.

    CoCa's losses have weights 1 and 2. fp16 and bf16 use autocast, as open_clip's trainer does.
    """
    device = next(net.parameters()).device
    copy = deepcopy(net).train()
    for parameter in copy.parameters():
        parameter.requires_grad_(True)
    optimiser, loss = torch.optim.AdamW(copy.parameters(), lr=1e-5), loss_of(copy)
    images, texts = batch_for(copy, n, device, tokens=tokens_of(copy))
    half = {"fp16": torch.float16, "bf16": torch.bfloat16}.get(precision)
    scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16" and device.type == "cuda")

    def step() -> None:
        optimiser.zero_grad()
        with torch.autocast(device.type, dtype=half or torch.bfloat16, enabled=half is not None):
            value: Tensor = total_loss(copy, images, texts, loss)
        scaler.scale(value).backward()
        scaler.step(optimiser)
        scaler.update()

    yield step


Found = tuple[int, dict[str, Any]]
Prepare = Callable[[Example, int], Callable[[], object]]
"""Maps a repeat and a batch size to the function to time."""


class Loaded(Protocol):
    """The parts of a loaded model that profiling needs."""

    net: Any
    tokenizer: Tokenizer
    hardware: Hardware
    compiled: Callable[[torch.Tensor], torch.Tensor] | None
    abilities: frozenset[Ability]

    @property
    def transform(self) -> Transform: ...
    def computing(self) -> AbstractContextManager[None]: ...


def costs(model: Loaded, work: Workload, progress: Progress) -> Iterator[Found]:
    """Yield (repeat, {metric: value}); values measured once belong to the first repeat.

    Computation is the same as in a run. Inputs are a repeat's image and text, repeated to a batch, preprocessed and on
    the device. Each function is called once without timing first. Texts have full length, so that the cost does not
    depend on other texts.
    """
    yield 0, gflops(model.net)
    peak = Peak(torch.device(model.hardware.device))
    with peak:
        for name, prepare in _works(model, work.decoding).items():
            yield from _rates(model, work, name, prepare, progress)
    if peak.mib is not None:
        yield 0, {"peak_memory_mib": peak.mib + weight_mib(model.net)}
    yield from _training(model, len(work.repeats), work.train_batch, progress)


def _works(model: Loaded, decoding: Mapping[str, Any]) -> dict[str, Prepare]:
    device = model.hardware.device

    def pixels(example: Example, n: int) -> torch.Tensor:
        return torch.as_tensor(model.transform(shown(example.image))).expand(n, -1, -1, -1).contiguous().to(device)

    def images(example: Example, n: int) -> Callable[[], object]:
        inputs = pixels(example, n)
        return partial(model.compiled or model.net.encode_image, inputs)

    def texts(example: Example, n: int) -> Callable[[], object]:
        inputs = model.tokenizer([example.texts[0]] * n).to(device)
        return lambda: model.net.encode_text(inputs)

    def captions(example: Example, n: int) -> Callable[[], object]:
        inputs, ids = pixels(example, n), special_ids(model.tokenizer, model.net)
        limit = context_limit(model.net)
        options = decode_options({**decoding, "min_seq_len": min(decoding["min_seq_len"], limit - 1)}, limit)
        return lambda: generate_scored(model.net, inputs, options=options, **ids._asdict())

    found: dict[str, Prepare] = {"images_per_s": images, "texts_per_s": texts}
    return {**found, "captions_per_s": captions} if "caption" in model.abilities else found


def _rates(model: Loaded, work: Workload, name: str, prepare: Prepare, progress: Progress) -> Iterator[Found]:
    stage = name.removesuffix("_per_s")
    with in_precision(model.hardware), model.computing():
        prepare(work.repeats[0], work.batch)()
    for number, example in enumerate(work.repeats):
        timed = prepare(example, work.batch)
        with in_precision(model.hardware), model.computing():
            took = seconds(timed, torch.device(model.hardware.device))
        progress(stage, number + 1, len(work.repeats))
        yield number, {name: work.batch / took}


def _training(model: Loaded, repeats: int, batch: int, progress: Progress) -> Iterator[Found]:
    """Time training steps on a copy of the network, or report that memory does not suffice."""
    device, precision = torch.device(model.hardware.device), model.hardware.precision
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
    """Return why no training step can be measured, '' if it can."""
    weights = sum(parameter.numel() for parameter in model.net.parameters())
    needed = BYTES_PER_PARAMETER * weights + saved_bytes(shapes_of(model.net), batch)
    free = available(model.hardware.device)
    if needed <= free:
        return ""
    return f"no training step measured: it needs about {needed / GIB:.1f} GiB, {free / GIB:.1f} GiB are free"
