"""What shapes a training run, and the runs that made the demo's checkpoints."""

from dataclasses import dataclass, replace

from tools.demo.pictures import STYLES


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
