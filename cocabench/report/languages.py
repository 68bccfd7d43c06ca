"""Sets in several languages: a table of every language and the mean over them, and a heat map."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from cocabench.core.formatting import points
from cocabench.core.types import Estimate, MetricInfo
from cocabench.report.content import Report
from cocabench.report.differences import metric_label
from cocabench.report.grid import Entry, Line, Table, of_cell, of_estimate
from cocabench.report.leaderboard import Shade, shade
from cocabench.results.languages import LanguageSet, language_sets, mean_of

MAX_LINES = 16
"""A table of more lines is shown on demand, below its heat maps."""


class LanguageHeat(NamedTuple):
    """The heat map of a set. name: its label. rows: (model, a Shade for each language), models in page order."""

    name: str
    metric: str
    languages: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Shade, ...]], ...]


def table(report: Report) -> Table | None:
    """Return a row for each language, after one with the mean over the set's languages; None without such sets."""
    models = report.comparison.models
    sets = [(found, f"{found.name}, {metric_label(found.first)}") for found in language_sets(report.comparison)]
    lines = [line for found, part in sets for line in _lines(report, found, models, part)]
    if not lines:
        return None
    which = sets[0][1] if len(sets) == 1 else "primary metrics"
    return Table(
        name="languages",
        caption=f"Languages: {which} with 95 % intervals over images",
        columns=("language", *models),
        lines=tuple(lines),
        about="In a mean every language counts alike, and an image that several languages share counts once; models "
        "that lack a language have no mean. Scores are multiplied by 100, ranks are not.",
        shut=len(lines) > MAX_LINES,
    )


def _lines(report: Report, found: LanguageSet, models: Sequence[str], part: str) -> list[Line]:
    lines = []
    if len(found.rows) > 1:
        means = (_mean(report, found, model) for model in models)
        cells = (of_estimate(mean, found.first.info) if mean else Entry("–") for mean in means)
        lines.append(Line((Entry(f"mean of {len(found.rows)}"), *cells), part=part))
    for language, row in found.rows.items():
        cells = (of_cell(row.cells[i], row.info) for i in range(len(models)))
        lines.append(Line((Entry(language), *cells), part=part))
    return lines


def _mean(report: Report, found: LanguageSet, model: str) -> Estimate | None:
    records = [report.record(model, row.task) for row in found.rows.values()]
    there = [record for record in records if record is not None]
    return mean_of(there, found.first.metric, report.evidence) if len(there) == len(records) else None


def heats(report: Report) -> tuple[LanguageHeat, ...]:
    """Return a heat map of each set with two languages or more, shaded over all of its languages and models."""
    return tuple(_heat(report, found) for found in language_sets(report.comparison) if len(found.rows) > 1)


def _heat(report: Report, found: LanguageSet) -> LanguageHeat:
    models, rows = report.comparison.models, list(found.rows.values())
    values = {m: [_value(row.cells[i].estimate, row.info) for row in rows] for i, m in enumerate(models)}
    known = [value for own in values.values() for value in own if value is not None]
    low, high = min(known, default=0.0), max(known, default=0.0)
    shades = (
        (model, tuple(shade(value, low, high, row.info) for value, row in zip(own, rows, strict=True)))
        for model, own in values.items()
        if any(value is not None for value in own)
    )
    return LanguageHeat(found.name, metric_label(found.first), tuple(found.rows), tuple(shades))


def _value(estimate: Estimate | None, info: MetricInfo) -> float | None:
    return None if estimate is None or estimate.value is None else points(estimate.value, info)
