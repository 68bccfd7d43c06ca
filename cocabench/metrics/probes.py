"""Probes: classifiers trained on features, and the choice of their training images. Pure functions of arrays.

Rows are features (n, d), labels are class indices (n,) in 0..c-1, scores (n, c) are higher for likelier classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import scipy
from numpy.typing import NDArray

from cocabench.core.errors import CocabenchError
from cocabench.metrics.ranking import SCORES_PER_CHUNK, Ints

Array = NDArray[np.floating[Any]]
Doubles = NDArray[np.float64]

BIAS = 100.0
"""The constant feature of big_vision's few-shot regression: large, so that regularisation hardly reaches it."""
MIN_SPREAD = 1e-5
"""Added to each feature's standard deviation, as in big_vision."""
ROWS_PER_CHUNK = 1 << 14
"""Rows that are held in float64 at a time: 100 MB of 768 features."""
STEPS = (8, 4, 2, 1)
"""Steps of the search for a regularisation, in points of its grid."""


class Scorer(NamedTuple):
    """A trained classifier: of(rows (n, d)) is scores (n, c). chosen: the regularisation that a search found."""

    of: Callable[[Array], Array]
    chosen: float | None = None


def drawn(labels: Ints, shots: int, seed: int, n_classes: int) -> Ints:
    """Return the positions of ``shots`` images of each class, drawn as big_vision's fewshot_lsr draws them.

    One generator permutes the images of class 0, then of class 1 …; a larger number of shots includes the smaller.
    CocabenchError names the first class that has fewer images.

    >>> drawn(np.array([1, 0, 1, 0, 0]), 2, seed=0, n_classes=2)
    array([4, 1, 2, 0])
    """
    check_enough(labels, shots, n_classes)
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.permutation(np.flatnonzero(labels == k))[:shots] for k in range(n_classes)])


def first_of_each(labels: Ints, shots: int, n_classes: int) -> Ints:
    """Return the positions of the first ``shots`` images of each class, in order; CocabenchError as drawn."""
    check_enough(labels, shots, n_classes)
    return np.sort(np.concatenate([np.flatnonzero(labels == k)[:shots] for k in range(n_classes)]))


def check_enough(labels: Ints, shots: int, n_classes: int) -> None:
    """Raise CocabenchError if a class has fewer images than shots."""
    counts = np.bincount(labels, minlength=n_classes)
    few = np.flatnonzero(counts < shots)
    if len(few):
        got = f"{counts[few[0]]} training images of class {few[0]}"
        got += f" ({len(few)} classes have too few)" if len(few) > 1 else ""
        raise CocabenchError(f"{shots} shots", got, wanted=f"{shots} of each class", fix="choose fewer in params.shots")


def held_out(labels: Ints, share: float) -> tuple[Ints, Ints]:
    """Return positions to train on and to validate on: of each class the last ``share``, one image at least.

    A class of one image is trained on only.
    """
    train, val = [], []
    for k in np.unique(labels):
        places = np.flatnonzero(labels == k)
        n = min(len(places) - 1, max(1, round(share * len(places))))
        train.append(places[: len(places) - n])
        val.append(places[len(places) - n :])
    return np.concatenate(train), np.concatenate(val)


def accuracy(scores: Array, labels: Ints) -> float:
    """Return the share of rows whose highest score is their label's; of ties the first class counts."""
    return float((scores.argmax(axis=1) == labels).mean())


def peak(accuracy_at: Callable[[int], float], first: Sequence[int], n: int) -> int:
    """Return the point of a grid of n with the highest accuracy: the best of ``first``, then of neighbours.

    Neighbours are 8, 4, 2 and 1 points away from the best so far (CLIP, appendix A.3; CLIP_benchmark's linear_probe).
    Of equal ones the lowest point is taken, point 0 if all are 0. Each point is computed once.
    """
    known = cache(accuracy_at)

    def best(points: Sequence[int]) -> int:
        found = max(points, key=known)  # of equal ones the first; points ascend
        return found if known(found) > 0 else 0

    at = best(first)
    for step in STEPS:
        at = best((max(at - step, 0), at, min(at + step, n - 1)))
    return at


