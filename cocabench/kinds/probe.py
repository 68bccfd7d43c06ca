"""Probes: classifiers trained on a model's image features, with all training images or a few of each class."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field, JsonValue, StrictBool, field_validator, model_validator

from cocabench.core.errors import CocabenchError, ModelError
from cocabench.core.formatting import plural
from cocabench.core.types import Chance, Context, Dataset, Example, Features, Machine, Model, Note, SampleScore
from cocabench.kinds.base import Kind, one_answer
from cocabench.kinds.classification import MIN_CLASSES_FOR_ACC5, Classification, hits, right_classes
from cocabench.kinds.probing import (
    ALL,
    BATCH,
    EPOCHS,
    INPUTS,
    ITERATIONS,
    LR,
    NO_SHOTS,
    Fitting,
    Input,
    ProbeName,
    Recipe,
    Rows,
    Training,
    check_labels,
    class_name,
    count_classes,
    label_of,
)
from cocabench.kinds.shown import (
    Choices,
    ClipBenchmark,
    Column,
    Confusions,
    Curve,
    Foreign,
    Groups,
    Part,
    Presentation,
    TableSpec,
    View,
)
from cocabench.metrics.base import Family, Metric, Samples
from cocabench.metrics.classification import class_labels, ranked
from cocabench.metrics.probes import Scorer, in_both
from cocabench.metrics.ranking import SCORES_PER_CHUNK, Floats, Ints, Ranks
from cocabench.metrics.statistics import Drawn, Hits, Read

Shots = Annotated[int, Field(ge=1, strict=True)] | Literal["all"]

SHOTS_PER_CLASS = (1, 5, 10, 25)


def _columns(shots: int) -> tuple[str, ...]:
    return (*Ranks._fields, "shots", *(("seed",) if shots > 0 else ()))


def _metric(name: str, summary: str, shots: int, values: Read, *, by_class: bool = False) -> Metric:
    """Return a share of hits after training on some shots, or its mean over classes."""
    groups, columns = (class_labels, (*_columns(shots), "label")) if by_class else (None, _columns(shots))
    where = ("shots", shots)
    if shots <= 0:
        return Metric(name, summary, Hits(values, groups, fixed=by_class), columns, where=where)
    each = f"{shots} images" if shots > 1 else "1 image"
    summary = (
        f"{summary.replace('all images', f'{each} per class')} Interval: over test images and draws of training images."
    )
    return Metric(f"{name}@{shots}shot", summary, Drawn(values, groups, fixed=by_class), columns, where=where)


def acc1(shots: int = ALL) -> Metric:
    summary = "Probe trained on all images: share of test images whose class scores highest."
    return _metric("acc1", summary, shots, partial(hits, k=1))


def acc5(shots: int = ALL, *, undefined: bool = False) -> Metric:
    summary = "Probe trained on all images: share of test images whose class is among the 5 highest of 5 or more."
    return _metric("acc5", summary, shots, _undefined if undefined else partial(hits, k=5))


def _undefined(samples: Samples) -> Floats:
    return np.full(len(samples), np.nan)


def mean_per_class_recall(shots: int = ALL) -> Metric:
    summary = "Probe trained on all images: mean over classes of the share of their test images that it gets right."
    return _metric("mean_per_class_recall", summary, shots, partial(hits, k=1), by_class=True)


ZEROSHOT_ACC1 = _metric(
    "zeroshot_acc1",
    "Zero-shot, on a probe's test images: share of images whose class has the nearest prompts.",
    NO_SHOTS,
    partial(hits, k=1),
)


def read_clip_benchmark(metrics: Mapping[str, Any]) -> Foreign:
    """Return what CLIP_benchmark's linear_probe wrote, of JSON or of a CSV; ValueError for settings of no sense."""
    settings = {name: metrics[name] for name in SETTINGS if metrics.get(name) not in (None, "")}
    shots, seed, epochs = (int(float(settings[name])) if name in settings else None for name in SETTINGS[:3])
    suffix = f"@{shots}shot" if shots and shots > 0 else ""
    scores = {name: value for name, value in metrics.items() if name not in SETTINGS}
    protocol: dict[str, JsonValue] = {"probe": "clip_benchmark"}
    if "normalized" in settings:
        protocol["features"] = features(Input("projected", str(settings["normalized"]) == "True"))
    if epochs is not None:
        protocol["training"] = {"epochs": epochs}
    if suffix and seed is not None:
        protocol["seeds"] = [seed]
    said = f"weight decay {float(settings['weight_decay']):.3g}" if "weight_decay" in settings else ""
    ours = {n.removeprefix("lp_") + (suffix if n.startswith("lp_") else ""): value for n, value in scores.items()}
    return Foreign(ours, protocol, said)


