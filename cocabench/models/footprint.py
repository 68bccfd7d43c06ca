"""How much memory a training step takes, estimated without running it, and how much there is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from cocabench.models.open_clip.blueprint import Blueprint, Config
from cocabench.models.open_clip.build import meta_network
from cocabench.models.training import saved_bytes

GIB = 2**30
STATE_BYTES = 16
"""Per parameter: value, gradient and AdamW's two moments in float32."""

HALF = 0.6
"""What autocast leaves of the saved activations: most are halved; norms, softmax and loss stay float32."""


@dataclass(frozen=True)
class Footprint:
    """What a training takes, in bytes.

    fixed: parameters and optimiser. per_sample: activations of a sample of the batch. per_gathered: per sample of all
    batches that accum_freq gathers (open_clip_train keeps a CoCa's logits of all of them).
    """

    fixed: int
    per_sample: int
    per_gathered: int = 0

    def total(self, batch: int, accum: int = 1) -> int:
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
