"""The content of a report: one Record per model and task, their comparison, their samples, and short names."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import pandas as pd

from cocabench.core.errors import ResultsError
from cocabench.core.formatting import decimals, points
from cocabench.core.signature import digest
from cocabench.core.types import Estimate, MetricInfo, Record
from cocabench.kinds import find
from cocabench.report.style import Score
from cocabench.results import published as publications
from cocabench.results.compare import Cell, Comparison, Row, compare_models, in_order, set_of_row
from cocabench.results.difference import Evidence
from cocabench.results.epochs import epoch_of
from cocabench.results.published import plain
from cocabench.results.records import choose, published_by
from cocabench.results.store import RecordSet, read_samples, samples_path

MAX_MODELS_TESTED_ON_ALL_METRICS = 5
"""Up to this many models, the first is tested against each on all metrics, for the tables; beyond, on primary ones."""

ONLY_PRIMARY_TESTED = f"of more than {MAX_MODELS_TESTED_ON_ALL_METRICS} models only primary metrics are tested"


@dataclass(frozen=True)
class Report:
    """Everything that a report is written from.

    records: one per model and task, without costs. comparison: the primary metric of each task, of all models.
    everything: the same for all metrics. results: the loaded Records with their files. baseline: models to compare the
    others with.
    """

    title: str
    records: tuple[Record, ...]
    costs: tuple[Record, ...]
    comparison: Comparison
    everything: Comparison
    results: RecordSet
    evidence: Evidence
    baseline: tuple[str, ...] = ()

    @cached_property
    def models(self) -> tuple[str, ...]:
        """The models that the page is about: the measured ones, or the published ones if there are no others."""
        return tuple(m for m in self.comparison.models if m not in self.apart)

    @cached_property
    def apart(self) -> tuple[str, ...]:
        """Published models beside measured ones: they are shown, and compared with nothing."""
        measured = {r.model for r in self.records if not published_by(r)}
        return tuple(m for m in self.comparison.models if m not in measured) if measured else ()

    @cached_property
    def names(self) -> Mapping[str, str]:
        """{model: its short name on this page}."""
        return short_names(self.comparison.models)

    @cached_property
    def labels(self) -> Mapping[str, str]:
        """{task: its label on this page}."""
        return task_labels([row.task for row in self.comparison.rows])

    @cached_property
    def areas(self) -> tuple[Area, ...]:
        """The kinds of task on which a model has a number, in page order."""
        found = (self._area(kind) for kind in in_order(dict.fromkeys(row.evaluator for row in self.comparison.rows)))
        return tuple(area for area in found if area.able)

    def _area(self, kind: str) -> Area:
        """Return a kind's tasks; the languages of a set, which have a section of their own, if there are no others."""
        every = tuple(row for row in self.comparison.rows if row.evaluator == kind)
        rows = tuple(row for row in every if not set_of_row(self.comparison, row)) or every
        having = {
            m: [row for row in rows if self.score(row, m) and not self.cell(row, m).incomparable] for m in self.models
        }
        able = tuple(m for m in self.models if having[m])
        return Area(kind, rows, able, _shared(rows, [having[m] for m in able]))

    def cell(self, row: Row, model: str) -> Cell:
        return row.cells[self._place[model]]

    def score(self, row: Row, model: str) -> Score | None:
        """Return a model's number in points; None where there is none."""
        return score_of(self.cell(row, model).estimate, row.info)

    @cached_property
    def _place(self) -> dict[str, int]:
        return {model: i for i, model in enumerate(self.comparison.models)}

    def record(self, model: str, task: str) -> Record | None:
        return self._by_name.get((model, task))

    @cached_property
    def _by_name(self) -> dict[tuple[str, str], Record]:
        return {(r.model, r.task): r for r in self.records}

    @cached_property
    def numbers(self) -> Mapping[str, Mapping[tuple[str, str], float]]:
        """{model: {(task, metric): its value}}, defined ones."""
        found: dict[str, dict[tuple[str, str], float]] = {model: {} for model in self.comparison.models}
        for r in self.records:
            found[r.model] |= {(r.task, m): e.value for m, e in r.metrics.items() if e.value is not None}
        return found

    def cannot(self, model: str, row: Row) -> bool:
        """Return whether a model has no number on a task because the task needs a text decoder and it has none."""
        return (model, row.task) not in self._by_name and row.task in self.decoded and model in self._undecoding

    @cached_property
    def decoded(self) -> frozenset[str]:
        """The tasks whose numbers a text decoder produced."""
        return frozenset(r.task for r in self.records if find(r.evaluator).decodes(r.signature.protocol))

    @cached_property
    def _undecoding(self) -> frozenset[str]:
        """The models whose parameters are known and have no decoder among them, and that decoded nothing."""
        counted = {r.model for r in (*self.records, *self.costs) if r.parameters}
        decoding = {r.model for r in self.records if r.task in self.decoded}
        decoding |= {r.model for r in (*self.records, *self.costs) if any("decoder" in name for name in r.parameters)}
        return frozenset(counted - decoding)

    @cached_property
    def keys(self) -> dict[tuple[str, str], str]:
        """{(model, task): the id of its Record on the page}."""
        return {(r.model, r.task): f"r{i}" for i, r in enumerate((*self.records, *self.costs))}

    @cached_property
    def by_key(self) -> dict[str, Record]:
        return {self.keys[r.model, r.task]: r for r in (*self.records, *self.costs)}

    def has_samples(self, record: Record) -> bool:
        path = self.results.path(record)
        return path is not None and samples_path(path, record).is_file()

    def samples(self, record: Record, *, images: Collection[str] | None = None) -> pd.DataFrame:
        """Return the samples of a Record, or those of some images; ResultsError if they are missing."""
        return read_samples(self.results.path(record), record, images=images)

    def thumbnails(self, record: Record) -> Path | None:
        """Return the thumbnails file of a Record's data set, None if there is none."""
        path, data = self.results.path(record), record.signature.protocol.get("data")
        if path is None or data is None:
            return None
        found = path.parent.parent / "thumbnails" / f"{digest(data)}.parquet"
        return found if found.is_file() else None


