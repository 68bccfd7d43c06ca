"""The base class of kinds of task: params, required model abilities, metrics, samples, scoring and presentation.

To add a kind, subclass Kind, implement ``score``, and declare an entry point in the group ``cocabench.kinds``. Test it
with ``cocabench.kinds.testing.check_kind``.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from itertools import groupby
from typing import Any, ClassVar

import numpy as np
from pydantic import JsonValue

from cocabench.core.types import Ability, Chance, Context, Dataset, Machine, Model, Note, SampleScore
from cocabench.kinds.shown import ClipBenchmark, Column, ColumnType, Part, Presentation
from cocabench.metrics.base import Family, Metric, Samples
from cocabench.metrics.intervals import proportion
from cocabench.metrics.statistics import Hits
from cocabench.specs.spec import Spec

TEXTS: frozenset[ColumnType] = frozenset({"text", "texts", "image_ids", "caption"})
"""Column types that hold text; baselines drop such columns."""

LISTS: frozenset[ColumnType] = frozenset({"ints", "floats", "texts", "image_ids"})

NEAR_CHANCE_FRACTION = 0.02
"""A score is near chance if (score - chance) / (1 - chance) is below this. That holds for the published contrastive
scores of coca_ViT-B-32:mscoco_finetuned_laion2b_s13b_b90k (ImageNet 0.79 %), which fine-tuning destroyed."""


class Kind(Spec):
    """A kind of task. Its pydantic fields are the keys of a task file's [params]; only ``score`` has no default.

    Class methods work on stored Records, instances measure. A metric's name determines its function: params change
    the samples and the protocol, never how a metric is computed from samples.

    name: as in task files and Records. version: of the samples that score writes; raise it when they change.
    declared: all metrics that any instance may have. primaries: preferred primary metrics, best first.
    samples: columns of the samples besides id, image_id and domain. counted: the keys that ``counts`` returns.
    parts: descriptions of the protocol's leaves, or of groups of them (``decoding``). hub_task: the hub's name of the
    kind in model cards, by default the kind's own.
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
    hub_task: ClassVar[str] = ""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Raise TypeError if a param would hide an attribute of Kind."""
        for name, annotation in inspect.get_annotations(cls).items():
            if hasattr(Kind, name) and "ClassVar" not in str(annotation):
                fix = f"rename the field and set Field(alias={name!r})"
                raise TypeError(f"{cls.__name__}.{name}: a param with the name of an attribute of Kind; {fix}")
        super().__init_subclass__(**kwargs)

    # For stored Records: class methods.

    @classmethod
    def title(cls) -> str:
        return cls.shown.title or cls.name.replace("_", " ").capitalize()

    @classmethod
    def metric(cls, name: str) -> Metric | None:
        """Return the metric of that name, which may include a domain; None if there is none."""
        plain, _, domain = name.removesuffix("]").partition("[")
        for one in cls.declared:
            found = one.find(plain) if isinstance(one, Family) else one if one.name == plain else None
            if found is not None:
                return found.on(domain) if domain else found
        return None

    @classmethod
    def listed(cls) -> list[Metric]:
        """Return all metrics, with the usual members of families."""
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
        """Return the columns that metrics read and that hold no text, and id, image_id and domain."""
        kept = cls._numbers()
        return [name for name in columns if name in kept]

    @classmethod
    @cache
    def _numbers(cls) -> frozenset[str]:
        read = {name for metric in cls._with_domains() for name in (*metric.columns, *metric.also)}
        return frozenset(name for name in read if cls.column_type(name) not in TEXTS) | {"id", "image_id", "domain"}

    @classmethod
    def _with_domains(cls) -> list[Metric]:
        return [one for metric in cls.listed() for one in (metric, metric.in_domain) if one is not None]

    @classmethod
    def concerns(cls, part: str, metric: str) -> bool:
        """Return whether a leaf of the protocol (``caption_metrics.METEOR``) can change a metric."""
        return True

    @classmethod
    def part(cls, leaf: str) -> Part | None:
        """Return the declaration of a leaf of the protocol, or of its group."""
        return cls.parts.get(leaf) or cls.parts.get(leaf.partition(".")[0])

    @classmethod
    def decodes(cls, protocol: Mapping[str, JsonValue]) -> bool:
        """Return whether the text decoder produced a Record's numbers."""
        return False

    @classmethod
    def chance_level(cls, metric: str, protocol: Mapping[str, JsonValue], samples: Samples) -> float | None:
        """Return the value (0-1) that guessing gives a metric of a stored Record, None if unknown; for figures."""
        return None

    # For measurements: instance methods.

    def needs(self) -> frozenset[Ability]:
        return frozenset({"encode"})

    def extra_models(self) -> Mapping[str, str]:
        """Return {protocol key: model string} for models other than the measured one, such as CLIPScore's.

        The run loads them on its hardware; ``context.models`` holds those that are available.
        """
        return {}

    def extra_data(self) -> Mapping[str, str]:
        """Return {key: split} for further splits of the task's data, such as a probe's training images.

        The run finds and fingerprints them, [expect.KEY] checks their counts, ``context.data`` holds them.
        """
        return {}

    def splits(self) -> Collection[str]:
        """Return the keys of further splits that [expect] may count: those of ``extra_data`` under any params."""
        return tuple(self.extra_data())

    def counts(self, data: Dataset) -> Mapping[str, int]:
        """Return counts that [expect] may check besides images and texts; the keys are those of ``counted``."""
        return {}

    def check(self, data: Dataset, further: Mapping[str, Dataset]) -> None:
        """Raise CocabenchError if the data or ``extra_data`` do not suit the task; called when a run is planned."""

    def work(self, data: Dataset) -> dict[str, int]:
        """Return an estimate of the images and texts to encode and the captions to generate or score."""
        images = sum(len(example.images) for example in data.examples)
        texts = {t for e in data.examples for t in (*e.texts, *(n for some in e.negatives for n in some))}
        decodes = self.needs() & {"caption", "score_captions"}
        return {"images": images, "texts": 0 if decodes else len(texts), "captions": images if decodes else 0}

    def protocol(self, data: Dataset, machine: Machine) -> dict[str, JsonValue]:
        """Return the settings that can move a number (prompts, decoding), for the signature."""
        return {}

    def metrics(self, data: Dataset | None = None) -> Sequence[Metric]:
        """Return the metrics to measure; with data=None, all that this instance may have."""
        return [one for one in self.declared if isinstance(one, Metric)]

    def unavailable(self, machine: Machine) -> dict[str, str]:
        """Return {metric: reason and remedy} for metrics that are unavailable on this machine."""
        return {}

    def chance(self, data: Dataset) -> Mapping[str, Chance]:
        """Return the chance level of metrics that get a note near chance. data: the images that could be read."""
        return {}

    def data_notes(self, data: Dataset) -> Iterable[Note]:
        """Return notes about the data, such as a class without images."""
        return ()

    def sample_notes(self, data: Dataset, samples: Samples) -> Iterable[Note]:
        """Return notes about the outcomes, such as one caption for all images."""
        return ()

    def score(self, model: Model, data: Dataset, context: Context) -> Iterable[SampleScore]:
        """Yield the statistics of each sample whose image could be read."""
        raise NotImplementedError(f"{type(self).__name__} does not implement score")


