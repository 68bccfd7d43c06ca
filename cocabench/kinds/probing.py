"""Which images a probe is trained on, and its training: from a model's features to a classifier."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple

import numpy as np

from cocabench.core.errors import DataError
from cocabench.core.formatting import plural
from cocabench.core.types import Context, Dataset, Example, Features, ImageOutput, Note, Schedule
from cocabench.data.files import some
from cocabench.data.images import FileImage
from cocabench.metrics import probes
from cocabench.metrics.probes import Scorer
from cocabench.metrics.ranking import Ints

ProbeName = Literal["ridge", "clip", "clip_benchmark", "knn"]

ALL, NO_SHOTS = -1, 0
"""The values of the column shots for all training images and for zero-shot; else it is their number per class."""
GRID_POINTS, FIRST_POINTS = 97, tuple(range(0, 97, 16))
C_GRID = tuple(np.logspace(-6, 6, GRID_POINTS).tolist())
"""CLIP, appendix A.3: 8 points a decade."""
DECAY_GRID = tuple(np.logspace(-6, 2, GRID_POINTS).tolist())
"""CLIP_benchmark: 12 points a decade."""
ITERATIONS = 1000
LR, EPOCHS, BATCH = 0.1, 10, 64
VAL_SHARE_OF_SHOTS = 0.2
"""What l2 = "auto" holds out of each class's training images."""


class Input(NamedTuple):
    """The features that a probe reads."""

    output: ImageOutput
    normalize: bool


INPUTS: Mapping[str, Input] = {
    "ridge": Input("pooled", False),
    "clip": Input("pooled", False),
    "clip_benchmark": Input("projected", True),
    "knn": Input("pooled", True),
}


class Recipe(NamedTuple):
    """The params of a probe that decide its training; Probe explains them."""

    probe: ProbeName
    train: str
    val: str
    val_share: float
    l2: float | Literal["auto"]
    k: int
    temperature: float

    @property
    def searched(self) -> bool:
        """Whether validation images decide the regularisation."""
        return self.probe in ("clip", "clip_benchmark")


def label_of(example: Example) -> int:
    return example.label if isinstance(example.label, int) else -1


def count_classes(*some: Dataset) -> int:
    """Return the number of classes: of class names, or else the highest label of any of the data sets + 1."""
    return len(some[0].classes) or 1 + max((label_of(e) for data in some for e in data.examples), default=-1)


def class_name(data: Dataset, label: int) -> str:
    return repr(data.classes[label]) if label < len(data.classes) else str(label)


def check_labels(data: Dataset) -> None:
    if odd := next((example for example in data.examples if not isinstance(example.label, int)), None):
        raise DataError(data.name, f"label {odd.label} of {odd.id}", wanted="one class for each image")


def _check_apart(data: Dataset, other: Dataset, key: str, split: str) -> None:
    """Raise DataError if another split of the data has images of the test data, or other classes."""
    check_labels(other)
    where, fix = f"{data.name}: {key} = {split!r}", f"set {key} to a split of other images in [params]"
    if (data.classes and other.classes) and data.classes != other.classes:
        got = f"{len(other.classes)} classes, not the {len(data.classes)} of the test images in their order"
        raise DataError(where, got, wanted="the same class names in both")
    whole = data.whole or data.examples
    if {(e.id, e.label) for e in whole} == {(e.id, e.label) for e in other.examples}:
        raise DataError(where, "no such split: the images are those of the test data", fix=fix)
    files = {str(example.image) for example in whole if isinstance(example.image, FileImage)}
    if shared := [e.id for e in other.examples if isinstance(e.image, FileImage) and str(e.image) in files]:
        raise DataError(
            where,
            f"{plural(len(shared), 'image is a test image', 'images are test images')}, too: {some(shared)}",
            fix=fix,
        )


class Rows(NamedTuple):
    """Features (k, d) of images, their positions kept (k,) among those asked for, and their labels (k,)."""

    features: Features
    kept: Ints
    labels: Ints


@dataclass(frozen=True)
class Training:
    """The training images of one probe, and which of them each draw takes.

    examples, labels (n,): of the training split, by id, so that the order of files draws no other images. val: the
    validation split's examples, if there is one. pool: positions of the examples to draw from; held: positions held out
    for validation.
    """

    recipe: Recipe
    examples: Sequence[Example]
    labels: Ints
    val: Sequence[Example]
    n_classes: int
    pool: Ints
    held: Ints

    @classmethod
    def of(cls, recipe: Recipe, data: Dataset, further: Mapping[str, Dataset]) -> Training:
        """Return the Training; DataError for test images among others, other classes, or a single class."""
        train, val = further["train"], further.get("val")
        _check_apart(data, train, "train", recipe.train)
        if val is not None:
            _check_apart(data, val, "val", recipe.val)
            _check_apart(train, val, "val", recipe.val)
        examples = sorted(train.examples, key=lambda example: example.id)
        labels = np.array([label_of(example) for example in examples], np.int64)
        if len(np.unique(labels)) < 2:
            got = f"all {len(labels)} training images are of class {class_name(train, int(labels[0]))}"
            raise DataError(f"{data.name}: train = {recipe.train!r}", got, wanted="two classes or more")
        pool, held = np.arange(len(labels)), np.empty(0, np.int64)
        if recipe.searched and val is None and recipe.val_share:
            mixed = np.random.default_rng(0).permutation(len(labels))
            pool, held = (np.sort(mixed[part]) for part in probes.held_out(labels[mixed], recipe.val_share))
        return cls(recipe, examples, labels, val.examples if val else (), count_classes(data, train), pool, held)

    def check(self, shots: int) -> None:
        """Raise CocabenchError if there are too few training images."""
        if shots != ALL:
            probes.check_enough(self.labels[self.pool], shots, self.n_classes)
        if self.recipe.probe == "knn":
            probes.check_neighbours(len(self.pool) if shots == ALL else shots * self.n_classes, self.recipe.k)

    def positions(self, shots: int, seed: int, order: Callable[[int, int], Ints]) -> Ints:
        """Return the positions of a draw's training images. order: of n images by a seed, clip_benchmark's."""
        if self.recipe.probe == "clip_benchmark":
            ordered = self.pool[order(len(self.pool), seed)]
            some = slice(None) if shots == ALL else probes.first_of_each(self.labels[ordered], shots, self.n_classes)
            return np.asarray(ordered[some])
        if shots != ALL:
            return self.pool[probes.drawn(self.labels[self.pool], shots, seed, self.n_classes)]
        if self.recipe.l2 == "auto":  # it validates on each class's last images
            return np.random.default_rng(seed).permutation(self.pool)
        return self.pool


