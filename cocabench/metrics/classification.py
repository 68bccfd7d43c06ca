"""Zero-shot classification: the classifier from prompts, and the metrics from ranks or scores."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cocabench.core.types import Features
from cocabench.metrics.base import UNKNOWN, Interval, Metric, Samples
from cocabench.metrics.intervals import image_draws, of_class_means, of_hits, of_proportion_like, proportion
from cocabench.metrics.pairing import Mean, Redrawn
from cocabench.metrics.ranking import CHUNK_SCORES, Floats, Ints, Ranks, highest, hits_at, positive_ranks


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


def accuracy(samples: Samples, k: int) -> float:
    """Return the share of images whose class is among the k highest; 0-1."""
    return float(hits_at(ranks_of(samples), k).mean())


def mean_per_class_recall(samples: Samples) -> float:
    """Return the mean over the classes that have images of their top-1 recall; 0-1 (balanced accuracy)."""
    return float(pd.Series(hits_at(ranks_of(samples), 1)).groupby(samples["label"].to_numpy()).mean().mean())


def average_precision(scores: Floats, truth: NDArray[np.bool_]) -> float:
    """Return the mean of the precisions at each positive, scores (n,) sorted from high to low; 0 without positives.

    0 without positives is clip-benchmark's convention (its function of the same name); callers count such classes.
    Ties count against the model: negatives first.
    """
    order = np.lexsort((truth, -scores))
    found = truth[order].cumsum()
    precision = found / np.arange(1, len(found) + 1)
    return float(precision[truth[order]].sum() / max(int(truth.sum()), 1))


def mean_average_precision(samples: Samples) -> float:
    """Return the mean over classes of average_precision, from columns class_scores and labels (lists); 0-1."""
    scores, truth = _scores_and_truth(samples)
    return _mean_over_classes(scores, truth)


def _scores_and_truth(samples: Samples) -> tuple[Floats, NDArray[np.bool_]]:
    scores = np.stack(list(samples["class_scores"])).astype(np.float64)
    return scores, multi_hot(list(samples["labels"]), scores.shape[1])


def _mean_over_classes(scores: Floats, truth: NDArray[np.bool_]) -> float:
    return float(np.mean([average_precision(scores[:, c], truth[:, c]) for c in range(scores.shape[1])]))


def multi_hot(labels: Sequence[Sequence[int]], n_classes: int) -> NDArray[np.bool_]:
    """Return (n, n_classes) bool from the class indices of each sample."""
    truth = np.zeros((len(labels), n_classes), bool)
    for row, indices in zip(truth, labels, strict=True):
        row[np.asarray(indices, int)] = True
    return truth


def hit_interval(mean: Mean, samples: Samples) -> Interval:
    """Wilson's interval where every hit is 0 or 1 and every image has one; else by the variance between images."""
    hits = mean.values(samples)
    if len(hits) == samples["image_id"].nunique() and np.isin(hits, (0.0, 1.0)).all():
        return proportion(hits)
    return of_hits(mean.deviations(samples), float(mean.weights(samples) @ hits), len(hits))


def _acc(k: int, n_classes: int) -> Metric:
    mean = Mean(lambda samples: hits_at(ranks_of(samples), k))
    return Metric(
        name=f"acc{k}",
        summary=f"Share of images whose class is among the {k} highest; undefined for fewer than {k} classes.",
        column="n_above",
        value=lambda samples: accuracy(samples, k) if n_classes >= k else float("nan"),
        interval=lambda samples, rng: hit_interval(mean, samples),
        pairing=mean,
    )


def _labels(samples: Samples) -> Ints:
    return samples["label"].to_numpy(np.int64)


def _class_weights(samples: Samples) -> Floats:
    """Return per row 1 / (classes · images of its class)."""
    _, codes, counts = np.unique(_labels(samples), return_inverse=True, return_counts=True)
    return np.asarray(1 / (len(counts) * counts[codes]), np.float64)


MEAN_PER_CLASS_RECALL = Metric(
    name="mean_per_class_recall",
    summary="Mean over classes of the share of their images classified right (balanced accuracy).",
    column="n_above",
    value=mean_per_class_recall,
    interval=lambda samples, rng: of_class_means(hits_at(ranks_of(samples), 1), _labels(samples)),
    pairing=Mean(lambda samples: hits_at(ranks_of(samples), 1), _class_weights, strata=_labels),
)


def _map_of_rows(samples: Samples) -> Callable[[Ints], float]:
    """Return the metric over rows. A class whose positives a draw loses keeps its place out of that draw."""
    scores, truth = _scores_and_truth(samples)
    share = truth.any(axis=0).mean()

    def value(rows: Ints) -> float:
        kept = truth[rows].any(axis=0)
        return float(share * _mean_over_classes(scores[rows][:, kept], truth[rows][:, kept]))

    return value


def _map_interval(samples: Samples, rng: np.random.Generator) -> Interval:
    """From the variance over redrawn images."""
    draws = image_draws(samples, _map_of_rows(samples), rng)
    if draws is None:
        return UNKNOWN
    return of_proportion_like(mean_average_precision(samples), float(draws.var(ddof=1)), samples["image_id"].nunique())


MEAN_AVERAGE_PRECISION = Metric(
    name="mean_average_precision",
    summary="Mean over classes of average precision; a class without positives counts as 0, as in clip-benchmark.",
    column="class_scores",
    value=mean_average_precision,
    interval=_map_interval,
    pairing=Redrawn(_map_of_rows),
)


def single_label(n_classes: int) -> tuple[Metric, ...]:
    """The metrics of a data set with one label per image."""
    return _acc(1, n_classes), _acc(5, n_classes), MEAN_PER_CLASS_RECALL


def ranked_classes(images: Features, weights: Features, items: Ints, labels: Ints) -> Iterator[dict[str, Any]]:
    """Yield per image its label's rank among all classes and the five highest classes, in chunks of bounded memory.

    images: (n, d). weights: (u, d) the distinct classes. items: (c,) the distinct class of each class, so that classes
    of equal prompts tie exactly. labels: (n,) in 0..c-1. Scores are cosines.
    """
    size = max(1, CHUNK_SCORES // (8 * len(items)))
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
