"""A kind of task as one object: params, what it needs of a model, metrics, samples, scoring, and how it is shown.

A new kind is a subclass of Kind, named in the entry point group ``cocabench.kinds``; ``score`` is all that it must
have. ``cocabench.kinds.testing.check_kind`` tests one.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any, ClassVar

import numpy as np
from pydantic import JsonValue

from cocabench.core.types import Ability, Chance, Context, Dataset, Machine, Model, Note, SampleScore
from cocabench.kinds.shown import ClipBenchmark, Column, ColumnType, Part, Presentation
from cocabench.metrics.base import Family, Metric, Samples
from cocabench.metrics.intervals import proportion
from cocabench.specs.spec import Spec

TEXTS: frozenset[ColumnType] = frozenset({"text", "texts", "image_ids", "caption"})
"""Types of columns that hold words: no baseline keeps them."""

LISTS: frozenset[ColumnType] = frozenset({"ints", "floats", "texts", "image_ids"})

NEAR = 0.02
"""A score is near chance if it covers less of the way from chance to perfect. The published contrastive scores of
coca_ViT-B-32:mscoco_finetuned_laion2b_s13b_b90k (ImageNet 0.79 %), a checkpoint that lost its skill, do."""


class Kind(Spec):
    """A kind of task. Its fields are the keys of a task file's [params]; what stands here has a default but for score.

    The class answers for stored Records, an instance measures. One law holds: a metric's name fixes its function; what
    a param changes, it changes in the samples and in the protocol.

    name: as in task files and Records. version: of the samples that score writes; raised when it would write others.
    declared: every metric that any instance may have. primaries: the usual primary metrics, the first that is there.
    samples: the columns of its samples beside id, image_id and domain. counted: the names that ``counts`` gives.
    parts: leaves of its protocol, or groups of them (``decoding``), in words.
    """

    name: ClassVar[str] = ""
    version: ClassVar[int] = 1
    declared: ClassVar[tuple[Metric | Family, ...]] = ()
    primaries: ClassVar[tuple[str, ...]] = ()
    samples: ClassVar[tuple[Column, ...]] = ()
    counted: ClassVar[tuple[str, ...]] = ()
    shown: ClassVar[Presentation] = Presentation()
    parts: ClassVar[Mapping[str, Part]] = {}
    clip_benchmark: ClassVar[ClipBenchmark | None] = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """TypeError where a param would hide an attribute of Kind."""
        for name, annotation in inspect.get_annotations(cls).items():
            if hasattr(Kind, name) and "ClassVar" not in str(annotation):
                fix = f"call it otherwise and give it an alias: Field(alias={name!r})"
                raise TypeError(f"{cls.__name__}.{name}: a param named like an attribute of Kind; {fix}")
        super().__init_subclass__(**kwargs)

    # Of stored Records: by class.

    @classmethod
    def title(cls) -> str:
        return cls.shown.title or cls.name.replace("_", " ").capitalize()

    @classmethod
    def metric(cls, name: str) -> Metric | None:
        """Return the metric that is stored under a name, of a domain too; None where the kind has none."""
        plain, _, domain = name.removesuffix("]").partition("[")
        for one in cls.declared:
            found = one.find(plain) if isinstance(one, Family) else one if one.name == plain else None
            if found is not None:
                return found.on(domain) if domain else found
        return None

    @classmethod
    def listed(cls) -> list[Metric]:
        """Return every metric, and of families the usual members."""
        found: list[Metric] = []
        for is_family, some in groupby(cls.declared, key=lambda one: isinstance(one, Family)):
            if is_family:
                families = [one for one in some if isinstance(one, Family)]
                numbers = dict.fromkeys(k for family in families for k in family.listed)
                found += [family.make(k) for k in numbers for family in families if k in family.listed]
            else:
                found += [one for one in some if isinstance(one, Metric)]
        return found

    @classmethod
    def column_type(cls, name: str) -> ColumnType | None:
        return next((column.type for column in cls.samples if column.name == name), None)

    @classmethod
    def numbers(cls, columns: Iterable[str]) -> list[str]:
        """Return those of columns that metrics read and that hold no words, with id, image_id and domain before."""
        read = {name for metric in cls._with_domains() for name in (*metric.columns, *metric.also)}
        kept = {name for name in read if cls.column_type(name) not in TEXTS} | {"id", "image_id", "domain"}
        return [name for name in columns if name in kept]

    @classmethod
    def _with_domains(cls) -> list[Metric]:
        return [one for metric in cls.listed() for one in (metric, metric.in_domain) if one is not None]

    @classmethod
    def concerns(cls, part: str, metric: str) -> bool:
        """Return whether a leaf of the protocol (``caption_metrics.METEOR``) can move a metric."""
        return True

    @classmethod
    def part(cls, leaf: str) -> Part | None:
        """Return what is declared of a leaf of the protocol, or of the group that it is in."""
        return cls.parts.get(leaf) or cls.parts.get(leaf.partition(".")[0])

    @classmethod
    def decodes(cls, protocol: Mapping[str, JsonValue]) -> bool:
        """Return whether the text decoder made a Record's numbers."""
        return False

    # Of a measurement: by instance.

    def needs(self) -> frozenset[Ability]:
        return frozenset({"encode"})

    def extra_models(self) -> Mapping[str, str]:
        """Return {key of the protocol: model string} of models beside the measured one (CLIPScore's scorer).

        The run loads them on its hardware; ``context.models`` has those that are there.
        """
        return {}

    def extra_data(self) -> Mapping[str, str]:
        """Return {key: split} of further splits of the task's data (the training images of a probe).

        The run finds and fingerprints them, [expect.KEY] checks their counts, ``context.data`` has them.
        """
        return {}

    def counts(self, data: Dataset) -> Mapping[str, int]:
        """Return what [expect] may hold beside images and texts, by the names of counted."""
        return {}

    def work(self, data: Dataset) -> dict[str, int]:
        """Return how many images, texts and captions are made of data, as far as it tells: an estimate of the work."""
        images = sum(len(example.images) for example in data.examples)
        texts = {t for e in data.examples for t in (*e.texts, *(n for some in e.negatives for n in some))}
        decodes = self.needs() & {"caption", "score_captions"}
        return {"images": images, "texts": 0 if decodes else len(texts), "captions": images if decodes else 0}

    def protocol(self, data: Dataset, machine: Machine) -> dict[str, JsonValue]:
        """Return what of the measurement can move a number (prompts, decoding), for the signature."""
        return {}

    def metrics(self, data: Dataset | None = None) -> Sequence[Metric]:
        """Return the metrics that are measured; of data that are not read yet (None), those that any may have."""
        return [one for one in self.declared if isinstance(one, Metric)]

    def unavailable(self, machine: Machine) -> dict[str, str]:
        """Return {metric: reason and remedy} for the metrics that cannot run on this machine."""
        return {}

    def chance(self, data: Dataset) -> Mapping[str, Chance]:
        """Return by metric what guessing gets, where a score near it is a warning. data: the images that were read."""
        return {}

    def data_notes(self, data: Dataset) -> Iterable[Note]:
        """Return what must stand beside the numbers on such data (a class without images)."""
        return ()

    def sample_notes(self, data: Dataset, samples: Samples) -> Iterable[Note]:
        """Return what the outcomes tell that must stand beside the numbers (one caption for all)."""
        return ()

    def score(self, model: Model, data: Dataset, context: Context) -> Iterable[SampleScore]:
        """Return the statistics of every sample whose image could be read."""
        raise NotImplementedError(f"{type(self).__name__} has no score")


