"""Zero-shot classification by prompts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar, Literal

import numpy as np
from pydantic import JsonValue, StrictBool

from cocabench.core.errors import DataError
from cocabench.core.signature import digest
from cocabench.core.types import Dataset, Features, Model, Progress, SampleScore, silent
from cocabench.data.prompts import class_names, templates
from cocabench.metrics.base import Metric, Samples
from cocabench.metrics.chance import alarm
from cocabench.metrics.classification import (
    MEAN_AVERAGE_PRECISION,
    class_weights,
    ranked_classes,
    ranks_of,
    single_label,
)
from cocabench.metrics.ranking import Ints, hits_at
from cocabench.specs.spec import Spec

DEFAULT_TEMPLATES = "imagenet1k"


class Classification(Spec):
    """Which class is it? The class whose prompts' mean feature is nearest to the image's.

    classnames, templates: a shipped set's name or a file of one's own; '' takes the data set's, and for templates
    without any ImageNet's 80. Templates hold ``{c}``; a file may also give each class its own prompts (CuPL).
    multilabel: an image has several classes; the metric is mean average precision.
    hard: most published models are near chance on this data, so that such a score is no sign of a broken run.
    """

    needs: ClassVar[Literal["contrastive", "captioner"]] = "contrastive"

    classnames: str = ""
    templates: str = ""
    multilabel: StrictBool = False
    hard: StrictBool = False

    def protocol(self, dataset: Dataset) -> dict[str, JsonValue]:
        prompts = self.prompts(dataset)
        self._check_labels(dataset, len(prompts))
        several: dict[str, JsonValue] = {"multilabel": True} if self.multilabel else {}
        return {"classes": len(prompts), "prompts": digest([[name, *texts] for name, texts in prompts]), **several}

    def metrics(self, dataset: Dataset) -> Sequence[Metric]:
        return (MEAN_AVERAGE_PRECISION,) if self.multilabel else single_label(len(self.prompts(dataset)))

    def classes(self, dataset: Dataset) -> Sequence[str]:
        return class_names(self.classnames) if self.classnames else dataset.classes

    def notes(self, dataset: Dataset) -> Sequence[str]:
        seen = {label for example in dataset.examples for label in _labels(example.label)}
        if not (empty := [name for i, name in enumerate(self.classes(dataset)) if i not in seen]):
            return ()
        counts = "counts as 0" if self.multilabel else "does not count in mean_per_class_recall"
        return (f"{len(empty)} classes without images, the first {empty[0]!r}: such a class {counts}",)

    def remarks(self, dataset: Dataset, samples: Samples) -> Sequence[str]:
        n_classes = len(self.classes(dataset))
        if self.multilabel or self.hard or n_classes < 2:
            return ()
        return alarm("acc1", hits_at(ranks_of(samples), 1), 1 / n_classes)

    def unavailable(self) -> dict[str, str]:
        return {}

    def prompts(self, dataset: Dataset) -> list[tuple[str, tuple[str, ...]]]:
        """Return (class name, its prompts) per class. Names may repeat: ImageNet has two classes "missile"."""
        names = self.classes(dataset)
        if not names:
            raise DataError(dataset.name, "no class names", fix="set params.classnames in the task file")
        given = templates(self.templates) if self.templates else dataset.templates or templates(DEFAULT_TEMPLATES)
        if isinstance(given, Mapping):
            if missing := [name for name in names if name not in given]:
                fix = "give every class its prompts"
                raise DataError(
                    f"templates {self.templates}", f"no prompts for {missing[0]!r} and {len(missing) - 1} more", fix=fix
                )
            return [(name, tuple(given[name])) for name in names]
        return [(name, tuple(template.replace("{c}", name) for template in given)) for name in names]

    def score(self, model: Model, dataset: Dataset, *, progress: Progress = silent) -> Iterator[SampleScore]:
        prompts = self.prompts(dataset)
        weights, items = self._classifier(model, prompts, progress)
        images = model.encode_images([example.image for example in dataset.examples], progress=progress)
        examples = [dataset.examples[i] for i in images.kept]
        names = [name for name, _ in prompts]
        if self.multilabel:
            for example, scores in zip(examples, (images.rows @ weights.T)[:, items], strict=True):
                labels = {"labels": list(_labels(example.label)), "class_scores": scores.tolist()}
                yield SampleScore(example.id, example.id, labels)
            return
        labels_array = np.array([_labels(example.label)[0] for example in examples], np.int64)
        for example, stats in zip(examples, ranked_classes(images.rows, weights, items, labels_array), strict=True):
            top = {"label_name": names[stats["label"]], "top5_names": [names[i] for i in stats["top5"]]}
            yield SampleScore(example.id, example.id, {**stats, **top})

    def _classifier(
        self, model: Model, prompts: list[tuple[str, tuple[str, ...]]], progress: Progress
    ) -> tuple[Features, Ints]:
        """Return the weights of the distinct classes (u, d), and which of them each class is (c,)."""
        distinct = list(dict.fromkeys(texts for _, texts in prompts))
        position = {texts: i for i, texts in enumerate(distinct)}
        flat = [text for texts in distinct for text in texts]
        owner = np.repeat(np.arange(len(distinct)), [len(texts) for texts in distinct])
        weights = class_weights(model.encode_texts(flat, progress=progress), owner, len(distinct))
        return weights, np.array([position[texts] for _, texts in prompts], np.int64)

    def _check_labels(self, dataset: Dataset, n_classes: int) -> None:
        for example in dataset.examples:
            labels = _labels(example.label)
            if not self.multilabel and len(labels) != 1:
                got = f"{len(labels)} labels for {example.id}"
                raise DataError(dataset.name, got, wanted="one, or params.multilabel = true")
            if any(not 0 <= label < n_classes for label in labels):
                got = f"label {example.label} of {example.id}"
                raise DataError(dataset.name, got, wanted=f"0 to {n_classes - 1}", fix="check params.classnames")


def _labels(label: int | tuple[int, ...] | None) -> tuple[int, ...]:
    if label is None:
        return ()
    return label if isinstance(label, tuple) else (label,)
