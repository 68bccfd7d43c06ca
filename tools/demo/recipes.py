"""What shapes a training run, the runs that made the demo's checkpoints, and their optimisers."""

import math
from dataclasses import dataclass, replace

import torch
from torch import nn

from tools.demo.sources import STYLES


@dataclass(frozen=True)
class Settings:
    """Everything that shapes a run.

    rate: peak learning rate. named: share of the captions that are the CLDR name; the rest are the emoji's others.
    caption_weight, contrastive_weight: of CoCa's two losses; CLIP has the contrastive one alone, at weight 1.
    """

    steps: int
    batch: int = 256
    rate: float = 3e-3
    decay: float = 0.1
    warmup: int = 50
    named: float = 0.5
    caption_weight: float = 2.0
    contrastive_weight: float = 1.0
    seed: int = 0
    styles: tuple[str, ...] = STYLES


SEEDS = (0, 1, 2, 3, 4)
SHIPPED = 0
"""The seed whose checkpoints are shipped, fixed before any was trained."""

_SCRATCH = Settings(steps=600)

RECIPES = {
    "coca": _SCRATCH,
    "clip": _SCRATCH,
    "coca-captioner": replace(_SCRATCH, steps=1000, rate=1.5e-3, named=1.0, caption_weight=1.0, contrastive_weight=0.0),
}
"""CoCa and CLIP have everything in common; the captioner goes on from the CoCa of the same seed."""


def optimisers(model: nn.Module, settings: Settings) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside transformer blocks and pooler, AdamW for the rest; vectors and scalars do not decay.

    Muon (Jordan et al. 2024), scaled to AdamW's step sizes (Liu et al. 2025), learns here in half of AdamW's steps.
    """
    named = dict(model.named_parameters())
    matrices = {key for key, value in named.items() if value.ndim == 2 and ("resblocks" in key or "attn" in key)}
    decaying = [value for key, value in named.items() if key not in matrices and value.ndim >= 2]
    others = [value for value in named.values() if value.ndim < 2]
    groups = [{"params": decaying, "weight_decay": settings.decay}, {"params": others, "weight_decay": 0.0}]
    muon = torch.optim.Muon(
        [named[key] for key in sorted(matrices)],
        lr=settings.rate,
        weight_decay=settings.decay,
        adjust_lr_fn="match_rms_adamw",
    )
    return [muon, torch.optim.AdamW(groups, lr=settings.rate, betas=(0.9, 0.98))]


def schedule(step: int, settings: Settings) -> float:
    """Linear warm-up, then a cosine to zero; in 0-1."""
    if step < settings.warmup:
        return step / settings.warmup
    done = (step - settings.warmup) / max(1, settings.steps - settings.warmup)
    return 0.5 * (1 + math.cos(math.pi * done))
