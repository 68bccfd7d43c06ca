"""CIDEr-D (Vedantam et al. 2015, section 5): what pycocoevalcap, and so nearly every paper, calls CIDEr.

Mean over n = 1 … 4 of the cosine between the candidate's and a reference's n-gram vectors weighted by tf-idf, with the
candidate's weights clipped to the reference's, times exp(-(difference of lengths)² / (2 · 6²)), averaged over the
references, times 10. Range 0 to 10, higher is better; the corpus value is the mean over images.

The idf of an n-gram is log(images) - log(images with it in a reference), from a whole set of references: all of a task,
also where only some images are scored. With one image it is 0 for all n-grams, and CIDEr-D is undefined: NaN. (There,
pycocoevalcap says 0.) Lengths are numbers of bigrams, as in pycocoevalcap. An empty caption scores 0.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cocabench.captioneval import ngrams

Array = NDArray[np.float64]

SIGMA = 6.0
SCALE = 10.0


def scores(
    candidates: Sequence[str], references: Sequence[Sequence[str]], corpus: Sequence[Sequence[str]] | None = None
) -> Array:
    """Return one score per image. Texts are tokenised; corpus gives the document frequencies, else references do."""
    n, documents = len(candidates), references if corpus is None else corpus
    if len(documents) < 2:
        return np.full(n, np.nan)
    per_image = np.array([len(group) for group in references])
    images = np.repeat(np.arange(n), per_image)
    texts = [*candidates, *(r for group in references for r in group)]
    extra = [] if corpus is None else [r for group in corpus for r in group]
    lengths, counts = ngrams.count([*texts, *extra])
    owner = images if corpus is None else np.repeat(np.arange(len(documents)), [len(group) for group in documents])
    similarity = np.zeros(len(images))
    for order in counts:
        idf = np.log(len(documents)) - np.log(
            np.maximum(1.0, _document_frequency(order, owner, n if corpus is None else len(texts)))
        )
        similarity += _cosines(order, idf, images, n)
    bigrams = np.maximum(0, lengths[: len(texts)] - 1)
    similarity *= np.exp(-((bigrams[:n][images] - bigrams[n:]) ** 2) / (2 * SIGMA**2)) / ngrams.ORDERS
    return np.asarray(np.bincount(images, similarity, minlength=n) / per_image * SCALE)


def _document_frequency(counts: ngrams.Counts, owner: ngrams.Ints, start: int) -> Array:
    """Return per n-gram the number of documents with it; text start + i belongs to document owner[i]."""
    theirs = counts.text >= start
    pairs = np.unique(owner[counts.text[theirs] - start] * max(counts.size, 1) + counts.gram[theirs])
    return np.bincount(pairs % max(counts.size, 1), minlength=counts.size).astype(float)


def _cosines(counts: ngrams.Counts, idf: Array, images: ngrams.Ints, n: int) -> Array:
    """Return per reference the clipped cosine with its image's candidate; 0 where either has no weight."""
    used = counts.text < n + len(images)
    counts = ngrams.Counts(counts.text[used], counts.gram[used], counts.number[used], counts.size)
    weight = counts.number * idf[counts.gram]
    norm = np.sqrt(np.bincount(counts.text, weight**2, minlength=n + len(images)))
    theirs = counts.text >= n
    reference = counts.text[theirs] - n
    mine = ngrams.look_up(counts, weight, images[reference], counts.gram[theirs])
    dot = np.bincount(reference, np.minimum(mine, weight[theirs]) * weight[theirs], minlength=len(images))
    scale = norm[:n][images] * norm[n:]
    return np.asarray(np.divide(dot, scale, out=np.zeros(len(images)), where=scale > 0))
