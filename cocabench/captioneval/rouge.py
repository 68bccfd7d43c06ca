"""ROUGE-L (Lin 2004) as pycocoevalcap's ``Rouge`` computes it.

From the longest common subsequence of words with each reference: the best precision and the best recall, which may
come from different references, joined as (1 + β²)PR / (R + β²P) with β = 1.2. A fraction, 0 to 1, higher is better; the
corpus value is the mean over images. Nothing in common is 0; an empty caption counts as one empty word, so it is 1
against an empty reference and 0 otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

BETA = 1.2


def scores(candidates: Sequence[str], references: Sequence[Sequence[str]]) -> NDArray[np.float64]:
    """Return one score per image. Texts are tokenised; words are what stands between single spaces."""
    return np.array([_score(c, group) for c, group in zip(candidates, references, strict=True)], dtype=np.float64)


def _score(candidate: str, references: Sequence[str]) -> float:
    words = candidate.split(" ")
    others = [reference.split(" ") for reference in references]
    common = [_common(words, other) for other in others]
    precision = max(c / len(words) for c in common)
    recall = max(c / len(other) for c, other in zip(common, others, strict=True))
    if precision == 0 or recall == 0:
        return 0.0
    return ((1 + BETA**2) * precision * recall) / (recall + BETA**2 * precision)


def _common(first: Sequence[str], second: Sequence[str]) -> int:
    """Return the length of the longest common subsequence, a row of the table per step (Hyyrö 2004, bit-parallel)."""
    places: dict[str, int] = {}
    for i, word in enumerate(first):
        places[word] = places.get(word, 0) | 1 << i
    row = full = (1 << len(first)) - 1
    for word in second:
        matched = row & places.get(word, 0)
        row = (row + matched | row - matched) & full
    return len(first) - row.bit_count()