SETTINGS = ("fewshot_k", "seed", "epochs", "weight_decay", "normalized")
"""What CLIP_benchmark's linear_probe writes among its metrics."""


def features(read: Input) -> str:
    """Return the features that a probe reads, in words."""
    return f"{read.output}, {'unit length' if read.normalize else 'as they are'}"


class Probe(Kind):
    """Train a classifier on the image features of a training split, and test it on the task's images.

    probe: the protocol. ``ridge`` (big_vision's fewshot_lsr) is least squares on standardised pooled features, takes
    seconds and needs no search: for curves over shots. ``clip`` (the CLIP paper's linear probe) is logistic regression
    by L-BFGS on pooled features, needs scikit-learn. ``clip_benchmark`` is CLIP_benchmark's linear_probe, to compare
    with its results: AdamW on normalised projected features. ``knn`` (DINO) lets the k nearest training images vote:
    no training at all.
    shots: training images per class, and ``all``; by default 1, 5, 10, 25 and all for ridge, all for the others. seeds:
    of the draws; all training images are one draw.
    train: the split to train on. val: the split on which clip and clip_benchmark search their regularisation; '' holds
    out val_share of the training images (0: clip_benchmark takes no weight decay). With all training images the final
    classifier is trained on both, with shots never on validation images.
    l2: of ridge, or "auto": chosen on a fifth of each class's training images. k, temperature: of knn.
    zero_shot: also measure zero-shot accuracy on the same images; classnames, templates: as for classification.
    near_chance_expected: most published models score near chance.
    """

    name = "probe"
    declared = (
        acc1(),
        acc5(),
        mean_per_class_recall(),
        Family("acc1@{}shot", acc1, SHOTS_PER_CLASS),
        Family("acc5@{}shot", acc5, SHOTS_PER_CLASS),
        Family("mean_per_class_recall@{}shot", mean_per_class_recall, SHOTS_PER_CLASS),
        ZEROSHOT_ACC1,
    )
    primaries = ("acc1", "mean_per_class_recall")
    counted = ("classes",)
    samples = (
        Column("shots", "int", "Training images per class; -1: all, 0: none (zero-shot)"),
        Column("seed", "int", "The draw of the training images"),
        Column("label", "int", "The true class"),
        Column("n_above", "int", "Wrong classes that score higher than the true one"),
        Column("tied_negatives", "int", "Wrong classes with the same score"),
        Column("identical", "int", "Of these, classes with the same prompts (zero-shot)"),
        Column("tied_positives", "int", "True classes with that score: always 1"),
        Column("label_name", "text", "Trained on all images: name of the true class"),
        Column("top5", "ints", "Trained on all images: the five highest classes, best first"),
        Column("top5_scores", "floats", "Their scores"),
        Column("top5_names", "texts", "Their names"),
    )
    shown = Presentation(
        title="Probe",
        order=15,
        legend=(
            "Probes are classifiers trained on image features: acc1@5shot on 5 images per class, acc1 on all training "
            "images. Intervals of few-shot metrics are over test images and draws of training images.",
        ),
        guide=(
            "--param probe=NAME chooses the protocol, which the signature names:",
            "  ridge           curves over shots in seconds, without a search (big_vision's fewshot_lsr); the default",
            "  clip            numbers beside those of the CLIP paper: logistic regression; needs scikit-learn",
            "  clip_benchmark  numbers beside those of CLIP_benchmark's linear_probe: AdamW on projected features",
            "  knn             features as they are: the 20 nearest training images vote (DINO)",
            "--param shots=5,all chooses the training images per class.",
        ),
        tables=(
            TableSpec(
                "{kind}",
                "Probes: zero-shot, then by training images per class",
                ("zeroshot_*", "acc1@*", "*"),
                note="those of few-shot metrics over draws of training images, too",
            ),
        ),
        views=(
            View(
                "probe",
                "Images, after training on all training images",
                ("acc1",),
                Choices("top5_names", "top5_scores", right=right_classes),
                heading="label_name",
                answer="top5_names",
            ),
        ),
        breakdowns=(
            Curve("shots", "Accuracy by training images per class", "acc1@{}shot", SHOTS_PER_CLASS, "images per class"),
            Groups("hardest", "Classes: the lowest, and the most different", "acc1", "label_name", worst=True),
            Confusions("confusions", "Most frequent confusions", "label_name", "top5_names"),
        ),
    )
    parts: ClassVar = {
        "probe": Part("protocol of the probe", differs="another probe"),
        "features": Part("features that the probe reads"),
        "shots": Part("training images per class"),
        "seeds": Part("draws of the training images"),
        "l2": Part("L2 penalty", absent=None),
        "search": Part("search of the regularisation", absent=None),
        "training": Part("optimiser of the probe", absent=None),
        "k": Part("number of neighbours", absent=None),
        "temperature": Part("temperature of the neighbours' votes", absent=None),
        "classes": Part("number of classes"),
        "prompts": Part("class names with their prompts (zero-shot)"),
        "labels": Part("labels assigned to classes by name instead of number (zero-shot)"),
        "extra_data": Part("training and validation images"),
    }

    hub_task = "image-classification"
    clip_benchmark = ClipBenchmark(
        "linear_probe",
        {f"lp_{name}": name for name in ("acc1", "acc5", "mean_per_class_recall")},
        "_probe",
        read_clip_benchmark,
        ("probe", "clip_benchmark"),
    )

    probe: ProbeName = "ridge"
    shots: tuple[Shots, ...] = ()
    seeds: tuple[Annotated[int, Field(ge=0, strict=True)], ...] = Field((0, 1, 2), min_length=1)
    train: str = Field("train", min_length=1)
    val: str = ""
    val_share: float = Field(0.2, ge=0, lt=1)
    l2: Annotated[float, Field(gt=0)] | Literal["auto"] = 1024.0
    k: int = Field(20, ge=1)
    temperature: float = Field(0.07, gt=0)
    zero_shot: StrictBool = True
    classnames: str = ""
    templates: str = ""
    near_chance_expected: StrictBool = False

    @field_validator("shots", "seeds", mode="before")
    @classmethod
    def _several(cls, value: Any) -> Any:
        return (value,) if isinstance(value, int | str) else value

    @model_validator(mode="after")
    def _check(self) -> Probe:
        for name in ("shots", "seeds"):
            if len(set(values := getattr(self, name))) < len(values):
                raise ValueError(f"{name}: got {list(values)}; wanted each once")
        if self.probe == "ridge" and self.l2 == "auto" and 1 in self._shots:
            raise ValueError('l2: "auto" chooses on held-out shots; wanted 2 shots or more (shots = [5, 10, 25])')
        if self.probe == "clip" and not self.val and not self.val_share:
            raise ValueError("val_share: the clip probe needs validation images; wanted more than 0, or val = a split")
        return self

    @property
    def _shots(self) -> tuple[int, ...]:
        """The values of the column shots to measure, in ascending order, all training images last."""
        chosen = self.shots or ((*SHOTS_PER_CLASS, "all") if self.probe == "ridge" else ("all",))
        return (*sorted(k for k in chosen if k != "all"), *((ALL,) if "all" in chosen else ()))

    @property
    def recipe(self) -> Recipe:
        return Recipe(self.probe, self.train, self.val, self.val_share, self.l2, self.k, self.temperature)

    @classmethod
    def concerns(cls, part: str, metric: str) -> bool:
        """Return whether a part can change a metric: prompts zero-shot alone, and what trains all but zero-shot."""
        group = part.partition(".")[0]
        if group in ("prompts", "labels"):
            return metric == ZEROSHOT_ACC1.name
        if group in ("probe", "features", "l2", "search", "training", "k", "temperature", "extra_data"):
            return metric != ZEROSHOT_ACC1.name
        return group != "shots" and (group != "seeds" or "@" in metric)

    def extra_data(self) -> Mapping[str, str]:
        return {"train": self.train, **({"val": self.val} if self.val and self.recipe.searched else {})}

    def splits(self) -> Collection[str]:
        return ("train", *(("val",) if self.val else ()))

    def protocol(self, data: Dataset, machine: Machine) -> dict[str, JsonValue]:
        if self.probe == "clip" and find_spec("sklearn") is None:
            fix = "pip install 'cocabench[probe]', or choose another probe"
            raise CocabenchError("probe clip", "scikit-learn is not installed", fix=fix)
        check_labels(data)
        shots: list[JsonValue] = ["all" if k == ALL else k for k in self._shots]
        return {
            "probe": self.probe,
            "features": features(INPUTS[self.probe]),
            "shots": shots,
            "seeds": list(self.seeds),
            **self._settings(),
            **(self._zero_shot().protocol(data, machine) if self._names_classes(data) else {}),
            "classes": count_classes(data),
        }

    def _settings(self) -> dict[str, JsonValue]:
        held = "" if self.val else f"{self.val_share:g} of the training images"
        if self.probe == "ridge":
            return {"l2": self.l2}
        if self.probe == "knn":
            return {"k": self.k, "temperature": self.temperature}
        search: dict[str, JsonValue] = {"search": {"validation": held or "a split"}}
        if self.probe == "clip":
            return search | {"training": {"iterations": ITERATIONS}}
        return search | {"training": {"lr": LR, "epochs": EPOCHS, "batch": BATCH}}

    def _zero_shot(self) -> Classification:
        return Classification(classnames=self.classnames, templates=self.templates)

    def _names_classes(self, data: Dataset) -> bool:
        return self.zero_shot and bool(self.classnames or data.classes)

    def metrics(self, data: Dataset | None = None) -> Sequence[Metric]:
        few = data is not None and count_classes(data) < MIN_CLASSES_FOR_ACC5
        zero = (ZEROSHOT_ACC1,) if data is None or self._names_classes(data) else ()
        makers = (acc1, partial(acc5, undefined=few), mean_per_class_recall)
        return (*zero, *(make(shots) for shots in self._shots for make in makers))

    def counts(self, data: Dataset) -> Mapping[str, int]:
        return {"classes": count_classes(data)}

    def check(self, data: Dataset, further: Mapping[str, Dataset]) -> None:
        training = Training.of(self.recipe, data, further)
        for shots in self._shots:
            training.check(shots)

    def work(self, data: Dataset) -> dict[str, int]:
        texts = self._zero_shot().work(data)["texts"] if self._names_classes(data) else 0
        return {**super().work(data), "texts": texts}

    def chance(self, data: Dataset) -> Mapping[str, Chance]:
        n = count_classes(data)
        if self.near_chance_expected or n < 2 or ALL not in self._shots:
            return {}
        return {"acc1": Chance(1 / n, "check that training and test images have the same classes in the same order")}

    def data_notes(self, data: Dataset) -> Iterator[Note]:
        seen = {example.label for example in data.examples}
        if empty := [k for k in range(count_classes(data)) if k not in seen]:
            text = f"{plural(len(empty), 'class', 'classes')} without test images, such as {class_name(data, empty[0])}"
            yield Note("classes_without_images", f"{text}: not counted in mean_per_class_recall")

    def sample_notes(self, data: Dataset, samples: Samples) -> Iterator[Note]:
        every = samples[samples["shots"] == ALL]
        if len(every):
            first, right = [names[0] for names in every["top5_names"]], list(every["label_name"])
            yield from one_answer(first, right, "the probe classifies {n} of {total} images as {answer}")

    def score(self, model: Model, data: Dataset, context: Context) -> Iterator[SampleScore]:
        training = Training.of(self.recipe, data, context.data)
        draws = [(shots, seed) for shots in self._shots for seed in (self.seeds if shots != ALL else self.seeds[:1])]
        fitting = Fitting.of(training, draws, partial(self._features, model, context), context)
        test = self._features(model, context, data.examples)
        examples = [data.examples[i] for i in test.kept]
        if len(leaked := in_both(test.features, fitting.features)):
            said = f"{len(leaked)} of {plural(len(examples), 'test image')} have the features of a training image, "
            said += f"such as {examples[leaked[0]].id}: the same pictures are in both splits"
            context.note(Note("leaked_images", said))
        names = data.classes or tuple(map(str, range(training.n_classes)))
        yield from self._without_training(model, data, context)
        for done, (shots, seed) in enumerate(draws):
            context.progress("probes", done, len(draws))
            found = _ranked(fitting.scorer(shots, seed), test.features, test.labels, training.n_classes)
            for example, outcome in zip(examples, found, strict=True):
                yield _sample(example, outcome, shots, seed, names)
        context.progress("probes", len(draws), len(draws))

    def _features(self, model: Model, context: Context, examples: Sequence[Example]) -> Rows:
        """Return the features that the probe reads; ModelError if the model does not have them."""
        images, (output, normalize) = [example.image for example in examples], INPUTS[self.probe]
        try:
            found = model.encode_images(images, output=output, normalize=normalize, progress=context.progress)
        except ModelError as error:
            if output == "projected":
                raise
            fix = 'probe = "clip_benchmark" in [params] reads projected ones'
            raise ModelError(error.where, error.got, wanted="features before the projection", fix=fix) from None
        return Rows(found.rows, found.kept, np.array([label_of(examples[i]) for i in found.kept], np.int64))

    def _without_training(self, model: Model, data: Dataset, context: Context) -> Iterator[SampleScore]:
        """Yield zero-shot outcomes; a note says why if the model cannot encode texts."""
        if not self._names_classes(data):
            return
        try:
            for score in self._zero_shot().score(model, data, context):
                kept = {name: score.stats[name] for name in ("label", *Ranks._fields)}
                yield SampleScore(f"{score.id} zero-shot", score.image_id, {"shots": NO_SHOTS, **kept})
        except ModelError as error:
            context.note(Note("model", f"no zero-shot accuracy: {error}"))


def _ranked(scorer: Scorer, rows: Features, labels: Ints, n_classes: int) -> Iterator[dict[str, Any]]:
    size = max(1, SCORES_PER_CHUNK // (8 * n_classes))
    for start in range(0, len(rows), size):
        yield from ranked(scorer.of(rows[start : start + size]), labels[start : start + size])


def _sample(example: Example, found: Mapping[str, Any], shots: int, seed: int, names: Sequence[str]) -> SampleScore:
    """Return a test image's outcome; what is shown of it is kept for all training images only."""
    draw = {"shots": shots, "seed": seed}
    if shots != ALL:
        kept = {name: found[name] for name in ("label", *Ranks._fields)}
        return SampleScore(f"{example.id} {shots}-shot {seed}", example.id, draw | kept)
    top = {"label_name": names[found["label"]], "top5_names": [names[i] for i in found["top5"] if i >= 0]}
    return SampleScore(example.id, example.id, {**draw, **found, **top})
