"""A training step of an open_clip network, for measuring, and an estimate of its memory."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from open_clip import ClipLoss, CoCaLoss
from open_clip.coca_model import CoCa
from open_clip.hf_model import HFTextEncoder
from torch import Tensor

from cocabench.models.open_clip.blueprint import Blueprint
from cocabench.models.open_clip.build import meta_network, vocabulary
from cocabench.models.open_clip.config import Config


def loss_of(net: Any) -> torch.nn.Module:
    """Return open_clip's loss for a network: CoCa's with weights 1 and 2, or CLIP's."""
    weights = {"caption_loss_weight": 2.0, "clip_loss_weight": 1.0}
    return cast(torch.nn.Module, CoCaLoss(**weights) if isinstance(net, CoCa) else ClipLoss())


def total_loss(net: Any, images: Tensor, texts: Tensor, loss: torch.nn.Module) -> Tensor:
    """Return the summed losses of a batch."""
    net.output_dict = True
    losses: dict[str, Tensor] = loss(**net(images, texts), output_dict=True)
    return torch.stack([value.float() for value in losses.values()]).sum()


def batch_for(net: Any, n: int, device: torch.device | str, *, tokens: int) -> tuple[Tensor, Tensor]:
    """Return n seeded noise images and n texts of random ids, (n, 3, h, w) float32 and (n, tokens) int64."""
    size = net.visual.image_size
    height, width = (size, size) if isinstance(size, int) else size
    if str(device) == "meta":
        return torch.empty(n, 3, height, width, device=device), torch.empty(n, tokens, dtype=torch.long, device=device)
    rng = torch.Generator().manual_seed(0)
    images = torch.randn(n, 3, height, width, generator=rng)
    return images.to(device), torch.randint(1, vocabulary(net), (n, tokens), generator=rng).to(device)


def tokens_of(net: Any) -> int:
    """Return the length of texts in training: 76 for a CoCa whose tower appends a CLS token."""
    return int(getattr(net, "context_length", None) or net.text.context_length)


def shapes_of(net: Any) -> Any:
    """Return a copy of a network on the meta device: shapes without values."""
    memo: dict[int, Any] = {id(p): torch.nn.Parameter(torch.empty_like(p, device="meta")) for p in net.parameters()}
    memo |= {id(buffer): torch.empty_like(buffer, device="meta") for buffer in net.buffers()}
    return deepcopy(net, memo)


def saved_bytes(net: Any, n: int, *, checkpointing: bool = False) -> int:
    """Return the bytes saved for the backward pass of n samples, without parameters; leaves net in training mode.

    0 if shapes are not enough: Hugging Face text towers depend on the values of their inputs.
    """
    if isinstance(getattr(net, "text", None), HFTextEncoder):
        return 0
    device = next(net.parameters()).device
    own = {parameter.untyped_storage()._cdata for parameter in net.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage
        return tensor

    images, texts = batch_for(net, n, device, tokens=tokens_of(net))
    if checkpointing:
        net.set_grad_checkpointing(True)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        total_loss(net.train(), images, texts, loss_of(net))
    return sum(storage.nbytes() for storage in kept.values())


GIB = 2**30
BYTES_PER_PARAMETER = 16
"""Value, gradient and AdamW's two moments in float32."""

AUTOCAST_FRACTION = 0.6
"""Saved activations under autocast relative to float32: most are halved; norms, softmax and loss stay float32."""


@dataclass(frozen=True)
class Footprint:
    """The memory of a training, in bytes.

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
    """Return the estimate for an architecture; activations are counted on the meta device, without computation."""
    net = meta_network(plan)
    fixed = BYTES_PER_PARAMETER * sum(parameter.numel() for parameter in net.parameters())
    per_sample = saved_bytes(net, 2, checkpointing=checkpointing) // 2
    return Footprint(fixed, int(per_sample * (1.0 if precision == "fp32" else AUTOCAST_FRACTION)), _logits(plan.config))


def _logits(config: Config) -> int:
    """Return bytes of four float32 copies of a sample's logits: kept, joined, softmax and its gradient."""
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
    """Return the free bytes in the container's control group, which may be fewer than the machine's."""
    limit, used = (_lines(Path(f"/sys/fs/cgroup/memory.{name}")) for name in ("max", "current"))
    return int(limit[0]) - int(used[0]) if limit and used and limit[0].isdecimal() else 2**62


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
