"""CLIPScore and RefCLIPScore (Hessel et al. 2021), from unit features of any contrastive model.

CLIPScore = 2.5 · max(0, cos(image, caption)), 0 to 2.5; the text tower reads "A photo depicts " and the caption.
RefCLIPScore is the harmonic mean of CLIPScore and max(0, the largest cos(caption, reference)), 0 to 10/7, and 0 where
either is. Higher is better; the corpus values are means over images. Captions are taken as written, not PTB tokens.

The published numbers are with OpenAI's ViT-B/32; other models give other scales, so the scorer's weights are in the
signature. The authors' program runs in half precision on a GPU, which moves the third digit.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cocabench.core.types import Features

Array = NDArray[np.float64]

NAMES = ("CLIPScore", "RefCLIPScore")
PROMPT = "A photo depicts "
WEIGHT = 2.5
VERSION = f"CLIPScore w={WEIGHT}, prompt {PROMPT!r}"


def image_scores(images: Features, captions: Features) -> Array:
    """Return (n,) CLIPScore of rows of images (n, d) and of their captions (n, d)."""
    return np.asarray(WEIGHT * np.maximum(0.0, _cosines(images, captions)))


def reference_scores(clip_scores: Array, captions: Features, references: Features, owner: Sequence[int]) -> Array:
    """Return (n,) RefCLIPScore. references: (m, d), owner: (m) the row of captions that each belongs to.

    A caption without a reference is undefined: NaN.
    """
    owners = np.asarray(owner, np.int64)
    closest = np.full(len(captions), -np.inf)
    np.maximum.at(closest, owners, _cosines(captions[owners], references))
    similar = np.where(np.isinf(closest), np.nan, np.maximum(0.0, closest))
    total = clip_scores + similar
    return np.divide(2 * clip_scores * similar, total, out=np.where(np.isnan(total), np.nan, 0.0), where=total > 0)


def _cosines(rows: Features, others: Features) -> Array:
    return np.asarray(np.einsum("nd,nd->n", rows.astype(np.float64), others.astype(np.float64)))