@dataclass(frozen=True)
class Area:
    """A kind of task: the rows of its tasks, the models with a number, and the tasks whose mean is the kind's score."""

    kind: str
    rows: tuple[Row, ...]
    able: tuple[str, ...]
    shared: tuple[Row, ...]

    @property
    def title(self) -> str:
        return find(self.kind).title()

    @property
    def mean(self) -> bool:
        """Whether the score is a mean over tasks; else it is the number of its only task, if there is one."""
        return len(self.shared) > 1


def _shared(rows: Sequence[Row], having: Sequence[Sequence[Row]]) -> tuple[Row, ...]:
    """Return the rows to average: those that all models have, if that is half of the rows; else those that half have.

    Of one unit and direction: that of the first.
    """
    count = {row.task: sum(row in mine for mine in having) for row in rows}
    everyone = [row for row in rows if having and count[row.task] == len(having)]
    most = [row for row in rows if having and 2 * count[row.task] >= len(having)]
    found = everyone if 2 * len(everyone) >= len(rows) else most
    way = {(row.info.unit, row.info.higher_is_better) for row in found[:1]}
    return tuple(row for row in found if (row.info.unit, row.info.higher_is_better) in way)


def gather(
    results: Iterable[Record],
    *,
    published: Sequence[str] = (),
    baseline: Collection[str] = (),
    models: Sequence[str] = (),
    title: str = "cocabench report",
) -> Report:
    """Choose the Records of a report and compare them.

    published: models NAME:TAG whose published numbers to include. baseline: models to compare the others with; they
    are shown last. models: show only these, in this order.
    """
    found = _joined(results, publications.as_records(published) if published else [])
    chosen, left_out = choose(found)
    costs = tuple(r for r in chosen if find(r.evaluator).shown.costs and (not models or r.model in models))
    records = tuple(r for r in chosen if not find(r.evaluator).shown.costs)
    if not records:
        raise ResultsError(
            "report", "no Records and no published models", fix="name a results folder or --published models"
        )
    evidence, names = Evidence(found), models or _order(records, baseline)
    tested = compare_models(records, models=names, evidence=evidence)
    few = len(names) <= MAX_MODELS_TESTED_ON_ALL_METRICS
    tests = evidence if few else Evidence(untested=ONLY_PRIMARY_TESTED)
    everything = compare_models(records, models=names, all_metrics=True, evidence=tests)
    comparison = replace(tested, left_out=left_out)
    kept = tuple(r for r in records if r.model in tested.models)
    return Report(title, kept, costs, comparison, everything, found, evidence, tuple(baseline))


