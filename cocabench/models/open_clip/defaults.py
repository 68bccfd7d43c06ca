"""The pretrained tag that a bare architecture name means. open_clip has none: without a tag its weights are random.

The choice is the LAION-2B checkpoint where one is published (the data of the CoCa checkpoints), else the tag that the
field uses most. An architecture that is not here has a default only if open_clip knows exactly one tag for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

DEFAULT_TAGS: Final = {
    "coca_ViT-B-32": "laion2b_s13b_b90k",
    "coca_ViT-L-14": "laion2b_s13b_b90k",
    "ViT-B-32": "laion2b_s34b_b79k",
    "ViT-B-32-256": "datacomp_s34b_b86k",
    "ViT-B-32-quickgelu": "openai",
    "ViT-B-16": "laion2b_s34b_b88k",
    "ViT-B-16-quickgelu": "openai",
    "ViT-L-14": "laion2b_s32b_b82k",
    "ViT-L-14-quickgelu": "openai",
    "ViT-L-14-336": "openai",
    "ViT-H-14": "laion2b_s32b_b79k",
    "ViT-g-14": "laion2b_s34b_b88k",
    "ViT-bigG-14": "laion2b_s39b_b160k",
    "RN50": "openai",
    "RN101": "openai",
    "RN50x4": "openai",
    "RN50x16": "openai",
    "RN50x64": "openai",
    "convnext_base_w": "laion2b_s13b_b82k",
    "convnext_large_d": "laion2b_s26b_b102k_augreg",
    "xlm-roberta-base-ViT-B-32": "laion5b_s13b_b90k",
    "xlm-roberta-large-ViT-H-14": "frozen_laion5b_s13b_b90k",
}


def default_tag(name: str, tags: Sequence[str]) -> str:
    """Return the default among an architecture's published tags, '' where there is none."""
    return DEFAULT_TAGS.get(name, tags[0] if len(tags) == 1 else "")
