"""Zero-shot classification by prompts: by their text features, or by their likelihood as captions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import ClassVar, NamedTuple, Self

import numpy as np
from pydantic import AliasChoices, Field, JsonValue, StrictBool, model_validator

from cocabench.core.errors import DataError
from cocabench.core.formatting import plural
from cocabench.core.signature import digest
from cocabench.core.types import (
    Ability,
    Chance,
    Context,
    Dataset,
    Example,
    Features,
    ImageSource,
    Machine,
    Model,
    Note,
    Progress,
    SampleScore,
)
from cocabench.data.prompts import class_names, places, templates
from cocabench.kinds import calibration
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
    counted_map_of,
    few_counted_positives,
    few_images,
    few_positives,
    macro_f1,
    map_of,
    ranked_in_chunks,
    ranks_of,
)
from cocabench.metrics.intervals import MIN_IMAGES_OF_A_GROUP
from cocabench.metrics.ranking import Floats, Ints, Ranks, Scores, hits_at
from cocabench.metrics.statistics import Hits, Smooth, Worst

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
COUNTED_MEAN_AVERAGE_PRECISION = Metric(
    "mean_average_precision_counted",
    "Mean over classes of average precision among the images counted for each; a class without positives there is "
    "left out, as in COLA.",
    Smooth(counted_map_of, few_counted_positives),
    ("class_scores", "labels", "counted_for"),
    label="mAP, counted images",
)
F1_MACRO = Metric(
    "f1_macro",
    "Mean of F1 over the classes that occur, as in WILDS.",
    Smooth(macro_f1, few_images),
    ("label", "predicted"),
    label="macro F1",
)


def worst(name: str, k: int, column: str, summary: str, label: str) -> Metric:
    statistic = Worst(lambda samples: hits(samples, k), column)
    return Metric(name, summary, statistic, (column, *Ranks._fields), label=label)


ACC_WORST_GROUP = worst(
    "acc_worst_group", 1, "group", "acc1 in the group of images where it is lowest, as DataComp has it.", "worst group"
)
ACC5_WORST_GROUP = worst(
    "acc5_worst_group", 5, "group", "acc5 in the group of images where it is lowest.", "worst group, acc@5"
)
ACC_WORST_NAMED_GROUP = worst(
    "acc_worst_named_group",
    1,
    "named_group",
    "acc1 in the group where it is lowest, without the group of all that have no name (WILDS' Other).",
    "worst named group",
)


def right_classes(row: Row) -> list[bool]:
    return [index == row["label"] for index in row["top5"]]


class Classification(Kind):
    """Assign each image the class whose prompts' mean text feature is nearest to the image feature.

    classnames, templates: the name of a shipped set, or a file; '' uses the data set's own, or else ImageNet's 80
    templates. Templates hold ``{c}``; a file may also list prompts per class (CuPL). If the data set has class names
    too, labels follow the names (``places``). multilabel: images may have several classes; the metric is mean average
    precision. counted_for: a key of the images' metadata that holds the indices of the classes an image is counted for
    (COLA's hard images); average precision is measured among these alone. near_chance_expected: most published models
    score near chance on this data, so that a score near chance gives no note. (Task files of 0.1 call it ``hard``.)
    scoring: cosine, or a likelihood of the prompts as captions
    (``kinds.likelihoods``), averaged over a class's prompts; each image is scored with every prompt.
    macro_f1: also measure it. calibration: also keep what probabilities over all classes need, about 100 bytes an
    image, and measure how well they are calibrated (``kinds.calibration``); changes no other number. ood: the split of
    the loader with images of no class; with it, also measure how well the highest probability separates them.
    group_by: a key of the images' metadata (``WebDataset.metadata``) that holds the number of a group, whose lowest
    accuracy is measured, too. group_names: their names, by number. rest: the name of a group that
    acc_worst_named_group leaves out.
    """

    name = "classification"
    declared = (
        ACC1,
        ACC5,
        MEAN_PER_CLASS_RECALL,
        MEAN_AVERAGE_PRECISION,
        COUNTED_MEAN_AVERAGE_PRECISION,
        F1_MACRO,
        ACC_WORST_GROUP,
        ACC5_WORST_GROUP,
        ACC_WORST_NAMED_GROUP,
        *calibration.METRICS,
        *calibration.OOD_METRICS,
    )
    primaries = ("acc1", "mean_average_precision", "mean_average_precision_counted")
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
        Column("counted_for", "ints", "Tasks with counted_for: the classes that the image is counted for"),
        Column("class_scores", "floats", "Multi-label tasks: the cosine or likelihood of every class"),
        Column("predicted", "int", "Tasks with macro F1: the class that scores highest"),
        Column("group", "int", "Tasks with groups: the number of the image's group"),
        Column("named_group", "int", "The same, null in the group of all that have no name"),
        Column("group_name", "text", "Its name"),
        *calibration.SAMPLES,
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
            Groups("groups", "Groups of images", "acc1", "group_name", "group"),
            Groups("hardest", "Classes: the lowest, and the most different", "acc1", "label_name", worst=True),
            Confusions("confusions", "Most frequent confusions", "label_name", "top5_names"),
            calibration.RELIABILITY,
        ),
    )
    parts: ClassVar = {
        "classes": Part("number of classes"),
        "prompts": Part(
            "class names with their prompts", differs="class names or templates other than the shipped task's"
        ),
        "labels": Part("labels assigned to classes by name instead of number"),
        "multilabel": Part("images may have several classes", absent=False),
        "counted_for": Part("the images that each class is measured on", absent=None),
        "group_by": Part("the images' groups", absent=None),
        "scoring": Part("how images and classes are scored: cosine, or likelihood of the prompts", absent="cosine"),
        "extra_data": Part("images of no class, out of distribution", absent=None),
        "prior": Part("the image without content that a likelihood's gain is measured from", absent=""),
    }
    hub_task = "zero-shot-image-classification"
    clip_benchmark = ClipBenchmark("zeroshot_classification", only=("scoring", None))

    classnames: str = ""
    templates: str = ""
    multilabel: StrictBool = False
    counted_for: str = ""
    scoring: Scoring = "cosine"
    near_chance_expected: StrictBool = Field(False, validation_alias=AliasChoices("near_chance_expected", "hard"))
    macro_f1: StrictBool = False
    calibration: StrictBool = False
    ood: str = ""
    group_by: str = ""
    group_names: tuple[str, ...] = ()
    rest: str = ""

    @model_validator(mode="after")
    def _groups_fit(self) -> Self:
        if (self.group_names or self.rest) and not self.group_by:
            raise ValueError("group_names and rest need group_by")
        if self.rest and self.rest not in self.group_names:
            raise ValueError(f"rest: {self.rest!r} is not among group_names")
        if self.counted_for and not self.multilabel:
            raise ValueError("counted_for needs multilabel = true")
        if self.multilabel and (self.group_by or self.macro_f1):
            raise ValueError("group_by and macro_f1 need images of one class each")
        if self.calibration and (self.multilabel or self.scoring != "cosine"):
            raise ValueError("calibration needs images of one class each, and cosines")
        if self.ood and not self.calibration:
            raise ValueError("ood needs calibration = true")
        return self

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
        several |= {"counted_for": self.counted_for} if self.counted_for else {}
        grouped: dict[str, JsonValue] = {"group_by": [self.group_by, self.rest]} if self.group_by else {}
        hashed = digest([[name, *texts] for name, texts in prompts])
        scoring: dict[str, JsonValue] = {} if self.scoring == "cosine" else {"scoring": self.scoring}
        scoring |= {"prior": NEUTRAL} if self.scoring == "likelihood_gain" else {}
        return {"classes": len(prompts), "prompts": hashed, **moved, **several, **grouped, **scoring}

    def metrics(self, data: Dataset | None = None) -> Sequence[Metric]:
        if self.multilabel:
            return (COUNTED_MEAN_AVERAGE_PRECISION if self.counted_for else MEAN_AVERAGE_PRECISION,)
        few = data is not None and len(self.classes(data)) < MIN_CLASSES_FOR_ACC5
        f1, calibrated = ([F1_MACRO] if self.macro_f1 else []), (calibration.METRICS if self.calibration else ())
        outside = calibration.OOD_METRICS if self.ood else ()
        usual = (ACC1, UNDEFINED_ACC5 if few else ACC5, MEAN_PER_CLASS_RECALL, *f1, *calibrated, *outside)
        if not self.group_by:
            return usual
        named = (ACC_WORST_NAMED_GROUP,) if self.rest else ()
        return (*usual, ACC_WORST_GROUP, *(() if few else (ACC5_WORST_GROUP,)), *named)

    def extra_data(self) -> Mapping[str, str]:
        return {"ood": self.ood} if self.ood else {}

    def splits(self) -> Collection[str]:
        return ("ood",)

    def check(self, data: Dataset, further: Mapping[str, Dataset]) -> None:
        if self.counted_for:
            self._check_counted(data)
        for example in data.examples if self.group_by else ():
            number = example.metadata.get(self.group_by)
            if not isinstance(number, int):
                got = f"no {self.group_by!r} in the metadata of {example.id}"
                raise DataError(
                    data.name, got, wanted="the number of a group", fix="check data.metadata, params.group_by"
                )
            if self.group_names and not 0 <= number < len(self.group_names):
                got = f"{self.group_by} {number} of {example.id}"
                raise DataError(
                    data.name, got, wanted=f"0 to {len(self.group_names) - 1}", fix="check params.group_names"
                )

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
        seen = {own[label] for e in data.examples for label in _labels(e.label) if self._counts(e, label)}
        if empty := [name for i, name in enumerate(self.classes(data)) if i not in seen]:
            counts = "counted as 0" if self.multilabel else "not counted in mean_per_class_recall"
            counts = "left out" if self.counted_for else counts
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
        for metric in self.metrics() if self.group_by else ():
            if isinstance(metric.statistic, Worst) and len(rows := metric.rows(samples)):
                group = metric.statistic.lowest(rows)
                n = int((rows[metric.statistic.groups] == group).sum())
                if n < MIN_IMAGES_OF_A_GROUP:
                    said = f"{metric.name} is that of {self._group_name(group)}, which has {plural(n, 'image')} only"
                    yield Note("small_group", said)
        yield from calibration.notes(samples) if self.calibration else ()
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
                counted = [own[k] for k in example.metadata[self.counted_for]] if self.counted_for else []
                more = {"counted_for": counted} if self.counted_for else {}
                yield SampleScore(example.id, example.id, {**labels, **more})
            return
        labels_array = np.array([own[_labels(example.label)[0]] for example in examples], np.int64)
        scale = calibration.stated_scale(model, context) if self.calibration else 0.0
        also = partial(calibration.kept, scale) if self.calibration else None
        ranked = ranked_in_chunks(rated.chunks, labels_array, rated.items, also)
        if self.ood:
            others = [example.image for example in context.data["ood"].examples]
            outside = rate(model, others, [texts for _, texts in prompts], context)
            ranked = calibration.with_others(ranked, outside.chunks, scale)
        for example, stats in zip(examples, ranked, strict=True):
            predicted = {"predicted": stats["top5"][0]} if self.macro_f1 else {}
            top = {"label_name": names[stats["label"]], "top5_names": [names[i] for i in stats["top5"]]}
            half = {"half": calibration.half(example.id)} if self.calibration else {}
            yield SampleScore(example.id, example.id, {**stats, **top, **self._group(example), **predicted, **half})

    def _group(self, example: Example) -> dict[str, object]:
        if not self.group_by:
            return {}
        number = int(example.metadata[self.group_by])
        name = self._group_name(number)
        named = {} if self.rest and name == self.rest else {"named_group": number}
        return {"group": number, "group_name": name, **(named if self.rest else {})}

    def _group_name(self, number: int) -> str:
        return self.group_names[number] if self.group_names else f"{self.group_by} {number}"

    def _by_cosine(self, model: Model, images: Images, prompts: Prompts, context: Context) -> _Rated:
        weights, items = self._classifier(model, prompts, context.progress)
        found = model.encode_images(images, progress=context.progress)
        return _Rated(found.kept, items, class_cosines(found.rows, weights, items))

    def _classifier(self, model: Model, prompts: Prompts, progress: Progress) -> tuple[Features, Ints]:
        """Return the weights of the distinct classes (u, d), and the index of each class among them (c,)."""
        own = getattr(model, "class_prompts", list)  # SigLIP's canonical form; a library may not have one
        asked = iter(own([text for texts in prompts for text in texts]))
        distinct, items = _distinct([tuple(islice(asked, len(texts))) for texts in prompts])
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

    def _counts(self, example: Example, label: int) -> bool:
        return not self.counted_for or label in example.metadata[self.counted_for]

    def _check_counted(self, data: Dataset) -> None:
        n = len(self.places(data))
        for example in data.examples:
            found = example.metadata.get(self.counted_for)
            if not isinstance(found, list) or not all(type(k) is int and 0 <= k < n for k in found):
                got = f"no indices of classes in {self.counted_for!r} in the metadata of {example.id}"
                raise DataError(data.name, got, wanted=f"a list of 0 to {n - 1}", fix="check params.counted_for")
        if not any(self._counts(e, label) for e in data.examples for label in _labels(e.label)):
            raise DataError(data.name, "no image is counted for a class that it shows", wanted="one at least")

    def _check_labels(self, data: Dataset, n_classes: int) -> None:
        for example in data.examples:
            labels = _labels(example.label)
            if not self.multilabel and len(labels) != 1:
                got = f"{len(labels)} labels for {example.id}"
                raise DataError(data.name, got, wanted="one, or params.multilabel = true")
            if any(not 0 <= label < n_classes for label in labels):
                got = f"label {example.label} of the image {example.id!r}"
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
