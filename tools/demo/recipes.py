"""What shapes a training run, the recipes of the demo's models, and their optimisers."""

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from tools.demo.sources import STYLES


@dataclass(frozen=True)
class Settings:
    """Everything that shapes a run.

    batch: images a step. views: drawings of each emoji among them, in different styles; the captions are
    batch / views, one for each emoji.
    rate: peak learning rate. warmup: fraction of the steps. named: share of the captions that are the CLDR name; the
    rest are the emoji's others.
    contrastive_weight, image_weight, caption_weight: of the losses between images and captions, between the views of
    an emoji, and of CoCa's decoder. With 0 a loss is not computed, or is logged as 0.
    precision: of the towers. auto is bf16 on CPUs that compute in it, else fp32, which then takes half the time.
    """

    steps: int
    batch: int = 256
    views: int = 1
    rate: float = 3e-3
    decay: float = 0.1
    warmup: float = 0.05
    named: float = 0.5
    contrastive_weight: float = 1.0
    image_weight: float = 0.0
    caption_weight: float = 2.0
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    seed: int = 0
    styles: tuple[str, ...] = STYLES


SEEDS = (0, 1, 2, 3, 4)
SHIPPED = 0
"""The seed whose checkpoints are shipped, fixed before any was trained."""

_SCRATCH = Settings(steps=3000, views=2, image_weight=1.0)
"""Two drawing styles of each emoji in a batch, their images drawn together too."""

RECIPES = {
    "coca": _SCRATCH,
    "clip": _SCRATCH,
    "coca-captioner": Settings(steps=1000, rate=1.5e-3, named=1.0, caption_weight=1.0, contrastive_weight=0.0),
}
"""CoCa and CLIP have everything in common; the captioner continues from the CoCa of the same seed."""


def resolved(settings: Settings) -> Settings:
    """Return the settings with the precision that this machine trains in."""
    if settings.precision != "auto":
        return settings
    return replace(settings, precision="bf16" if has_bf16(_cpu_flags()) else "fp32")


def has_bf16(flags: Iterable[str]) -> bool:
    """Tell from a CPU's flags whether it multiplies in bf16; others emulate it."""
    return not {"avx512_bf16", "amx_bf16", "bf16"}.isdisjoint(flags)


def _cpu_flags() -> list[str]:
    """Return Linux's list of this CPU's features; none elsewhere."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    return next((line.split() for line in lines if line.startswith(("flags", "Features"))), [])


def optimisers(model: nn.Module, settings: Settings) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside transformer blocks and pooler, AdamW for the rest; vectors and scalars do not decay.

    The pooler's queries are vectors of their own, not a matrix that maps any, and go to AdamW.
    """
    named = dict(model.named_parameters())
    matrices = {
        key
        for key, value in named.items()
        if value.ndim == 2 and ("resblocks" in key or "attn" in key) and not key.endswith("attn_pool.query")
    }
    decaying = [value for key, value in named.items() if key not in matrices and value.ndim >= 2]
    others = [value for value in named.values() if value.ndim < 2]
    groups = [{"params": decaying, "weight_decay": settings.decay}, {"params": others, "weight_decay": 0.0}]
    muon = Muon([named[key] for key in sorted(matrices)], rate=settings.rate, decay=settings.decay)
    return [muon, torch.optim.AdamW(groups, lr=settings.rate, betas=(0.9, 0.98))]


class Muon(torch.optim.Optimizer):
    """torch.optim.Muon in fp32, with all matrices of one shape in one batch: many small ones cost one call.

    Jordan et al. 2024, with the constants of their implementation; updates scaled to AdamW's size (Liu et al. 2025).
    """

    def __init__(self, matrices: Iterable[nn.Parameter], *, rate: float, decay: float) -> None:
        shapes: dict[torch.Size, list[nn.Parameter]] = defaultdict(list)
        for matrix in matrices:
            shapes[matrix.shape].append(matrix)
        super().__init__([{"params": alike} for alike in shapes.values()], {"lr": rate, "weight_decay": decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Change the parameters by their gradients; those without one stay."""
        for group in self.param_groups:
            alike = [matrix for matrix in group["params"] if matrix.grad is not None]
            if not alike:
                continue
            momenta = [self.state[matrix].setdefault("momentum", torch.zeros_like(matrix)) for matrix in alike]
            gradients = torch.stack([matrix.grad for matrix in alike])
            momentum = torch.stack(momenta).lerp_(gradients, 0.05)
            for own, new in zip(momenta, momentum, strict=True):
                own.copy_(new)
            updates = orthogonal(gradients.lerp(momentum, 0.95))
            scale = 0.2 * math.sqrt(max(updates.shape[1:]))
            for matrix, update in zip(alike, updates, strict=True):
                matrix.mul_(1 - group["lr"] * group["weight_decay"]).sub_(update, alpha=group["lr"] * scale)


def orthogonal(matrices: Tensor) -> Tensor:
    """Return the orthogonal matrices nearest to those given (k, m, n), approximately: five Newton-Schulz steps."""
    a, b, c = 3.4445, -4.7750, 2.0315
    wide: Tensor = matrices.mT if matrices.shape[1] > matrices.shape[2] else matrices
    wide = wide / wide.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    for _ in range(5):
        gram = wide @ wide.mT
        wide = a * wide + (b * gram + c * gram @ gram) @ wide
    return wide.mT if matrices.shape[1] > matrices.shape[2] else wide


def schedule(step: int, settings: Settings) -> float:
    """Linear warm-up, then a cosine to zero; in 0-1."""
    warmup = settings.warmup * settings.steps
    if step < warmup:
        return step / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, settings.steps - warmup)))
