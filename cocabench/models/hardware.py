"""Hardware settings: device, precision, batch sizes, workers."""

from __future__ import annotations

import os
import platform
import random
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch

from cocabench.core.errors import UsageError

Precision = Literal["fp32", "fp16", "bf16"]


@dataclass(frozen=True)
class Hardware:
    """Where and how to compute. batch_size, workers: None to choose automatically. compile: use torch.compile.

    host_start: start data-loading workers by Python's configured start method instead of from a server; with fork, a
    script that calls ``evaluate`` then needs no main guard.
    """

    device: torch.device
    precision: Precision
    batch_size: int | None = None
    workers: int | None = None
    skip_bad_images: bool = False
    compile: bool = False
    host_start: bool = False

    @property
    def images_per_batch(self) -> int:
        """The largest batch of images; halved when memory runs out."""
        return self.batch_size or (256 if self.device.type == "cuda" else 32)

    @contextmanager
    def precision_context(self) -> Iterator[None]:
        """Return a context in this precision: autocast for fp16 and bf16; fp32 without TF32, also in convolutions.

        Without gradients, but not in inference mode: a network in training may keep what it computes here (rotary
        positions), and could not be trained with inference tensors.
        """
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("highest")
        try:
            with torch.no_grad(), _cudnn_without_tf32(), self._autocast(), self._current():
                yield
        finally:
            torch.set_float32_matmul_precision(before)

    def _current(self) -> AbstractContextManager[Any]:
        return torch.cuda.device(self.device) if self.device.type == "cuda" else nullcontext()

    def _autocast(self) -> AbstractContextManager[Any]:
        if self.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.device.type, torch.float16 if self.precision == "fp16" else torch.bfloat16)


@contextmanager
def evaluating(net: torch.nn.Module) -> Iterator[None]:
    """Disable dropout and batch statistics; on exit restore each submodule's mode."""
    training = [module for module in net.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


@contextmanager
def unchanged_random_state() -> Iterator[None]:
    """Restore the random states of Python, numpy and torch (also of its GPUs, if they are in use) on exit."""
    python, numpy, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()
    gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        torch.set_rng_state(cpu)
        if gpus:
            torch.cuda.set_rng_state_all(gpus)


def machine_name(device: torch.device) -> str:
    """Return the machine for timings: the GPU, or the CPU model and its cores."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    kind = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return f"{platform.machine()} CPU{f' ({kind})' if kind else ''}, {os.cpu_count()} cores"


def _cudnn_without_tf32() -> AbstractContextManager[Any]:
    """Disable TF32 in cuDNN and keep its other settings, which torch's own context manager would reset."""
    now = torch.backends.cudnn
    kept = {"enabled": now.enabled, "benchmark": now.benchmark, "deterministic": now.deterministic}
    return cast(AbstractContextManager[Any], now.flags(**kept, allow_tf32=False))


def hardware(
    *,
    device: str = "auto",
    precision: str = "auto",
    batch_size: int | None = None,
    workers: int | None = None,
    skip_bad_images: bool = False,
    compile: bool = False,  # noqa: A002
) -> Hardware:
    """Return the Hardware for the flags. auto: CUDA with fp16 if available, else the CPU with fp32."""
    try:
        chosen = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError) as error:
        raise _no_device(device, error) from None
    if compile:
        from cocabench.models.compiled import check_compiler

        check_compiler(chosen)
    if precision == "auto":
        precision = "fp16" if chosen.type == "cuda" else "fp32"
    return Hardware(chosen, cast(Precision, precision), batch_size, workers, skip_bad_images, compile)


def devices(text: str) -> list[str]:
    """Return the devices of --devices: ``auto``, ``all``, ``cuda:1``, ``0,1``, ``cpu,cpu``. UsageError for no name."""
    if "TORCHELASTIC_RUN_ID" in os.environ and os.environ.get("WORLD_SIZE", "1") != "1":
        if os.environ.get("RANK", "0") != "0":
            raise SystemExit(UsageError.exit_code)  # the first process reports the error
        fix = "start cocabench alone: --devices all takes all GPUs of this machine, --ray those of a cluster"
        raise UsageError("torchrun", "several processes in one run", fix=fix)
    names = [f"cuda:{i}" for i in range(torch.cuda.device_count())] or ["cpu"] if text == "all" else text.split(",")
    if not all(name.strip() for name in names):
        raise UsageError(f"--devices {text}", "an empty name", wanted="auto, all, cpu, cuda:1, 0,1")
    return [f"cuda:{name.strip()}" if name.strip().isdecimal() else name.strip() for name in names]


def _no_device(device: str, error: Exception) -> UsageError:
    """Return a one-line error for a device that torch cannot use."""
    where, fix = f"--device {device}", "use --device cpu, or run `cocabench doctor --gpu` to find GPUs"
    if not device.startswith("cuda"):
        said = str(error).splitlines()[0]
        known = "Expected one of" not in said
        return UsageError(where, said[:120] if known else "no device", wanted="auto, cpu, cuda or cuda:1", fix=fix)
    if (count := torch.cuda.device_count()) and torch.cuda.is_available():
        return UsageError(
            where, "no such GPU", wanted=f"cuda:0 to cuda:{count - 1}" if count > 1 else "cuda:0", fix=fix
        )
    built = "no NVIDIA GPU or driver" if torch.version.cuda else "this torch is built without CUDA"
    return UsageError(where, built, fix=fix)