def notes_of(
    kind: Kind, data: Dataset, samples: Samples, metrics: Iterable[Metric], *, primary: str = ""
) -> list[Note]:
    """Return the notes on a kind's numbers: on the data, on scores near chance, and on the samples.

    Near chance is said of the primary metric; if it has no chance level, of each other one, of recall@K the largest K.
    """
    read = set(samples["image_id"])
    seen = replace(data, examples=[example for example in data.examples if example.id in read])
    chances, measured = kind.chance(seen), list(metrics)
    one_each = {m.name.partition("@")[0]: m for m in measured if m.name in chances}
    chosen = [m for m in measured if m.name == primary and primary in chances] or list(one_each.values())
    near = [note for m in chosen for note in near_chance(m, samples, chances[m.name])]
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
    """Return a note if a share of hits is near chance or not significantly above it."""
    if not guessed(metric, samples, chance.rate):
        return []
    value = metric.statistic.value(metric.rows(samples))
    text = f"{metric.name} of {100 * value:.1f} % is near chance ({100 * chance.rate:.3g} %): {chance.advice}"
    return [Note("near_chance", text)]


def guessed(metric: Metric, samples: Samples, rate: float) -> bool:
    """Return whether a share of hits is near a rate that guessing gives, or not significantly above it.

    The test uses the metric's interval: Wilson's, with fractional hits (ties) rounded down, or one over images. Of so
    few images that not even a perfect score would be above, nothing is said.
    """
    rows = metric.rows(samples)
    hits = metric.statistic.per_row(rows) if len(rows) else None
    if hits is None:
        return False
    n_images, value = rows["image_id"].nunique(), metric.statistic.value(rows)
    if value == 1 or proportion(np.ones(n_images)).low <= rate:
        return False
    alone = len(rows) == n_images and isinstance(metric.statistic, Hits)
    if not alone and metric.statistic.withheld(rows):
        return False
    low = proportion(np.floor(hits)) if alone else metric.statistic.interval(rows, np.random.default_rng(0))
    return bool(low.low <= rate or (value - rate) / (1 - rate) < NEAR_CHANCE_FRACTION)


NEARLY_ALL = 0.9


def cut_by(model: Model, texts: Sequence[str], called: str, so: str, context: Context) -> Sequence[bool]:
    """Return which distinct texts (n,) are longer than the model's context, and note their share.

    Return nothing for a model that does not say. called, so: in the note, what the texts are and what follows.
    """
    counter = getattr(model, "count_tokens", None)  # of plain objects
    if (reading := counter(texts) if counter else None) is None:
        return ()
    n = sum(reading.cut)
    share = f"{n} of {len(texts)} distinct {called} ({100 * n / max(1, len(texts)):.1f} %)"
    context.note(Note("cut_texts", f"{share} are longer than the context of {reading.context} tokens {so}"))
    return tuple(reading.cut)


MIN_ANSWERS = 10


def one_answer(answers: Sequence[Hashable], right: Sequence[Hashable], text: str) -> list[Note]:
    """Return a note if nearly all answers are one, and the right ones are not.

    right: an answer that is right, for each. text: ``{n} of {total} images are classified as {answer}``.
    """
    if len(answers) < MIN_ANSWERS:
        return []
    ((answer, n),) = Counter(answers).most_common(1)
    share, true_share = n / len(answers), sum(one == answer for one in right) / len(right)
    if share < NEARLY_ALL or share - true_share < 1 - NEARLY_ALL:
        return []
    return [Note("one_answer", text.format(n=n, total=len(answers), answer=repr(answer)))]
