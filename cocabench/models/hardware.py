"""Hardware settings: device, precision, batch sizes, workers.

Imports torch only to ask for a GPU, which takes two seconds: a plan for a CPU needs none.
"""

from __future__ import annotations

import ctypes
import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

from cocabench.core.errors import UsageError

Precision = Literal["fp32", "fp16", "bf16"]


@dataclass(frozen=True)
class Hardware:
    """Where and how to compute.

    device: torch's name, as ``cuda:1``. batch_size, workers: None to choose automatically. compile: use torch.compile.
    host_start: start data-loading workers by Python's configured start method instead of from a server; with fork, a
    script that calls ``evaluate`` then needs no main guard.
    """

    device: str
    precision: Precision
    batch_size: int | None = None
    workers: int | None = None
    skip_bad_images: bool = False
    compile: bool = False
    host_start: bool = False

    @property
    def device_type(self) -> str:
        """The device without its number: ``cpu``, ``cuda``."""
        return self.device.partition(":")[0]

    @property
    def on_gpu(self) -> bool:
        return self.device_type == "cuda"

    @property
    def images_per_batch(self) -> int:
        """The largest batch of images; halved when memory runs out."""
        return self.batch_size or (256 if self.on_gpu else 32)


DRIVERS = ("libcuda.so.1", "nvcuda.dll")
DRIVER_FILES = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")
"""NVIDIA's, AMD's, and that of Windows' subsystem for Linux."""


def has_gpu_driver() -> bool:
    """Return whether this machine has a driver without which torch finds no GPU."""
    return any(os.path.exists(file) for file in DRIVER_FILES) or any(map(_loads, DRIVERS))


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def count_gpus() -> int:
    """Return the number of GPUs that torch can use."""
    if not has_gpu_driver():
        return 0
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def threads() -> int:
    """Return torch's number of threads."""
    import torch

    return torch.get_num_threads()


def cuda_version() -> str:
    """Return the version of CUDA that torch was built with."""
    import torch

    return str(torch.version.cuda)


def machine_name(device: str) -> str:
    """Return the machine for timings: the GPU, or the CPU model and its cores."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    kind = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return f"{platform.machine()} CPU{f' ({kind})' if kind else ''}, {os.cpu_count()} cores"


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
    chosen = ("cuda" if count_gpus() else "cpu") if device == "auto" else device
    if chosen != "cpu":
        _check(chosen)
    if precision == "auto":
        precision = "fp16" if chosen.startswith("cuda") else "fp32"
    found = Hardware(chosen, cast(Precision, precision), batch_size, workers, skip_bad_images, compile)
    if compile:
        from cocabench.models.compiled import check_compiler

        check_compiler(chosen)
    return found


def _check(device: str) -> None:
    """Raise UsageError for a device that torch cannot use."""
    import torch

    try:
        torch.empty(1, device=device).cpu()  # of meta nothing can be copied
    except (RuntimeError, AssertionError) as error:
        raise _no_device(device, error) from None


def devices(text: str) -> list[str]:
    """Return the devices of --devices: ``auto``, ``all``, ``cuda:1``, ``0,1``, ``cpu,cpu``. UsageError for no name."""
    if "TORCHELASTIC_RUN_ID" in os.environ and os.environ.get("WORLD_SIZE", "1") != "1":
        if os.environ.get("RANK", "0") != "0":
            raise SystemExit(UsageError.exit_code)  # the first process reports the error
        fix = "start cocabench alone: --devices all takes all GPUs of this machine, --ray those of a cluster"
        raise UsageError("torchrun", "several processes in one run", fix=fix)
    names = [f"cuda:{i}" for i in range(count_gpus())] or ["cpu"] if text == "all" else text.split(",")
    if not all(name.strip() for name in names):
        raise UsageError(f"--devices {text}", "an empty name", wanted="auto, all, cpu, cuda:1, 0,1")
    return [f"cuda:{name.strip()}" if name.strip().isdecimal() else name.strip() for name in names]


def _no_device(device: str, error: Exception) -> UsageError:
    """Return a one-line error for a device that torch cannot use."""
    import torch

    where, fix = f"--device {device}", "use --device cpu, or run `cocabench doctor --gpu` to find GPUs"
    if not device.startswith("cuda"):
        said = str(error).splitlines()[0].partition(". ")[0]  # the first sentence
        if "Expected one of" in said:
            said = "no device"
        elif "Could not run" in said:
            said = f"this machine, or this torch, has no {device}"
        return UsageError(where, said, wanted="auto, cpu, cuda or cuda:1", fix=fix)
    if (count := torch.cuda.device_count()) and torch.cuda.is_available():
        return UsageError(
            where, "no such GPU", wanted=f"cuda:0 to cuda:{count - 1}" if count > 1 else "cuda:0", fix=fix
        )
    built = "no NVIDIA GPU or driver" if torch.version.cuda else "this torch is built without CUDA"
    return UsageError(where, built, fix=fix)