def spread(scores: Array, seen: Ints, n_classes: int) -> Array:
    """Return (n, n_classes) scores from those of the classes seen in training (n, len(seen)); others score lowest."""
    if len(seen) == n_classes:
        return scores
    whole = np.repeat(scores.min(axis=1, keepdims=True) - 1, n_classes, axis=1)
    whole[:, seen] = scores
    return whole


class Moments(NamedTuple):
    """Mean (d,) and standard deviation (d,) of features, the latter with MIN_SPREAD added."""

    mean: Doubles
    std: Doubles

    @classmethod
    def of(cls, rows: Array) -> Moments:
        mean = rows.mean(axis=0, dtype=np.float64)
        squares = sum(((part - mean) ** 2).sum(axis=0) for part in _chunks(rows))
        return cls(mean, np.sqrt(squares / len(rows)) + MIN_SPREAD)

    def padded(self, rows: Array) -> Doubles:
        """Return (n, d + 1): standardised rows and the constant BIAS."""
        return np.pad((rows - self.mean) / self.std, ((0, 0), (0, 1)), constant_values=BIAS)


def _chunks(rows: Array) -> Iterator[Array]:
    for start in range(0, len(rows), ROWS_PER_CHUNK):
        yield rows[start : start + ROWS_PER_CHUNK]


def ridge(rows: Array, labels: Ints, n_classes: int, penalties: Sequence[float]) -> list[Scorer]:
    """Return least squares on targets of +1 (own class) and -1, one for each penalty, as big_vision's fewshot_lsr.

    Rows are standardised by their own moments and padded with BIAS, which is penalised with the rest: the weights are
    (X'X + l2 I)⁻¹ X'Y, or X' (XX' + l2 I)⁻¹ Y for fewer rows than features. In float64, in chunks: 1.28 million rows
    need hardly more memory than the rows themselves.
    """
    moments = Moments.of(rows)
    if len(rows) > rows.shape[1]:
        gram, right = np.zeros((rows.shape[1] + 1,) * 2), np.zeros((n_classes, rows.shape[1] + 1))
        for start in range(0, len(rows), ROWS_PER_CHUNK):
            padded = moments.padded(rows[start : start + ROWS_PER_CHUNK])
            gram += padded.T @ padded
            right += _sums_by_class(padded, labels[start : start + ROWS_PER_CHUNK], n_classes)
        right = 2 * right - right.sum(axis=0)  # of own rows +1, of all others -1
        values, vectors = np.linalg.eigh(gram)
        left, right = vectors, vectors.T @ right.T
    else:
        padded = moments.padded(rows)
        targets = 2.0 * (labels[:, None] == np.arange(n_classes)) - 1
        values, vectors = np.linalg.eigh(padded @ padded.T)
        left, right = padded.T @ vectors, vectors.T @ targets
    return [_linear(moments, (left / (values + l2)) @ right, l2) for l2 in penalties]


def _sums_by_class(rows: Doubles, labels: Ints, n_classes: int) -> Doubles:
    """Return (n_classes, d): the sum of each class's rows."""
    own = scipy.sparse.csr_array((np.ones(len(rows)), (labels, np.arange(len(rows)))), shape=(n_classes, len(rows)))
    return np.asarray(own @ rows)


def _linear(moments: Moments, weights: Doubles, l2: float) -> Scorer:
    return Scorer(lambda rows: moments.padded(rows) @ weights, l2)


PENALTIES = tuple(2.0**k for k in range(20, -11, -1))
"""What ``ridge_auto`` tries, the strongest first: of equally good ones it takes the strongest."""


