"""Where and how to compute: device, precision, batches, workers."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import torch

from cocabench.core.errors import UsageError

Precision = Literal["fp32", "fp16", "bf16"]


@dataclass(frozen=True)
class Hardware:
    """Where and how to compute. batch_size and workers None: chosen here. compile: image towers by torch.compile.

    host_start: data-loading workers are started as Python is set to start processes, not from a server: a script that
    calls ``evaluate`` then needs no main guard where that is fork.
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
        """Compute in this precision: autocast for fp16 and bf16; fp32 without TF32, in convolutions too."""
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("highest")
        try:
            with torch.inference_mode(), _cudnn_without_tf32(), self._autocast(), self._current():
                yield
        finally:
            torch.set_float32_matmul_precision(before)

    def _current(self) -> AbstractContextManager[Any]:
        return torch.cuda.device(self.device) if self.device.type == "cuda" else nullcontext()

    def _autocast(self) -> AbstractContextManager[Any]:
        if self.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.device.type, torch.float16 if self.precision == "fp16" else torch.bfloat16)


def machine_name(device: torch.device) -> str:
    """Return what a time was measured on: the GPU, or the kind of CPU and its cores."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    kind = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return f"{platform.machine()} CPU{f' ({kind})' if kind else ''}, {os.cpu_count()} cores"


def _cudnn_without_tf32() -> AbstractContextManager[Any]:
    """Leave cuDNN as it is set, but for TF32 (torch's own context manager switches cuDNN off unless told not to)."""
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
    """Return the Hardware that the flags mean. auto: CUDA where there is one, with fp16; fp32 on the CPU."""
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


def one_device(text: str) -> str:
    """Return the device that --device means: ``auto``, ``all``, ``cuda:1``, ``1``. UsageError for several."""
    if "TORCHELASTIC_RUN_ID" in os.environ and os.environ.get("WORLD_SIZE", "1") != "1":
        if os.environ.get("RANK", "0") != "0":
            raise SystemExit(UsageError.exit_code)  # the first process says why
        raise UsageError("torchrun", "several processes in one run", fix=_ONE_COMMAND_EACH)
    names = [f"cuda:{i}" for i in range(torch.cuda.device_count())] or ["cpu"] if text == "all" else text.split(",")
    if not all(name.strip() for name in names):
        raise UsageError(f"--device {text}", "an empty name", wanted="auto, all, cpu, cuda:1")
    if len(names) > 1:
        raise UsageError(f"--device {text}", f"{len(names)} devices in one run", wanted="one", fix=_ONE_COMMAND_EACH)
    name = names[0].strip()
    return f"cuda:{name}" if name.isdecimal() else name


_ONE_COMMAND_EACH = "start a command for each device, each with some of the models, into the same results folder"


def _no_device(device: str, error: Exception) -> UsageError:
    """Return what is told of a device that torch cannot compute on, without torch's sentences of several lines."""
    where, fix = f"--device {device}", "--device cpu works everywhere; `cocabench doctor --gpu` looks for GPUs"
    if not device.startswith("cuda"):
        said = str(error).splitlines()[0]
        known = "Expected one of" not in said
        return UsageError(where, said[:120] if known else "no device", wanted="auto, cpu, cuda or cuda:1", fix=fix)
    if (count := torch.cuda.device_count()) and torch.cuda.is_available():
        return UsageError(
            where, "no such GPU", wanted=f"cuda:0 to cuda:{count - 1}" if count > 1 else "cuda:0", fix=fix
        )
    built = "no NVIDIA GPU or driver here" if torch.version.cuda else "this torch is built without CUDA"
    return UsageError(where, built, fix=fix)
