"""Zero-shot classification by prompts: by their text features, or by their likelihood as captions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import ClassVar, NamedTuple

import numpy as np
from pydantic import AliasChoices, Field, JsonValue, StrictBool

from cocabench.core.errors import DataError
from cocabench.core.formatting import plural
from cocabench.core.signature import digest
from cocabench.core.types import (
    Ability,
    Chance,
    Context,
    Dataset,
    Features,
    ImageSource,
    Machine,
    Model,
    Note,
    Progress,
    SampleScore,
)
from cocabench.data.prompts import class_names, places, templates
from cocabench.kinds.base import Kind, guessed, one_answer
from cocabench.kinds.likelihoods import NEUTRAL, Scoring, likelihoods
from cocabench.kinds.shown import (
    Choices,
    ClipBenchmark,
    Column,
    Confusions,
    Groups,
    Part,
    Presentation,
    Row,
    View,
)
from cocabench.metrics.base import Metric, Samples
from cocabench.metrics.classification import (
    class_cosines,
    class_labels,
    class_means,
    class_weights,
    few_positives,
    map_of,
    ranked_in_chunks,
    ranks_of,
)
from cocabench.metrics.ranking import Floats, Ints, Ranks, Scores, hits_at
from cocabench.metrics.statistics import Hits, Smooth

DEFAULT_TEMPLATES = "imagenet1k"
MIN_CLASSES_FOR_ACC5 = 5
"""acc5 is undefined for fewer classes."""


def hits(samples: Samples, k: int) -> Floats:
    return hits_at(ranks_of(samples), k)


def acc(k: int) -> Metric:
    summary = f"Share of images whose class is among the {k} highest; undefined for fewer than {k} classes."
    return Metric(f"acc{k}", summary, Hits(lambda samples: hits(samples, k)), Ranks._fields, label=f"acc@{k}")


ACC1, ACC5 = acc(1), acc(5)
UNDEFINED_ACC5 = replace(ACC5, statistic=Hits(lambda samples: np.full(len(samples), np.nan)))
MEAN_PER_CLASS_RECALL = Metric(
    "mean_per_class_recall",
    "Mean over classes of the share of their images classified correctly (balanced accuracy).",
    Hits(lambda samples: hits(samples, 1), class_labels, fixed=True),
    (*Ranks._fields, "label"),
    label="per-class recall",
)
MEAN_AVERAGE_PRECISION = Metric(
    "mean_average_precision",
    "Mean over classes of average precision; a class without positives counts as 0, as in clip-benchmark.",
    Smooth(map_of, few_positives),
    ("class_scores", "labels"),
    label="mAP",
)


def right_classes(row: Row) -> list[bool]:
    return [index == row["label"] for index in row["top5"]]


class Classification(Kind):
    """Assign each image the class whose prompts' mean text feature is nearest to the image feature.

    classnames, templates: the name of a shipped set, or a file; '' uses the data set's own, or else ImageNet's 80
    templates. Templates hold ``{c}``; a file may also list prompts per class (CuPL). If the data set has class names
    too, labels follow the names (``places``). multilabel: images may have several classes; the metric is mean average
    precision. near_chance_expected: most published models score near chance on this data, so that a score near chance
    gives no note. (Task files of 0.1 call it ``hard``.) scoring: cosine, or a likelihood of the prompts as captions
    (``kinds.likelihoods``), averaged over a class's prompts; each image is scored with every prompt.
    """

    name = "classification"
    declared = (ACC1, ACC5, MEAN_PER_CLASS_RECALL, MEAN_AVERAGE_PRECISION)
    primaries = ("acc1", "mean_average_precision")
    samples = (
        Column("label", "int", "The true class"),
        Column("n_above", "int", "Wrong classes that score higher than the true one"),
        Column("tied_negatives", "int", "Wrong classes with the same score"),
        Column("identical", "int", "Of these, classes with the same prompts"),
        Column("tied_positives", "int", "True classes with that score: always 1"),
        Column("label_name", "text", "Name of the true class"),
        Column("top5", "ints", "The five highest classes, best first"),
        Column("top5_scores", "floats", "Their cosines, or likelihoods"),
        Column("top5_names", "texts", "Their names"),
        Column("labels", "ints", "Multi-label tasks: the true classes"),
        Column("class_scores", "floats", "Multi-label tasks: the cosine or likelihood of every class"),
    )
    counted = ("classes",)
    shown = Presentation(
        does="classifies",
        order=10,
        views=(
            View(
                "classification",
                "Images",
                ("acc1",),
                Choices("top5_names", "top5_scores", right=right_classes),
                heading="label_name",
                answer="top5_names",
                about="The first answer of each model.",
            ),
        ),
        breakdowns=(
            Groups("hardest", "Classes: the lowest, and the most different", "acc1", "label_name", worst=True),
            Confusions("confusions", "Most frequent confusions", "label_name", "top5_names"),
        ),
    )
    parts: ClassVar = {
        "classes": Part("number of classes"),
        "prompts": Part(
            "class names with their prompts", differs="class names or templates other than the shipped task's"
        ),
        "labels": Part("labels assigned to classes by name instead of number"),
        "multilabel": Part("images may have several classes", absent=False),
        "scoring": Part("how images and classes are scored: cosine, or likelihood of the prompts", absent="cosine"),
        "prior": Part("the image without content that a likelihood's gain is measured from", absent=""),
    }
    hub_task = "zero-shot-image-classification"
    clip_benchmark = ClipBenchmark("zeroshot_classification", only=("scoring", None))

    classnames: str = ""
    templates: str = ""
    multilabel: StrictBool = False
    scoring: Scoring = "cosine"
    near_chance_expected: StrictBool = Field(False, validation_alias=AliasChoices("near_chance_expected", "hard"))

    @classmethod
    def decodes(cls, protocol: Mapping[str, JsonValue]) -> bool:
        return "likelihood" in str(protocol.get("scoring"))

    def needs(self) -> frozenset[Ability]:
        return frozenset({"encode" if self.scoring == "cosine" else "score_captions"})

    @classmethod
    def chance_level(cls, metric: str, protocol: Mapping[str, JsonValue], samples: Samples) -> float | None:
        known, classes = {"acc1": 1, "acc5": 5, "mean_per_class_recall": 1}, protocol.get("classes")
        return min(1.0, known[metric] / classes) if metric in known and isinstance(classes, int) and classes else None

    def protocol(self, data: Dataset, machine: Machine) -> dict[str, JsonValue]:
        prompts = self.prompts(data)
        own = self.places(data)
        self._check_labels(data, len(own))
        moved: dict[str, JsonValue] = {} if own == tuple(range(len(own))) else {"labels": "by class name"}
        several: dict[str, JsonValue] = {"multilabel": True} if self.multilabel else {}
        hashed = digest([[name, *texts] for name, texts in prompts])
        scoring: dict[str, JsonValue] = {} if self.scoring == "cosine" else {"scoring": self.scoring}
        scoring |= {"prior": NEUTRAL} if self.scoring == "likelihood_gain" else {}
        return {"classes": len(prompts), "prompts": hashed, **moved, **several, **scoring}

    def metrics(self, data: Dataset | None = None) -> Sequence[Metric]:
        if self.multilabel:
            return (MEAN_AVERAGE_PRECISION,)
        few = data is not None and len(self.classes(data)) < MIN_CLASSES_FOR_ACC5
        return ACC1, UNDEFINED_ACC5 if few else ACC5, MEAN_PER_CLASS_RECALL

    def counts(self, data: Dataset) -> Mapping[str, int]:
        return {"classes": len(self.classes(data))}

    def work(self, data: Dataset) -> dict[str, int]:
        prompts = sum(map(len, {texts for _, texts in self.prompts(data)}))
        if self.scoring == "cosine":
            return {**super().work(data), "texts": prompts}
        return {**super().work(data), "captions": len(data) * prompts}

    def classes(self, data: Dataset) -> Sequence[str]:
        """Return the names of the classes."""
        return class_names(self.classnames) if self.classnames else data.classes

    def places(self, data: Dataset) -> tuple[int, ...]:
        """Return the class of each label: unchanged if the data have no class names."""
        names = self.classes(data)
        return places(data.classes, names, data.name) if data.classes else tuple(range(len(names)))

    def chance(self, data: Dataset) -> Mapping[str, Chance]:
        n = len(self.classes(data))
        return {} if self.multilabel or self.near_chance_expected or n < 2 else {"acc1": Chance(1 / n)}

    def data_notes(self, data: Dataset) -> Iterator[Note]:
        own = self.places(data)
        seen = {own[label] for example in data.examples for label in _labels(example.label)}
        if empty := [name for i, name in enumerate(self.classes(data)) if i not in seen]:
            counts = "counted as 0" if self.multilabel else "not counted in mean_per_class_recall"
            text = f"{plural(len(empty), 'class', 'classes')} without images, such as {empty[0]!r}: {counts}"
            yield Note("classes_without_images", text)

    def sample_notes(self, data: Dataset, samples: Samples) -> Iterator[Note]:
        if self.multilabel or not len(samples):
            return
        ((label, n),) = Counter(samples["label"]).most_common(1)
        share, chance = n / len(samples), 1 / max(1, len(self.classes(data)))
        frequent = share > chance and not self.near_chance_expected and not guessed(ACC1, samples, chance)
        if frequent and guessed(ACC1, samples, share):
            value, name = hits(samples, 1).mean(), self.classes(data)[label]
            text = f"acc1 of {100 * value:.1f} % is no better than always answering {name!r} ({100 * share:.1f} %)"
            yield Note("majority_class", text)
        first = [names[0] for names in samples["top5_names"]]
        yield from one_answer(first, list(samples["label_name"]), "{n} of {total} images are classified as {answer}")

    def prompts(self, data: Dataset) -> list[tuple[str, tuple[str, ...]]]:
        """Return (class name, its prompts) per class. Names may repeat: ImageNet has two classes "missile"."""
        names = self.classes(data)
        if not names:
            raise DataError(data.name, "no class names", fix="set params.classnames in the task file")
        given = templates(self.templates) if self.templates else data.templates or templates(DEFAULT_TEMPLATES)
        if isinstance(given, Mapping):
            if missing := [name for name in names if name not in given]:
                fix = "add prompts for every class"
                raise DataError(
                    f"templates {self.templates}", f"no prompts for {missing[0]!r} and {len(missing) - 1} more", fix=fix
                )
            return [(name, tuple(given[name])) for name in names]
        return [(name, tuple(template.replace("{c}", name) for template in given)) for name in names]

    def score(self, model: Model, data: Dataset, context: Context) -> Iterator[SampleScore]:
        prompts = self.prompts(data)
        rate = self._by_cosine if self.scoring == "cosine" else self._by_likelihood
        rated = rate(model, [example.image for example in data.examples], [texts for _, texts in prompts], context)
        examples = [data.examples[i] for i in rated.kept]
        names, own = [name for name, _ in prompts], self.places(data)
        if self.multilabel:
            every = (row for scores in rated.chunks for row in scores)
            for example, scores in zip(examples, every, strict=True):
                labels = {"labels": [own[k] for k in _labels(example.label)], "class_scores": scores.tolist()}
                yield SampleScore(example.id, example.id, labels)
            return
        labels_array = np.array([own[_labels(example.label)[0]] for example in examples], np.int64)
        for example, stats in zip(examples, ranked_in_chunks(rated.chunks, labels_array, rated.items), strict=True):
            top = {"label_name": names[stats["label"]], "top5_names": [names[i] for i in stats["top5"]]}
            yield SampleScore(example.id, example.id, {**stats, **top})

    def _by_cosine(self, model: Model, images: Images, prompts: Prompts, context: Context) -> _Rated:
        weights, items = self._classifier(model, prompts, context.progress)
        found = model.encode_images(images, progress=context.progress)
        return _Rated(found.kept, items, class_cosines(found.rows, weights, items))

    def _classifier(self, model: Model, prompts: Prompts, progress: Progress) -> tuple[Features, Ints]:
        """Return the weights of the distinct classes (u, d), and the index of each class among them (c,)."""
        own = getattr(model, "class_prompt", str)  # SigLIP's canonical form; a library may not have one
        distinct, items = _distinct([tuple(own(text) for text in texts) for texts in prompts])
        flat = [text for texts in distinct for text in texts]
        owner = np.repeat(np.arange(len(distinct)), [len(texts) for texts in distinct])
        return class_weights(model.encode_texts(flat, progress=progress), owner, len(distinct)), items

    def _by_likelihood(self, model: Model, images: Images, prompts: Prompts, context: Context) -> _Rated:
        """Rate by the mean over each class's prompts; of one template the prompts are scored together."""
        distinct, items = _distinct(prompts)
        sums, kept = np.zeros((len(images), len(distinct)), np.float32), np.zeros(len(images), bool)
        for k in range(max(map(len, distinct))):
            classes = [u for u, texts in enumerate(distinct) if len(texts) > k]
            row = [distinct[u][k] for u in classes]
            rated = likelihoods(model, images, [row] * len(images), context.progress, scoring=self.scoring)
            for position, scores in rated:
                sums[position, classes] += scores
                kept[position] = True
        counts = np.array([len(texts) for texts in distinct], np.int64)
        return _Rated(np.flatnonzero(kept), items, class_means(sums[kept], counts, items))

    def _check_labels(self, data: Dataset, n_classes: int) -> None:
        for example in data.examples:
            labels = _labels(example.label)
            if not self.multilabel and len(labels) != 1:
                got = f"{len(labels)} labels for {example.id}"
                raise DataError(data.name, got, wanted="one, or params.multilabel = true")
            if any(not 0 <= label < n_classes for label in labels):
                got = f"label {example.label} of {example.id}"
                raise DataError(data.name, got, wanted=f"0 to {n_classes - 1}", fix="check params.classnames")


Images = Sequence[ImageSource]

Prompts = Sequence[tuple[str, ...]]
"""The prompts of each class."""


class _Rated(NamedTuple):
    """Scores of images with classes.

    kept: positions of the images that could be read. items: (c,) equal numbers for classes of equal prompts. chunks:
    the scores (some, c) of these images.
    """

    kept: Ints
    items: Ints
    chunks: Iterable[Scores]


def _distinct(prompts: Prompts) -> tuple[list[tuple[str, ...]], Ints]:
    """Return the distinct prompts, and the index of each class's among them (c,)."""
    distinct = list(dict.fromkeys(prompts))
    position = {texts: i for i, texts in enumerate(distinct)}
    return distinct, np.array([position[texts] for texts in prompts], np.int64)


def _labels(label: int | tuple[int, ...] | None) -> tuple[int, ...]:
    if label is None:
        return ()
    return label if isinstance(label, tuple) else (label,)