def ridge_auto(rows: Array, labels: Ints, n_classes: int, share: float) -> Scorer:
    """Return ridge with the penalty that is best on the last ``share`` of each class's rows, trained on all rows."""
    train, val = held_out(labels, share)
    tried = ridge(rows[train], labels[train], n_classes, PENALTIES)
    best = int(np.argmax([accuracy(scorer.of(rows[val]), labels[val]) for scorer in tried]))
    return ridge(rows, labels, n_classes, PENALTIES[best : best + 1])[0]


def neighbours(rows: Array, labels: Ints, n_classes: int, k: int, temperature: float) -> Scorer:
    """Return DINO's weighted k nearest neighbours: each votes for its class with exp(cosine / temperature).

    Rows at the same cosine as the k-th nearest share the places that are left, so that their order decides nothing.
    Rows have unit norm. Votes are divided by the highest possible one, exp(1 / temperature), so that nothing overflows.
    CocabenchError for fewer rows than k.
    """
    check_neighbours(len(rows), k)
    size = max(1, SCORES_PER_CHUNK // max(len(rows), k * n_classes))

    def votes(some: Array) -> Doubles:
        cosines = some @ rows.T
        nearest = np.argpartition(-cosines, k - 1, axis=1)[:, :k]
        weights = np.exp((np.take_along_axis(cosines, nearest, axis=1).astype(np.float64) - 1) / temperature)
        found = np.zeros((len(some), n_classes))
        np.add.at(found, (np.arange(len(some))[:, None], labels[nearest]), weights)
        last = np.take_along_axis(cosines, nearest, axis=1).min(axis=1)
        for i in np.flatnonzero((cosines >= last[:, None]).sum(axis=1) > k):
            above, tied = np.flatnonzero(cosines[i] > last[i]), np.flatnonzero(cosines[i] == last[i])
            share = np.r_[np.ones(len(above)), np.full(len(tied), (k - len(above)) / len(tied))]
            near = np.r_[above, tied]
            vote = share * np.exp((cosines[i, near].astype(np.float64) - 1) / temperature)
            found[i] = np.bincount(labels[near], weights=vote, minlength=n_classes)
        return found

    return Scorer(lambda rows: np.concatenate([votes(rows[i : i + size]) for i in range(0, len(rows), size)]))


def in_both(rows: Array, others: Array) -> Ints:
    """Return the positions of rows (n, d) that are equal to a row of others (m, d); none if all rows are equal.

    >>> in_both(np.array([[1, 2], [3, 4], [5, 6]]), np.array([[3, 4], [5, 7]]))
    array([1])
    """
    if not len(rows) or (rows == rows[0]).all():
        return np.empty(0, np.int64)
    close = np.flatnonzero(np.isin(others[:, 0], rows[:, 0]))
    held = {np.ascontiguousarray(others[i]).tobytes() for i in close}
    return np.array([i for i, row in enumerate(rows) if np.ascontiguousarray(row).tobytes() in held], np.int64)


def check_neighbours(n: int, k: int) -> None:
    """Raise CocabenchError for fewer training images than neighbours."""
    if n < k:
        raise CocabenchError(
            "knn",
            f"{n} training images",
            wanted=f"{k} or more, as k",
            fix="lower params.k, or take all images (params.shots)",
        )


class Converged(NamedTuple):
    """A logistic regression, and whether L-BFGS converged in its iterations."""

    scorer: Scorer
    converged: bool


def logistic(rows: Array, labels: Ints, n_classes: int, c: float, iterations: int) -> Converged:
    """Return scikit-learn's logistic regression by L-BFGS with 1 / c times the L2 penalty; needs scikit-learn."""
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        fitted = LogisticRegression(C=c, max_iter=iterations, solver="lbfgs", random_state=0).fit(rows, labels)
    seen = np.asarray(fitted.classes_, np.int64)

    def scores(some: Array) -> Array:
        found = np.asarray(fitted.decision_function(some))
        return spread(np.column_stack([-found, found]) if found.ndim == 1 else found, seen, n_classes)

    return Converged(Scorer(scores, c), not any(issubclass(one.category, ConvergenceWarning) for one in caught))
