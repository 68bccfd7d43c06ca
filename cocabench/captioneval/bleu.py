"""BLEU@1-4 (Papineni et al. 2002), as pycocoevalcap's ``Bleu(4)`` with the closest reference length computes it.

BLEU@N is the geometric mean of the clipped precisions of 1- to N-grams, times exp(1 - r/c) where the candidates' total
length c falls short of the references' r. A fraction, 0 to 1, higher is better. Of one image's references, each n-gram
counts as often as in the one that holds it most, and r takes the length closest to the candidate's, the shorter of two.

The corpus value is a function of summed counts; a caption's own value is the same function of its counts alone. Zero
counts are smoothed by 1e-15 and lengths by 1e-9, as in the reference: an empty caption, or one without a matching
n-gram, has a value near 0 but not 0.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cocabench.captioneval import ngrams

Array = NDArray[np.float64]

SMALL, TINY = 1e-9, 1e-15
COLUMNS = (
    *(f"bleu_match_{n}" for n in range(1, ngrams.ORDERS + 1)),
    *(f"bleu_guess_{n}" for n in range(1, ngrams.ORDERS + 1)),
    "bleu_test_length",
    "bleu_reference_length",
)


def value(sums: Array, order: int) -> Array:
    """Return BLEU@order of summed statistics: (..., 10) in the order of COLUMNS -> (...)."""
    match, guess = sums[..., :order], sums[..., ngrams.ORDERS : ngrams.ORDERS + order]
    precision = np.prod((match + TINY) / (guess + SMALL), axis=-1) ** (1 / order)
    ratio = (sums[..., -2] + TINY) / (sums[..., -1] + SMALL)
    with np.errstate(over="ignore"):
        return np.asarray(precision * np.exp(np.minimum(0.0, 1 - 1 / ratio)))


def statistics(candidates: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, NDArray[np.generic]]:
    """Return COLUMNS as integers and ``bleu_1`` … ``bleu_4`` for every image. Texts are tokenised."""
    n = len(candidates)
    images = np.repeat(np.arange(n), [len(r) for r in references])
    lengths, counts = ngrams.count([*candidates, *(r for group in references for r in group)])
    sums = np.zeros((n, len(COLUMNS)))
    for k, order in enumerate(counts):
        sums[:, k] = _matches(order, images, n)
        sums[:, ngrams.ORDERS + k] = np.maximum(0, lengths[:n] - k)
    sums[:, -2] = lengths[:n]
    sums[:, -1] = _closest(lengths[:n], lengths[n:], images)
    columns: dict[str, NDArray[np.generic]] = dict(zip(COLUMNS, sums.T.astype(np.int64), strict=True))
    return columns | {f"bleu_{k}": value(sums, k) for k in range(1, ngrams.ORDERS + 1)}


def _matches(counts: ngrams.Counts, images: ngrams.Ints, n: int) -> Array:
    """Return per image the candidate's n-grams that a reference holds, each at most as often as in one reference."""
    mine = counts.text < n
    key = images[counts.text[~mine] - n] * counts.size + counts.gram[~mine]
    order = np.lexsort((counts.number[~mine], key))
    last = np.append(key[order][1:] != key[order][:-1], True) if len(order) else np.zeros(0, bool)
    best = order[last]
    at_most = ngrams.Counts(
        key[best] // max(counts.size, 1), key[best] % max(counts.size, 1), counts.number[~mine][best], counts.size
    )
    allowed = ngrams.look_up(at_most, at_most.number.astype(float), counts.text[mine], counts.gram[mine])
    return np.bincount(counts.text[mine], np.minimum(allowed, counts.number[mine]), minlength=n).astype(np.float64)


def _closest(lengths: ngrams.Ints, reference_lengths: ngrams.Ints, images: ngrams.Ints) -> ngrams.Ints:
    """Return per image the reference length closest to the candidate's."""
    order = np.lexsort((reference_lengths, np.abs(reference_lengths - lengths[images]), images))
    _, first = np.unique(images[order], return_index=True)
    return reference_lengths[order][first]