def notes_of(kind: Kind, data: Dataset, samples: Samples, metrics: Iterable[Metric]) -> list[Note]:
    """Return what must stand beside a kind's numbers: of the data, of the samples, and of scores near chance."""
    read = set(samples["image_id"])
    seen = replace(data, examples=[example for example in data.examples if example.id in read])
    chances, measured = kind.chance(seen), list(metrics)
    near = [note for m in measured if m.name in chances for note in near_chance(m, samples, chances[m.name])]
    return [*kind.data_notes(data), *near, *withheld(measured, samples), *kind.sample_notes(data, samples)]


def withheld(metrics: Iterable[Metric], samples: Samples) -> list[Note]:
    """Return a note for each reason why metrics of quality have no interval."""
    reasons: dict[str, list[str]] = {}
    for metric in metrics:
        rows = metric.rows(samples)
        if metric.role == "quality" and len(rows) and (reason := metric.statistic.withheld(rows)):
            reasons.setdefault(reason, []).append(metric.name)
    return [Note("interval_withheld", f"no interval for {', '.join(names)}: {why}") for why, names in reasons.items()]


def near_chance(metric: Metric, samples: Samples, chance: Chance) -> list[Note]:
    """Return a note if a share of hits is near what guessing gets, or cannot be told from it.

    Fractions of hits (of ties) count down for the interval, which is Wilson's.
    """
    rows = metric.rows(samples)
    rows = rows.drop_duplicates("image_id") if chance.once_per_image else rows
    hits = metric.statistic.per_row(rows) if len(rows) else None
    if hits is None:
        return []
    value, rate = float(hits.mean()), chance.rate
    if proportion(np.floor(hits)).low > rate and (value - rate) / (1 - rate) >= NEAR:
        return []
    text = f"{metric.name} of {100 * value:.2g} % is near chance ({100 * rate:.2g} %): {chance.advice}"
    return [Note("near_chance", text)]
