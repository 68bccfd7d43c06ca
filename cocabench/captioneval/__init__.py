"""Caption metrics: BLEU@1-4, METEOR 1.5, ROUGE-L, CIDEr (CIDEr-D) and SPICE 1.0, equal to pycocoevalcap's.

``statistics`` turns captions into columns, one entry per image; ``declared`` returns the metrics that read them. These
work on PTB tokens, so all need Java; ``unavailable`` lists those that cannot run and why. In other languages tokens are
those of ``words``, without Java, and METEOR, SPICE and CLIPScore are refused. MODEL_BASED (CLIPScore) and
HEALTH need none: ``clipscore`` and ``health`` make their columns.
"""

from cocabench.captioneval.compute import preparing, statistics, unavailable
from cocabench.captioneval.declared import (
    ALL,
    HEALTH,
    MODEL_BASED,
    NAMES,
    SCORER,
    SUBSCORES,
    check_language,
    declared,
    names_in,
    protocol,
    said_of_tokens,
    undefined,
)

__all__ = [
    "ALL",
    "HEALTH",
    "MODEL_BASED",
    "NAMES",
    "SCORER",
    "SUBSCORES",
    "check_language",
    "declared",
    "names_in",
    "preparing",
    "protocol",
    "said_of_tokens",
    "statistics",
    "unavailable",
    "undefined",
]
