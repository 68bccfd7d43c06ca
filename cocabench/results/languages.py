"""Sets of tasks that differ in the language of their texts alone: one result for each language, and their mean."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cocabench.core.errors import UnpairedError
from cocabench.core.types import Estimate, Record
from cocabench.metrics.base import UNKNOWN
from cocabench.results.compare import Comparison, Row, set_of_row
from cocabench.results.difference import Evidence


@dataclass(frozen=True, slots=True)
class LanguageSet:
    """The rows of a set's languages by their primary metric. name: of the set. rows: {language: row}, in task order."""

    name: str
    rows: Mapping[str, Row]

    @property
    def first(self) -> Row:
        """A row that speaks for all: of a set they have one metric."""
        return next(iter(self.rows.values()))


def language_sets(comparison: Comparison) -> tuple[LanguageSet, ...]:
    """Return the sets of a comparison with their languages, in its order."""
    found: dict[str, dict[str, Row]] = {}
    for row in comparison.rows:
        if row.primary and (name := set_of_row(comparison, row)):
            found.setdefault(name, {})[row.task.removeprefix(f"{name}/")] = row
    return tuple(LanguageSet(name, rows) for name, rows in found.items())


def mean_of(records: Sequence[Record], metric: str, evidence: Evidence) -> Estimate | None:
    """Return the mean of one model's Records over languages, each counting alike; None where one has no value.

    Its interval is over images, of which each counts once for all languages; without samples there is none.
    """
    found = [record.metrics.get(metric) for record in records]
    values = [estimate.value for estimate in found if estimate and estimate.value is not None]
    if not values or len(values) < len(records):
        return None
    try:
        low, high = evidence.interval_of_mean([(record, metric) for record in records])
    except UnpairedError:
        low, high = UNKNOWN
    return Estimate(value=math.fsum(values) / len(values), low=low, high=high, n=max(e.n for e in found if e))
