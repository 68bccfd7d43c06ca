"""The near-chance alarm: such scores are more often a broken run (wrong split, tokenizer, weights) than a bad model."""

from __future__ import annotations

import numpy as np

from cocabench.metrics.intervals import proportion
from cocabench.metrics.ranking import Floats

NEAR = 0.02
"""A score is near chance if it covers less of the way from chance to perfect. The published contrastive scores of
coca_ViT-B-32:mscoco_finetuned_laion2b_s13b_b90k (ImageNet 0.79 %), a checkpoint that lost its skill, do."""


ADVICE = "check data, prompts, tokenizer and weights before believing it"


def alarm(metric: str, hits: Floats, chance: float, *, advice: str = ADVICE) -> list[str]:
    """Return a sentence if a hit rate is near chance, or cannot be told from it; nothing otherwise.

    hits: (n,) 0-1, fractions (of ties) count down for the interval. chance: what guessing gets, 0-1.
    """
    if not len(hits):
        return []
    value = float(hits.mean())
    if proportion(np.floor(hits)).low > chance and (value - chance) / (1 - chance) >= NEAR:
        return []
    return [f"{metric} of {100 * value:.2g} % is near chance ({100 * chance:.2g} %): {advice}"]
