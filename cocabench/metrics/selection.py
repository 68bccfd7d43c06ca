"""Caption selection: do scores match captions to their images (SugarCrepe, Winoground)?

An item has i images and c captions; the k-th image belongs to the k-th caption, and further captions or images are
negatives. The correct one must score strictly higher: a tie counts against the model (clip-benchmark's argmax takes
the first of a tie, which is the correct caption if it stands before its negative).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from cocabench.core.types import Features
from cocabench.metrics.base import Samples
from cocabench.metrics.grid import Grid
from cocabench.metrics.ranking import Floats, Ints, Mask, check_finite

CAPTIONS_PER_CHUNK = 1 << 13
"""Captions whose features are multiplied at a time."""


class Selected(NamedTuple):
    """Per item (n,): whether each image has chosen its caption (text), and each caption its image (image)."""

    text: Mask
    image: Mask


def select(scores: Floats) -> Selected:
    """Return what scores (n, i, c) of n items select; any sign, higher is better, NaN or infinity raises NumericsError.

    One image is never wrong about itself: ``image`` is True where there is nothing to choose.

    >>> select(np.array([[[0.3, 0.2], [0.4, 0.5]]]))
    Selected(text=array([ True]), image=array([False]))
    """
    check_finite(scores.reshape(len(scores), -1), "scores")
    pairs = min(scores.shape[1:])
    both = np.arange(pairs)
    own, others = scores[:, both, both], scores.copy()
    others[:, both, both] = -np.inf
    texts, images = others[:, :pairs].max(axis=2), others[:, :, :pairs].max(axis=1)
    return Selected((own > texts).all(axis=1), (own > images).all(axis=1))


def cosines(images: Features, texts: Features, candidates: Ints) -> Floats:
    """Return the cosines (k, m) of images (k, d) with texts[candidates] (k, m), exact, so that equal texts tie.

    Features are unit rows, rounded to 2^-26 (metrics.grid).
    """
    left, right = Grid(images, "image features"), Grid(texts, "text features")
    step, size = left.step * right.step, max(1, CAPTIONS_PER_CHUNK // candidates.shape[1])
    parts = [
        np.einsum(
            "kd,kmd->km",
            left[slice(start, start + size)],
            right[candidates[start : start + size].ravel()].reshape(-1, candidates.shape[1], right.terms),
            dtype=np.float64,
        )
        for start in range(0, len(images), size)
    ]
    return np.asarray(np.concatenate(parts) * step, np.float64)


def chances(images: int, texts: int) -> dict[str, float]:
    """Return the chance level (0-1) of each metric for an item with so many images and texts, if it is known.

    acc of two images and two texts: of the 24 orders of their scores, 4 have both right pairs first. With one image
    acc is text_acc, and image_acc is no choice.
    """
    pairs = min(images, texts)
    if images == 1:
        return {"acc": 1 / texts}
    found = {"text_acc": float(texts**-pairs), "image_acc": float(images**-pairs)}
    return found | ({"acc": 1 / 6} if (images, texts) == (2, 2) else {})


def jaccard(scores: Floats, right: Mask) -> float:
    """Return the Jaccard index, 0-1, of the right candidates and as many of the highest-scoring ones (WinoGAViL).

    scores: (n,) finite, higher is better. right: (n,) bool, k of them True. h of the k highest are right: h / (2k - h).
    Among equal scores wrong candidates come first.

    >>> jaccard(np.array([0.9, 0.8, 0.7, 0.1]), np.array([True, False, True, False]))  # 1 of 2: the union has 3
    0.3333333333333333
    """
    check_finite(scores[None], "scores")
    k = int(right.sum())
    h = int(right[np.lexsort((right, -scores))[:k]].sum())
    return h / (2 * k - h)


def jaccard_chance(n: int, k: int) -> float:
    """Return the expected Jaccard index of k candidates drawn at random of n, of which k are right.

    >>> jaccard_chance(2, 1)
    0.5
    """
    ways = (math.comb(k, h) * math.comb(n - k, k - h) * h / (2 * k - h) for h in range(1, k + 1))
    return sum(ways) / math.comb(n, k)


def hits(samples: Samples, metric: str) -> Floats:
    """Return per item 1.0 where it is right by text_acc, image_acc or acc, else 0.0."""
    text = samples["text_right"].to_numpy(np.float64)
    image = samples["image_right"].to_numpy(np.float64) if "image_right" in samples else np.ones(len(samples))
    kinds: dict[str, Floats] = {"text_acc": text, "image_acc": image, "acc": text * image}
    return kinds[metric]