def _order(records: Iterable[Record], baseline: Collection[str]) -> list[str]:
    """Return the models in order of appearance, the baseline's last."""
    return sorted(dict.fromkeys(r.model for r in records), key=lambda name: name in baseline)


def _joined(results: Iterable[Record], more: Sequence[Record]) -> RecordSet:
    given = results if isinstance(results, RecordSet) else RecordSet(found := tuple(results), (None,) * len(found))
    return RecordSet((*given.records, *more), (*given.paths, *(None for _ in more)))


def score_of(estimate: Estimate | None, info: MetricInfo) -> Score | None:
    """Return an Estimate in points; None where there is no value."""
    if estimate is None or estimate.value is None:
        return None
    low, high = (None if end is None else points(end, info) for end in (estimate.low, estimate.high))
    value = points(estimate.value, info)
    return Score(value, low, high, decimals(value, info))


# Short names.

MAX_NAME = 32
"""Longer names are cut in the middle."""


def short_names(models: Sequence[str]) -> dict[str, str]:
    """Return {model: a short name that no other model has}.

    Checkpoints of one run are ``epoch 2``, of several runs ``run epoch 2``. Others lose what all share: a folder
    (``demo/``), an architecture or a tag. Published models keep their mark.

    >>> list(short_names(["demo/coca", "demo/clip"]).values())
    ['coca', 'clip']
    >>> list(short_names(["ViT-B-32:runs/x/checkpoints/epoch_1.pt", "ViT-B-32:runs/x/checkpoints/epoch_2.pt"]).values())
    ['epoch 1', 'epoch 2']
    """
    found = {model: _of_epoch(model, models) for model in models}
    others = [model for model in models if not found[model]]
    found |= dict(zip(others, _without_shared(others), strict=True))
    lengths = [len(name) for name in found.values()]
    cut = {m: name if len(name) <= MAX_NAME else f"{name[:15]}…{name[-16:]}" for m, name in found.items()}
    best = next((names for names in (cut, found) if len(set(names.values())) == len(lengths)), None)
    return best or {model: model for model in models}


def _of_epoch(model: str, models: Sequence[str]) -> str:
    """Return ``epoch 2`` for a numbered checkpoint, with its run's last part if there are several runs; else ''."""
    if (point := epoch_of(plain(model))) is None:
        return ""
    runs = dict.fromkeys(other.run for name in models if (other := epoch_of(plain(name))))
    epoch = f"{point.unit} {point.number}{model[len(plain(model)) :]}"
    if len(runs) == 1:
        return epoch
    tails = [run.rstrip("/").rpartition("/")[2].rpartition(":")[2] for run in runs]
    named = dict(zip(runs, tails if len(set(tails)) == len(tails) else runs, strict=True))
    return f"{named[point.run]} {epoch}"


def _without_shared(models: Sequence[str]) -> list[str]:
    """Return names without the folder, architecture or tag that all share, if they stay different and not empty."""
    parts = [(plain(m), m[len(plain(m)) :]) for m in models]
    names = [name for name, _ in parts]
    architectures, tags = ([name.partition(":")[i] for name in names] for i in (0, 2))
    different = len(set(names))
    if different > 1 and len(set(architectures)) == different:
        names = architectures
    elif different > 1 and len(set(architectures)) == 1 and all(tags):
        names = tags
    folder = _common(names, "/")
    short = (
        [name[len(folder) :] for name in names] if len(names) > 1 else [names[0].rpartition("/")[2]] if names else []
    )
    return [name + tail for name, (_, tail) in zip(short if all(short) else names, parts, strict=True)]


def _common(names: Sequence[str], ends: str) -> str:
    """Return the longest common beginning that ends with one of these letters."""
    first, last = min(names, default=""), max(names, default="")
    n = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    return first[: max((first.rfind(end, 0, n) for end in ends), default=-1) + 1]


def task_labels(tasks: Sequence[str]) -> dict[str, str]:
    """Return {task: its name without the words that all tasks begin with, underscores as spaces}.

    Whole names where a label would be a number alone.

    >>> list(task_labels(["emoji_flags", "emoji_food_drink"]).values())
    ['flags', 'food drink']
    """
    shared = _common(tasks, "_-/") if len(set(tasks)) > 1 else ""
    labels = {task: task[len(shared) :].replace("_", " ") for task in tasks}
    lettered = all(any(map(str.isalpha, label)) for label in labels.values())
    fine = lettered and len(set(labels.values())) == len(set(tasks))
    return labels if fine else {task: task for task in tasks}
