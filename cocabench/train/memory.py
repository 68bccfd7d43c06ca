"""How much memory a training step takes, estimated without running it, and what to change where there is too little."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from cocabench.errors import UsageError
from cocabench.models.blueprint import Blueprint, Config
from cocabench.models.build import meta_network
from cocabench.models.training import saved_bytes

GIB = 2**30
STATE_BYTES = 16
"""Per parameter: value, gradient and AdamW's two moments in float32."""

HALF = 0.6
"""What autocast leaves of the saved activations: most are halved; norms, softmax and loss stay float32."""


@dataclass(frozen=True)
class Footprint:
    """What a training takes: bytes for parameters and optimiser, per sample of a batch, and per sample of all batches
    that accum_freq gathers (open_clip_train keeps a CoCa's logits of all of them)."""

    fixed: int
    per_sample: int
    per_gathered: int

    def total(self, batch: int, accum: int) -> int:
        gathered = self.per_gathered * batch * accum if accum > 1 else 0
        return self.fixed + self.per_sample * batch + gathered

    def fitting(self, batch: int, accum: int, room: int) -> tuple[int, int] | None:
        """Return the largest (batch_size, accum_freq) with the same product that fits, halving the batch; or None."""
        while self.total(batch, accum) > room:
            if batch % 2:
                return None
            batch, accum = batch // 2, accum * 2
        return batch, accum


def footprint(plan: Blueprint, precision: str, *, checkpointing: bool = False) -> Footprint:
    """Return the estimate for an architecture: its activations are counted on the meta device, nothing is computed."""
    net = meta_network(plan)
    fixed = STATE_BYTES * sum(parameter.numel() for parameter in net.parameters())
    per_sample = saved_bytes(net, 2, checkpointing=checkpointing) // 2
    return Footprint(fixed, int(per_sample * (1.0 if precision == "fp32" else HALF)), _logits(plan.config))


def _logits(config: Config) -> int:
    """Return bytes of a sample's logits in float32, four times: kept, joined, their softmax and its gradient."""
    if "multimodal_cfg" not in config:
        return 0
    length = config["multimodal_cfg"].get("context_length", 77)
    return 4 * 4 * int(length) * int(config["text_cfg"].get("vocab_size", 49408))


def available(device: str) -> int:
    """Return the free bytes of a CUDA device, or of the machine."""
    if device.startswith("cuda"):
        return int(torch.cuda.mem_get_info(torch.device(device))[0])
    for line in _lines(Path("/proc/meminfo")):
        if line.startswith("MemAvailable:"):
            return min(int(line.split()[1]) * 1024, _of_this_container())
    return 2**62


def _of_this_container() -> int:
    """Return what a control group leaves, which may be less than the machine has."""
    limit, used = (_lines(Path(f"/sys/fs/cgroup/memory.{name}")) for name in ("max", "current"))
    return int(limit[0]) - int(used[0]) if limit and used and limit[0].isdecimal() else 2**62


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines() if path.is_file() else []


def shortage(plan: Blueprint, flags: dict[str, Any], device: str, processes: int) -> UsageError | None:
    """Return an error with a batch size and accum_freq that fit, where a step needs more memory than there is."""
    room = available(device) // (1 if device.startswith("cuda") else processes)
    needed = footprint(plan, flags["precision"], checkpointing=bool(flags["grad_checkpointing"]))
    batch, accum = flags["batch_size"], flags["accum_freq"]
    if needed.total(batch, accum) <= room:
        return None
    fits = needed.fitting(batch, accum, room)
    fix = f"--set batch_size={fits[0]} --set accum_freq={fits[1]} keeps the batch" if fits else "take a smaller model"
    if not flags["grad_checkpointing"]:
        fix += "; --set grad_checkpointing=true takes less and is slower"
    got = f"about {needed.total(batch, accum) / GIB:.1f} GiB needed for batch_size {batch}, {room / GIB:.1f} GiB free"
    return UsageError(f"memory of {device}", got, fix=f"{fix}; --no-memory-check goes on all the same")
