"""Scores of images with texts by a decoder's likelihood, for the kinds that choose among texts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import chain
from typing import Literal

import numpy as np

from cocabench.core.types import ImageSource, Model, Progress
from cocabench.data.images import NeutralImage
from cocabench.metrics.ranking import Floats

Scoring = Literal["cosine", "likelihood", "likelihood_per_token", "likelihood_gain"]
"""How images and texts are scored. likelihood: log p(text | image), summed over tokens including the end token; longer
texts are less likely. likelihood_per_token: its mean over tokens. likelihood_gain: log p(text | image) less
log p(text | neutral image), so that a text gains nothing by being likely in itself."""

NEUTRAL = "zeros after normalisation"
"""The neutral image, as the protocol names it: what the model's transform calls the mean of all images."""

TEXTS_PER_PASS = 64
"""Texts that are scored with the neutral image at a time."""

Texts = Sequence[Sequence[str]]
"""The candidate texts of each image."""


def likelihoods(
    model: Model,
    images: Sequence[ImageSource],
    texts: Texts,
    progress: Progress,
    *,
    scoring: Scoring = "likelihood",
    prefixes: Sequence[str] | None = None,
) -> Iterator[tuple[int, Floats]]:
    """Yield the position of each image that could be read, and its scores (m,) with its m texts.

    prefixes: for each image the words before its texts, such as a question; not with likelihood_gain.
    """
    prior: dict[str, float] = {}
    if scoring == "likelihood_gain":
        distinct = {id(own): own for own in texts}.values()  # images may share one list
        prior = priors(model, list(dict.fromkeys(chain.from_iterable(distinct))), progress)
    done = 0
    for rows in grouped_by_length(texts):
        some = [images[i] for i in rows]
        rest = partial(_offset, progress, done, len(images))
        before = {"prefixes": [prefixes[i] for i in rows]} if prefixes is not None else {}
        found = model.score_captions(some, [texts[i] for i in rows], progress=rest, **before)
        scores = found.logprobs.astype(np.float64) / (found.n_tokens if scoring == "likelihood_per_token" else 1)
        for position, own in zip(np.array(rows)[found.kept].tolist(), scores, strict=True):
            yield position, own - np.array([prior[text] for text in texts[position]]) if prior else own
        done += len(rows)


def priors(model: Model, texts: Sequence[str], progress: Progress) -> dict[str, float]:
    """Return log p(text | neutral image) of distinct texts."""
    size = min(TEXTS_PER_PASS, len(texts))
    rows = [list(texts[start : start + size]) for start in range(0, len(texts), size or 1)]
    filled = [row + row[-1:] * (size - len(row)) for row in rows]
    found = model.score_captions([NeutralImage()] * len(filled), filled, progress=progress)
    flat = found.logprobs.astype(np.float64).ravel().tolist()
    return dict(zip(chain.from_iterable(filled), flat, strict=True))


def grouped_by_length(texts: Texts) -> list[list[int]]:
    """Return the positions of the images, grouped by their number of texts."""
    groups: dict[int, list[int]] = {}
    for i, own in enumerate(texts):
        groups.setdefault(len(own), []).append(i)
    return list(groups.values())


def _offset(progress: Progress, before: int, whole: int, stage: str, done: int, total: int) -> None:
    progress(stage, before + done, whole)
