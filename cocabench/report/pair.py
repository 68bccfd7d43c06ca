"""Two models task by task: the numbers of Figure 1 of the CoCa blog, for the figures and the page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import NamedTuple

from cocabench.core.formatting import plural, points
from cocabench.core.types import Estimate, MetricInfo
from cocabench.kinds import find, in_words
from cocabench.kinds.shown import Figure as ShownFigure
from cocabench.report.content import MAX_MODELS_TESTED_PAIRWISE, Report
from cocabench.report.series import Score
from cocabench.results import published as publications
from cocabench.results.compare import Comparison, Row, compare_models
from cocabench.results.difference import Finding
from cocabench.results.records import notes


class PairRow(NamedTuple):
    """One task of two models: scores, first minus second, and the test's result as a Finding and as text.

    unnamed: the metric that the figure does not name beside the task.
    """

    task: str
    metric: str
    first: Score
    second: Score
    gap: Score
    finding: Finding
    words: str
    unnamed: str = ""

    @property
    def label(self) -> str:
        return f"{self.task} ({self.metric})" if self.named else self.task

    @property
    def named(self) -> bool:
        return self.metric != self.unnamed

    @property
    def faded(self) -> bool:
        """Whether the bar is drawn faded: the difference is not significant."""
        return self.finding is Finding.NOTHING


class Pair(NamedTuple):
    """first, second: names of models. about: the source of the numbers, and how to read the figure."""

    first: str
    second: str
    rows: tuple[PairRow, ...]
    kind: str
    about: str

    @property
    def better(self) -> int:
        return sum(row.gap.value >= 0.05 for row in self.rows)

    @property
    def worse(self) -> int:
        return sum(row.gap.value <= -0.05 for row in self.rows)

    @property
    def summary(self) -> str:
        """One sentence about the figure."""
        return (
            f"{self.first} scores better on {self.better} and worse on {self.worse} of {plural(len(self.rows), 'task')}"
        )


def pairs(report: Report) -> list[Pair]:
    """Return all pairs of few models, or the pairs with the first of many, if they share comparable tasks."""
    first, *others = report.models
    if len(report.models) > MAX_MODELS_TESTED_PAIRWISE:
        found = [_of(report, _side(report.comparison, i), first, other) for i, other in enumerate(others, 1)]
    else:
        found = [_pair(report, a, b) for a, b in combinations(report.models, 2)]
    held = [pair for pair in found if pair is not None]
    return sorted(held, key=lambda pair: (pair.first, pair.second) != report.pair)


def _pair(report: Report, first: str, second: str) -> Pair | None:
    if report.models == (first, second):
        return _of(report, report.comparison.rows, first, second)
    records = [r for r in report.records if r.model in (first, second)]
    return _of(report, compare_models(records, models=(first, second), evidence=report.evidence).rows, first, second)


def _side(comparison: Comparison, side: int) -> list[Row]:
    """Return the rows of the first model and another one, with findings corrected for all models."""
    return [
        replace(row, cells=(row.cells[0], row.cells[side]), differences=(None, row.differences[side]))
        for row in comparison.rows
    ]


def _of(report: Report, found: Sequence[Row], first: str, second: str) -> Pair | None:
    rows = [row for row in found if row.difference and row.info.unit == "fraction" and _figure(row)]
    alone = next((row.evaluator for row in rows if (figure := _figure(row)) and figure.alone), "")
    shown = [row for row in rows if not alone or row.evaluator == alone]
    if not shown:
        return None
    kind = in_words(alone) if alone else "shared"
    return Pair(first, second, tuple(map(_row, shown)), kind, _about(report, shown, (first, second)))


def _figure(row: Row) -> ShownFigure | None:
    return find(row.evaluator).shown.figure


def _row(row: Row) -> PairRow:
    gap = row.difference
    assert gap is not None, "only rows with a difference are shown"
    first, second = (score_of(cell.estimate, row.info) for cell in row.cells)
    assert first is not None, "a row with a difference has both numbers"
    assert second is not None, "a row with a difference has both numbers"
    figure, difference = _figure(row), Score(gap.value, gap.low, gap.high)
    unnamed = figure.unnamed if figure else ""
    return PairRow(row.task, row.metric, first, second, difference, row.finding, row.verdict, unnamed)


def score_of(estimate: Estimate | None, info: MetricInfo) -> Score | None:
    """Return an Estimate in points; None where there is no value."""
    if estimate is None or estimate.value is None:
        return None
    low, high = (None if end is None else points(end, info) for end in (estimate.low, estimate.high))
    return Score(points(estimate.value, info), low, high)


def _about(report: Report, rows: Sequence[Row], models: Sequence[str]) -> str:
    tasks = {row.task for row in rows}
    records = [r for r in report.records if r.model in models and r.task in tasks]
    said = [publications.describe(records)]
    gaps = [row.difference for row in rows if row.difference]
    if any(gap.low is not None for gap in gaps):
        unpaired = [gap for gap in gaps if gap.unpaired and gap.low is not None]
        way = "unpaired" if len(unpaired) == len(gaps) else "paired" if not unpaired else "partly unpaired"
        said.append(f"lines are 95 % intervals (differences: {way}); faded: not significant")
    if any(notes(r) for r in records):
        said.append("some numbers have notes, see the tables")
    return "; ".join(part for part in said if part)


NOT_DISPLAYED = "display: none"


@dataclass(frozen=True)
class Layout:
    """The axes of Figure 1 on the page. top: end of the score axis. low, high: ends of the difference axis."""

    top: float
    low: float
    high: float

    def at(self, value: float) -> str:
        return f"left: {_percent(value / self.top)}"

    def span(self, score: Score) -> str:
        return _between(score.low, score.high, 0, self.top)

    def gap(self, gap: Score) -> str:
        return _between(gap.low, gap.high, self.low, self.high)

    def fill(self, gap: Score) -> str:
        return _between(min(0.0, gap.value), max(0.0, gap.value), self.low, self.high)

    def zero(self) -> str:
        return f"left: {_percent(-self.low / (self.high - self.low))}"


def layout(pair: Pair) -> Layout:
    """Return axes for all numbers: scores from 0 to 100 or less, differences with their intervals and 0."""
    highest = max(score.value for row in pair.rows for score in (row.first, row.second))
    ends = [end for row in pair.rows for end in row.gap if end is not None]
    low, high = min(0.0, *ends), max(0.0, *ends)
    return Layout(100 if highest > 60 else math.ceil(1.12 * highest / 4) * 4 or 4, low, high if high > low else low + 1)


def _percent(share: float) -> str:
    return f"{min(100.0, max(0.0, 100 * share)):.2f}%"


def _between(low: float | None, high: float | None, start: float, end: float) -> str:
    if low is None or high is None:
        return NOT_DISPLAYED
    size = end - start
    return f"left: {_percent((low - start) / size)}; width: {_percent((high - low) / size)}"
