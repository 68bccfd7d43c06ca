"""The content of a report: one Record per model and task, their comparison, and their samples."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import pandas as pd

from cocabench.core.errors import ResultsError
from cocabench.core.signature import digest
from cocabench.core.types import Record
from cocabench.kinds import find
from cocabench.results import published as publications
from cocabench.results.compare import Comparison, compare_models
from cocabench.results.difference import Evidence
from cocabench.results.records import choose
from cocabench.results.store import RecordSet, read_samples, samples_path

MAX_MODELS_TESTED_PAIRWISE = 5
"""Up to this many models, all pairs are tested on all metrics; beyond, each against the first on primary metrics."""


@dataclass(frozen=True)
class Report:
    """Everything that a report is written from.

    records: one per model and task, without costs. comparison: tested differences of the primary metrics. everything:
    the same for all metrics. results: the loaded Records with their files. baseline: models to compare the others with.
    """

    title: str
    records: tuple[Record, ...]
    costs: tuple[Record, ...]
    comparison: Comparison
    everything: Comparison
    results: RecordSet
    evidence: Evidence
    baseline: tuple[str, ...] = ()

    @property
    def models(self) -> tuple[str, ...]:
        return self.comparison.models

    @property
    def pair(self) -> tuple[str, ...]:
        """The two models to compare first: the first model, and the baseline or else the second."""
        first, *others = self.models
        held = [name for name in others if name in self.baseline]
        twin = [name for name in held if plain(name) == plain(first)]
        return (first, *(twin or held or others)[:1])

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
    few = len(names) <= MAX_MODELS_TESTED_PAIRWISE
    everything = compare_models(records, models=names, all_metrics=True, evidence=evidence if few else Evidence())
    comparison = replace(tested, left_out=left_out)
    kept = tuple(r for r in records if r.model in tested.models)
    return Report(title, kept, costs, comparison, everything, found, evidence, tuple(baseline))


def _order(records: Iterable[Record], baseline: Collection[str]) -> list[str]:
    """Return the models in order of appearance, the baseline's last."""
    return sorted(dict.fromkeys(r.model for r in records), key=lambda name: name in baseline)


def _joined(results: Iterable[Record], more: Sequence[Record]) -> RecordSet:
    given = results if isinstance(results, RecordSet) else RecordSet(found := tuple(results), (None,) * len(found))
    return RecordSet((*given.records, *more), (*given.paths, *(None for _ in more)))


def plain(model: str) -> str:
    """Return a model's name without the suffixes that this report adds: its source, the mark of published numbers."""
    return re.sub(r" \[[^\]]*\]$", "", model.removesuffix(publications.SUFFIX))
