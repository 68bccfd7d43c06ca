"""Zero-shot classification: class weights from prompts, ranks of classes, average precision."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cocabench.core.formatting import plural
from cocabench.core.types import Features
from cocabench.metrics import tiles
from cocabench.metrics.base import Samples
from cocabench.metrics.ranking import (
    SCORES_PER_CHUNK,
    Floats,
    Ints,
    Neighbours,
    Ranks,
    Scores,
    check_finite,
    highest,
)

MIN_POSITIVES_PER_CLASS = 30
MIN_IMAGES_FOR_RARE_POSITIVES = 1000
"""From here on, mean average precision has an interval however few the images of a class are."""


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


def precision_influence(scores: Floats, truth: NDArray[np.bool_]) -> Floats:
    """Return (n,) how average_precision moves with each sample's weight, 1/n of which it has: they sum to 0.

    With AP = 1/P Σ y_i A_i / B_i (A_i positives and B_i samples down to place i, P positives), sample j moves its own
    term and those of all places below it: [y_j (A_j/B_j - AP) + Σ_{i>=j} y_i (y_j/B_i - A_i/B_i²)] / P. Their squares
    miss a part of the variance where positives are few, P / (P + 3) of it by simulation, and are raised by that.
    """
    order = np.lexsort((truth, -scores))
    hit = truth[order].astype(np.float64)
    above, places = hit.cumsum(), np.arange(1, len(hit) + 1)
    positives = max(above[-1], 1.0)
    own = hit * (above / places - (hit * above / places).sum() / positives)
    gained, lost = ((hit * part)[::-1].cumsum()[::-1] for part in (1 / places, above / places**2))
    influence = np.empty(len(hit))
    influence[order] = (own + hit * gained - lost) / positives
    return np.asarray(influence * np.sqrt(1 + 3 / positives), np.float64)


def multi_hot(labels: Sequence[Sequence[int]], n_classes: int) -> NDArray[np.bool_]:
    """Return (n, n_classes) bool from the class indices of each sample."""
    truth = np.zeros((len(labels), n_classes), bool)
    for row, indices in zip(truth, labels, strict=True):
        row[np.asarray(indices, int)] = True
    return truth


def map_of(samples: Samples) -> tuple[float, Floats]:
    """Return the mean over classes of average_precision, 0-1, and (rows,) how each row moves it.

    samples: with the columns class_scores and labels (lists). A class without positives counts as 0.
    """
    scores = np.stack(list(samples["class_scores"])).astype(np.float64)
    truth = multi_hot(list(samples["labels"]), scores.shape[1])
    columns = list(zip(scores.T, truth.T, strict=True))
    value = np.mean([average_precision(*column) for column in columns])
    return float(value), np.mean([precision_influence(*column) for column in columns], axis=0)


def counted_map_of(samples: Samples) -> tuple[float, Floats]:
    """Return the mean over classes of average_precision among the images counted for each, 0-1, and as ``map_of``.

    samples: also with the column counted_for (lists): the classes that an image is counted for. A class without a
    positive among its images is left out; nan if all are.
    """
    scores = np.stack(list(samples["class_scores"])).astype(np.float64)
    truth, counted = (multi_hot(list(samples[name]), scores.shape[1]) for name in ("labels", "counted_for"))
    values, influence = [], np.zeros(len(samples))
    for k in np.flatnonzero((truth & counted).any(axis=0)):
        rows = counted[:, k]
        values.append(average_precision(scores[rows, k], truth[rows, k]))
        influence[rows] += precision_influence(scores[rows, k], truth[rows, k])
    return float(np.mean(values)) if values else math.nan, influence / max(1, len(values))


def few_positives(samples: Samples) -> str:
    """Return why mean average precision of samples gets no interval, '' where it does.

    Of few positives, average precision is higher than it would be on more images, by more than it varies: of classes
    with 3 to 24, intervals of 30 to 300 images cover 0.02 to 0.98 of what large data would give.
    """
    return _few(list(samples["labels"]))


def _few(labels: Sequence[Collection[int]]) -> str:
    positives = sum(map(len, labels)) / max(1, len({label for some in labels for label in some}))
    if len(labels) >= MIN_IMAGES_FOR_RARE_POSITIVES or positives >= MIN_POSITIVES_PER_CLASS:
        return ""
    return f"{plural(round(positives), 'image')} a class, {MIN_POSITIVES_PER_CLASS} are the fewest that tell"


def few_counted_positives(samples: Samples) -> str:
    """As few_positives, of the positives among the images counted for each class."""
    pairs = zip(samples["labels"], samples["counted_for"], strict=True)
    return _few([{*labels} & {*counted} for labels, counted in pairs])


def macro_f1(samples: Samples) -> tuple[float, Floats]:
    """Return the mean of F1 over the classes that occur, 0-1, and (rows,) how each row moves it.

    samples: with the columns label and predicted, the class that scored highest. F1 of a class is
    2 TP / (P + T), of P images predicted and T true ones; a class that is predicted and never true does not count
    (WILDS; scikit-learn's f1_score with labels=unique(true), average="macro").
    """
    true = class_labels(samples)
    predicted = samples["predicted"].to_numpy(np.int64)
    occurs = np.unique(true)
    n = int(max(true.max(), predicted.max())) + 1
    hit = true == predicted
    sizes = (np.bincount(true, minlength=n) + np.bincount(predicted, minlength=n)).astype(np.float64)
    f1 = np.divide(2 * np.bincount(true[hit], minlength=n), sizes, out=np.zeros(n), where=sizes > 0)
    counted = np.isin(np.arange(n), occurs) / len(occurs)
    slope = np.divide(counted, sizes, out=np.zeros(n), where=sizes > 0)
    influence = 2 * hit * slope[true] - (f1 * slope)[true] - (f1 * slope)[predicted]
    return float(f1[occurs].mean()), np.asarray(influence, np.float64)


def few_images(samples: Samples) -> str:
    """Return why macro_f1 of samples gets no interval, '' where it does: as few_positives, by images of a class."""
    n, classes = len(samples), samples["label"].nunique()
    if n >= MIN_IMAGES_FOR_RARE_POSITIVES or n >= MIN_POSITIVES_PER_CLASS * classes:
        return ""
    return f"{plural(round(n / classes), 'image')} a class, {MIN_POSITIVES_PER_CLASS} are the fewest that tell"


def class_labels(samples: Samples) -> Ints:
    return samples["label"].to_numpy(np.int64)


def class_cosines(images: Features, weights: Features, items: Ints) -> Iterator[Scores]:
    """Yield the cosines of images (n, d) with all classes, in chunks (some, c) of bounded memory.

    weights: (u, d) the distinct classes. items: (c,) the distinct class of each class, so that classes of equal prompts
    tie exactly. So do equal images, of which a matrix product may round the rows differently; their scores are held.
    """
    several, which = _repeated(images)
    shared = several @ weights.T
    for start, stop in _chunks(len(images), len(items)):
        scores, own = images[start:stop] @ weights.T, which[start:stop]
        scores[own >= 0] = shared[own[own >= 0]]
        yield scores if np.array_equal(items, np.arange(len(weights))) else scores[:, items]


def _repeated(rows: Features) -> tuple[Features, Ints]:
    """Return the distinct rows (k, d) that occur several times, and (n,) which of them each row is, -1 for none."""
    keys = np.ascontiguousarray(rows).view(np.dtype((np.void, rows.shape[1] * rows.itemsize)))[:, 0]
    _, first, inverse, counts = np.unique(keys, return_index=True, return_inverse=True, return_counts=True)
    places = np.where(counts > 1, np.cumsum(counts > 1) - 1, -1)
    return rows[first[counts > 1]], places[inverse]


def class_means(sums: Scores, counts: Ints, items: Ints) -> Iterator[Scores]:
    """Yield sums (n, u) over prompts of distinct classes divided by their counts (u,), for all classes, in chunks."""
    for start, stop in _chunks(len(sums), len(items)):
        yield np.asarray(sums[start:stop] / counts, np.float32)[:, items]


def _chunks(n: int, classes: int) -> Iterator[tuple[int, int]]:
    size = max(1, SCORES_PER_CHUNK // (8 * classes))
    return ((start, start + size) for start in range(0, n, size))


def ranked_in_chunks(
    chunks: Iterable[Scores],
    labels: Ints,
    items: Ints,
    also: Callable[[Scores, Ints], Iterable[Mapping[str, Any]]] | None = None,
) -> Iterator[dict[str, Any]]:
    """Yield per image its label's rank among all classes and the five highest classes.

    chunks: scores (some, c) of n images in order. labels: (n,) in 0..c-1. items: (c,) as in ``class_cosines``. also:
    returns further statistics of each image of a chunk with its labels.
    """
    start = 0
    for scores in chunks:
        own = labels[start : start + len(scores)]
        found = ranked(scores, own, items)
        if also is None:
            yield from found
        else:
            yield from ({**one, **more} for one, more in zip(found, also(scores, own), strict=True))
        start += len(scores)


def ranked(scores: Scores, labels: Ints, items: Ints | None = None) -> Iterator[dict[str, Any]]:
    """Yield per row of scores (n, c) its label's rank among all classes and the five highest classes."""
    ranks, top = label_ranks(scores, labels, items), highest_classes(scores, 5)
    columns = {"label": labels, **ranks._asdict(), "top5": top.indices, "top5_scores": top.scores}
    for values in zip(*(column.tolist() for column in columns.values()), strict=True):
        yield dict(zip(columns, values, strict=True))


def label_ranks(scores: Scores, labels: Ints, items: Ints | None = None) -> Ranks:
    """Return what ``positive_ranks`` does where each row has one positive, its label; in a tenth of the time."""
    check_finite(scores, "scores")
    own = scores[np.arange(len(scores)), labels][:, None]
    n_above, tied = (
        np.array([np.count_nonzero(row) for row in mask], np.int64) for mask in (scores > own, scores == own)
    )
    identical = np.zeros_like(tied)
    if items is not None:
        for row in np.flatnonzero(tied > 1):
            identical[row] = np.count_nonzero((scores[row] == own[row]) & (items == items[labels[row]])) - 1
    return Ranks(n_above, tied - 1, identical, np.ones_like(tied))


def highest_classes(scores: Scores, k: int) -> Neighbours:
    """Return what ``highest`` does where all classes are allowed. scores: finite.

    The scores are read a tile at a time. Of rows with equal ones among the highest ``highest`` takes the first.
    """
    k = min(k, scores.shape[1])
    width = tiles.side(scores.shape[1])
    top = tiles.no_neighbours(len(scores), k + 1)
    for start in range(0, scores.shape[1], width):
        lines = np.asarray(scores[:, start : start + width], np.float32)
        room = ((0, 0), (0, width - lines.shape[1]))
        lines = np.pad(lines, room, constant_values=-np.inf) if room[1][1] else lines
        found = tiles.candidates(lines, top.scores[:, -1], k + 1)
        tiles.merge(top, found.lines, found.positions + start, found.scores)
    tied = (top.scores[:, :-1] == top.scores[:, 1:]).any(axis=1)
    top = Neighbours(top.indices[:, :k], top.scores[:, :k])
    if tied.any():
        again = highest(scores[tied], np.ones_like(scores[tied], bool), k)
        top.indices[tied], top.scores[tied] = again
    return top
