"""Calibration of class probabilities: what is kept of all classes per image, Brier score and calibration error.

The probabilities of an image are softmax(s c / t) over its cosines c with all classes: s is the model's logit scale,
t a temperature relative to it. t = 1 is how the model was trained; larger ones are less sure. With L(t) the sum over
classes of exp(s (c - c_top) / t), the highest probability is 1 / L(t), and the sum of squared probabilities is
L(t/2) / L(t)². So L on a geometric grid is enough for both, on every temperature whose half is on the grid.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cocabench.metrics.base import Samples
from cocabench.metrics.classification import ranks_of
from cocabench.metrics.ranking import Floats, Ints, Scores, hits_at

PER_OCTAVE = 4
LOWEST, HIGHEST = -7, 8
TEMPERATURES = 2.0 ** (np.arange(LOWEST, HIGHEST + 1) / PER_OCTAVE)
"""The 16 temperatures, relative to the model's own: 0.30 to 4, each 2^(1/4) = 1.19 times the one before."""

OWN = -LOWEST
"""Where the model's own temperature stands among them."""

KEPT = 2.0 ** (np.arange(LOWEST - PER_OCTAVE, HIGHEST + 1) / PER_OCTAVE)
"""The 20 temperatures of which L is kept: those and the halves of the lowest four."""

BINS = 15
"""Of confidence, of equal width (Guo et al. 2017, On Calibration of Modern Neural Networks)."""


class AllClasses(NamedTuple):
    """What is kept of images: the logit (n,) of the true class less that of the highest, at the model's own
    temperature, at most 0; and the log of the highest probability (n, 20) at the temperatures KEPT, at most 0."""

    label_logit: Scores
    top_logprobs: Scores


def all_classes(scores: Scores, labels: Ints, scale: float) -> AllClasses:
    """Return what is kept of scores (n, c) of images with labels (n,). scale: the model's logit scale."""
    gaps = np.asarray(scores - scores.max(axis=1, keepdims=True), np.float32) * np.float32(scale)
    found = np.empty((len(scores), len(KEPT)), np.float32)
    for k in range(len(KEPT) - PER_OCTAVE, len(KEPT)):
        powers = np.exp(gaps / np.float32(KEPT[k]))
        for place in range(k, -1, -PER_OCTAVE):  # half the temperature is the square
            found[:, place] = -np.log(powers.sum(axis=1))
            np.square(powers, out=powers)
    return AllClasses(gaps[np.arange(len(labels)), labels], found)


class Probabilities(NamedTuple):
    """Of images (n,): the highest probability, that of the true class, and the sum of all squared ones, 0-1 each."""

    top: Floats
    label: Floats
    squares: Floats


def probabilities(samples: Samples, places: Ints) -> Probabilities:
    """Return the probabilities of samples at TEMPERATURES[places], of each row its own (rows,)."""
    logprobs, rows, at = _logprobs(samples), np.arange(len(samples)), places + PER_OCTAVE
    top, half = logprobs[rows, at], logprobs[rows, at - PER_OCTAVE]
    label = np.exp(_label_logits(samples) / TEMPERATURES[places] + top)
    return Probabilities(np.exp(top), label, np.exp(2 * top - half))


def at_own(samples: Samples) -> Ints:
    """Return the place of the model's own temperature for each row."""
    return np.full(len(samples), OWN)


def negative_log_likelihoods(samples: Samples) -> NDArray[np.float64]:
    """Return -log of the true class's probability (rows, 16) at each of TEMPERATURES."""
    return -(_label_logits(samples)[:, None] / TEMPERATURES + _logprobs(samples)[:, PER_OCTAVE:])


def fitted(samples: Samples) -> Ints:
    """Return the place of the temperature with the least mean negative log-likelihood on the *other* half (rows,).

    samples: with the column half, 0 or 1. Each image's probabilities are at a temperature that was not fitted on it.
    An empty half says nothing: -1.
    """
    losses, halves = negative_log_likelihoods(samples), samples["half"].to_numpy(np.int64)
    places = np.full(2, -1)
    for half in (0, 1):
        if (others := halves != half).any():
            places[half] = losses[others].mean(axis=0).argmin()
    return np.asarray(places[halves])


def brier(samples: Samples, places: Ints) -> Floats:
    """Return each row's Brier score: the sum over classes of (probability - [true class])², 0-2; 0 is best.

    (Brier 1950, the sum over all classes; scikit-learn's halves it for two classes.) NaN where a place is -1.
    """
    found = probabilities(samples, np.maximum(places, 0))
    return np.where(places < 0, np.nan, found.squares - 2 * found.label + 1)


def calibration_error(samples: Samples, places: Ints) -> float:
    """Return the expected calibration error, 0-1: over BINS of the highest probability, the mean of
    |mean probability - share right|, weighted by the images of each; NaN where a place is -1."""
    if (places < 0).any():
        return float("nan")
    confidence = probabilities(samples, places).top
    gaps = np.bincount(bins(confidence), confidence - hits_at(ranks_of(samples), 1), BINS)
    return float(np.abs(gaps).sum() / len(samples))


def bins(confidence: Floats) -> Ints:
    """Return the bin (rows,) of each confidence; an edge belongs to the bin below."""
    return np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)


def own_confidence(samples: Samples) -> Floats:
    """Return each row's highest probability at the model's own temperature."""
    return probabilities(samples, at_own(samples)).top


def fitted_temperature(samples: Samples) -> float:
    """Return the temperature of TEMPERATURES that fits all samples best, relative to the model's own."""
    return float(TEMPERATURES[negative_log_likelihoods(samples).mean(axis=0).argmin()])


def placements(own: Floats, others: Floats) -> tuple[Floats, Ints]:
    """Return for confidences (n,) the share of others (m,) that are lower, ties half, and how many are as high (n,)."""
    ordered = np.sort(others)
    lower, not_higher = (np.searchsorted(ordered, own, side) for side in ("left", "right"))
    return (lower + not_higher) / (2 * len(ordered)), np.asarray(len(ordered) - lower, np.int64)


def aupr(samples: Samples) -> tuple[float, Floats]:
    """Return the area under precision and recall of telling a set's images (positive) from others by confidence, 0-1,
    and (rows,) how each row moves it; the others are held fixed.

    The mean over rows of the precision at their confidence (average precision); ties share the lowest. samples: with
    the column ood_above, the others that are as confident.
    """
    confidence, above = own_confidence(samples), samples["ood_above"].to_numpy(np.float64)
    n, order = len(confidence), np.argsort(-confidence, kind="stable")
    found = np.searchsorted(-confidence[order], -confidence, "right").astype(np.float64)
    precision = found / (found + above)
    lost = (above / (found + above) ** 2)[order][::-1].cumsum()[::-1]
    gained = lost[np.searchsorted(-confidence[order], -confidence, "left")]
    value = float(precision.mean())
    return value, np.asarray((precision - value + gained - gained.mean()) / n, np.float64)


def _logprobs(samples: Samples) -> NDArray[np.float64]:
    return np.stack(list(samples["top_logprobs"])).astype(np.float64)


def _label_logits(samples: Samples) -> Floats:
    return samples["label_logit"].to_numpy(np.float64)
