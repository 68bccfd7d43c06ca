"""Zero-shot classification: class weights from prompts, ranks of classes, average precision."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cocabench.core.types import Features
from cocabench.metrics.base import Samples
from cocabench.metrics.ranking import SCORES_PER_CHUNK, Floats, Ints, Ranks, highest, positive_ranks


def class_weights(prompts: Features, classes: Ints, n_classes: int) -> Features:
    """Return (n_classes, d) unit rows: each class's prompts (unit rows) averaged and normalised again.

    prompts: (p, d), unit norm. classes: (p,) the class of each prompt. (Radford et al. 2021, section 3.1.4.)
    """
    sums = np.zeros((n_classes, prompts.shape[1]), np.float32)
    np.add.at(sums, classes, prompts)
    means = sums / np.bincount(classes, minlength=n_classes)[:, None].astype(np.float32)
    return np.asarray(means / np.linalg.norm(means, axis=1, keepdims=True), np.float32)


def ranks_of(samples: Samples, prefix: str = "") -> Ranks:
    """Return the Ranks that the columns {prefix}n_above … of samples hold."""
    return Ranks(*(samples[prefix + field].to_numpy(np.int64) for field in Ranks._fields))


def average_precision(scores: Floats, truth: NDArray[np.bool_]) -> float:
    """Return the mean of the precisions at each positive, scores (n,) sorted from high to low; 0 without positives.

    0 without positives is clip-benchmark's convention (its function of the same name); callers count such classes.
    Ties count against the model: negatives first.
    """
    order = np.lexsort((truth, -scores))
    found = truth[order].cumsum()
    precision = found / np.arange(1, len(found) + 1)
    return float(precision[truth[order]].sum() / max(int(truth.sum()), 1))


def multi_hot(labels: Sequence[Sequence[int]], n_classes: int) -> NDArray[np.bool_]:
    """Return (n, n_classes) bool from the class indices of each sample."""
    truth = np.zeros((len(labels), n_classes), bool)
    for row, indices in zip(truth, labels, strict=True):
        row[np.asarray(indices, int)] = True
    return truth


def map_of_rows(samples: Samples) -> Callable[[Ints], float]:
    """Return the mean over classes of average_precision as a function of row numbers, with repeats; 0-1.

    samples: with the columns class_scores and labels (lists). A class without positives counts as 0; a class whose
    positives are missing from a bootstrap draw is left out of that draw.
    """
    scores = np.stack(list(samples["class_scores"])).astype(np.float64)
    truth = multi_hot(list(samples["labels"]), scores.shape[1])
    share = truth.any(axis=0).mean()

    def value(rows: Ints) -> float:
        kept = truth[rows].any(axis=0)
        if not kept.any():
            return 0.0
        some, right = scores[rows][:, kept], truth[rows][:, kept]
        return float(share * np.mean([average_precision(some[:, c], right[:, c]) for c in range(some.shape[1])]))

    return value


def class_labels(samples: Samples) -> Ints:
    return samples["label"].to_numpy(np.int64)


def ranked_classes(images: Features, weights: Features, items: Ints, labels: Ints) -> Iterator[dict[str, Any]]:
    """Yield per image its label's rank among all classes and the five highest classes, in chunks of bounded memory.

    images: (n, d). weights: (u, d) the distinct classes. items: (c,) the distinct class of each class, so that classes
    of equal prompts tie exactly. labels: (n,) in 0..c-1. Scores are cosines.
    """
    size = max(1, SCORES_PER_CHUNK // (8 * len(items)))
    for start in range(0, len(images), size):
        scores = (images[start : start + size] @ weights.T)[:, items]
        mine = labels[start : start + size]
        ranks = positive_ranks(scores, mine[:, None] == np.arange(len(items)), items)
        top = highest(scores, np.ones_like(scores, bool), 5)
        for row, label in enumerate(mine):
            counts = {name: int(values[row]) for name, values in ranks._asdict().items()}
            yield {
                "label": int(label),
                **counts,
                "top5": top.indices[row].tolist(),
                "top5_scores": top.scores[row].tolist(),
            }