@dataclass(frozen=True)
class Fitting:
    """Trains a probe on draws of its training images.

    draws: positions of the training images by (shots, seed). features (m, d): of the images that the draws take; places
    (n,): the row of each training image, -1 for those without. val: features of validation images.
    """

    training: Training
    draws: Mapping[tuple[int, int], Ints]
    features: Features
    places: Ints
    val: Rows
    context: Context

    @classmethod
    def of(cls, training: Training, draws: Sequence[tuple[int, int]], encode: Encode, context: Context) -> Fitting:
        """Return the Fitting of (shots, seed), after encoding their images."""
        order = context.solve.permutation if context.solve else _no_order
        positions = {draw: training.positions(*draw, order) for draw in draws}
        taken = np.unique(np.concatenate([training.held, *positions.values()]))
        found = encode([training.examples[i] for i in taken])
        places = np.full(len(training.examples), -1)
        places[taken[found.kept]] = np.arange(len(found.kept))
        held = training.held[places[training.held] >= 0]
        own = Rows(found.features[places[held]], held, training.labels[held])
        return cls(training, positions, found.features, places, encode(training.val) if training.val else own, context)

    def scorer(self, shots: int, seed: int) -> Scorer:
        """Return the classifier trained on a draw; DataError if one of its few images could not be read."""
        recipe, n = self.training.recipe, self.training.n_classes
        rows, labels = self._rows(shots, seed)
        if recipe.probe == "knn":
            return probes.neighbours(rows, labels, n, recipe.k, recipe.temperature)
        if recipe.probe == "ridge":
            if recipe.l2 == "auto":
                return probes.ridge_auto(rows, labels, n, VAL_SHARE_OF_SHOTS)
            return probes.ridge(rows, labels, n, [recipe.l2])[0]
        train, grid = (self._logistic, C_GRID) if recipe.probe == "clip" else (partial(self._adamw, seed), DECAY_GRID)
        if not len(self.val.labels):
            return train(rows, labels, 0.0)
        best = probes.peak(partial(self._validated, train, rows, labels, grid), FIRST_POINTS, len(grid))
        if shots == ALL:
            rows, labels = np.concatenate([rows, self.val.features]), np.concatenate([labels, self.val.labels])
        return train(rows, labels, grid[best])

    def _rows(self, shots: int, seed: int) -> tuple[Features, Ints]:
        wanted = self.draws[shots, seed]
        read = wanted[self.places[wanted] >= 0]
        if shots != ALL and len(read) < len(wanted):
            got = f"{len(wanted) - len(read)} of the {len(wanted)} training images drawn could not be read"
            raise DataError(f"{shots} shots", got, fix="repair them, or take all images (params.shots)")
        places = self.places[read]
        whole = np.array_equal(places, np.arange(len(self.features)))  # not copied: it may be most of the memory
        return self.features if whole else self.features[places], self.training.labels[read]

    def _validated(self, train: Train, rows: Features, labels: Ints, grid: Sequence[float], point: int) -> float:
        return probes.accuracy(train(rows, labels, grid[point]).of(self.val.features), self.val.labels)

    def _logistic(self, rows: Features, labels: Ints, c: float) -> Scorer:
        found = probes.logistic(rows, labels, self.training.n_classes, c, ITERATIONS)
        if not found.converged:
            said = f"logistic regression with C = {c:.3g} did not converge in {ITERATIONS} iterations"
            self.context.note(Note("not_converged", said))
        return found.scorer

    def _adamw(self, seed: int, rows: Features, labels: Ints, decay: float) -> Scorer:
        assert self.context.solve, "a run's Context has a solver"
        weights, bias = self.context.solve(rows, labels, decay, Schedule(LR, EPOCHS, BATCH, seed))
        seen, n = np.arange(len(bias)), self.training.n_classes
        return Scorer(lambda some: probes.spread(some @ weights.T + bias, seen, n), decay)


Encode = Callable[[Sequence[Example]], Rows]
Train = Callable[[Features, Ints, float], Scorer]


def _no_order(n: int, seed: int) -> Ints:
    raise AssertionError("a run's Context has a solver")
