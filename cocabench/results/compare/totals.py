"""What a table says as a whole: wins, ties and losses per kind of task, and means over groups of tasks."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cocabench.core.errors import UnpairedError
from cocabench.core.formatting import points
from cocabench.results.compare.difference import Difference, Finding, in_points, judged
from cocabench.results.compare.evidence import Evidence
from cocabench.results.compare.table import Comparison, Row

MEANS = "Means over tasks: an image that several tasks share counts once; p is not corrected for several means."


@dataclass(frozen=True, slots=True)
class Tally:
    """How the first model did against another on the tasks of one kind, by the findings of their primary metrics.

    wins, losses: tasks on which a difference was found, for and against the first. ties: none was found.
    untested: tasks without a test (one has no result, protocols differ, no interval is known).
    """

    group: str
    first: str
    second: str
    wins: int
    ties: int
    losses: int
    untested: int

    @property
    def tested(self) -> int:
        return self.wins + self.ties + self.losses


@dataclass(frozen=True, slots=True)
class Average:
    """The mean of the primary metrics of a group's tasks, in points, over the tasks that all models have.

    values: one per model. differences: first minus each, None for the first, tested where the samples tell which images
    the tasks share; their findings hold one by one, not together.
    """

    group: str
    tasks: tuple[str, ...]
    values: tuple[float, ...]
    differences: tuple[Difference | None, ...]


def tallies(comparison: Comparison) -> tuple[Tally, ...]:
    """Return a Tally per kind of task and model after the first."""
    rows = [row for row in comparison.rows if row.primary]
    kinds = dict.fromkeys(row.evaluator for row in rows)
    return tuple(
        _tally(comparison.models[0], other, kind, [row.differences[i] for row in rows if row.evaluator == kind])
        for kind in kinds
        for i, other in enumerate(comparison.models)
        if i
    )


def _tally(first: str, second: str, kind: str, gaps: Sequence[Difference | None]) -> Tally:
    count = Counter(gap.finding if gap else Finding.UNTESTED for gap in gaps)
    return Tally(
        kind,
        first,
        second,
        wins=count[Finding.FIRST],
        ties=count[Finding.NOTHING],
        losses=count[Finding.SECOND],
        untested=count[Finding.UNTESTED],
    )


def averages(comparison: Comparison) -> tuple[Average, ...]:
    """Return an Average per kind of task and per group with two tasks or more; groups of the same tasks are one."""
    members: dict[str, list[Row]] = {}
    for row in comparison.rows:
        if row.primary and _complete(row):
            for name in dict.fromkeys((row.evaluator, *row.groups)):
                members.setdefault(name, []).append(row)
    found: dict[tuple[str, ...], Average] = {}
    for name, rows in members.items():
        tasks = tuple(row.task for row in rows)
        if len(rows) > 1 and tasks not in found and len({(r.info.unit, r.info.higher_is_better) for r in rows}) == 1:
            found[tasks] = _average(name, rows, comparison.evidence)
    return tuple(found.values())


def _complete(row: Row) -> bool:
    return all(c.estimate and c.estimate.value is not None and not c.incomparable for c in row.cells)


def _average(name: str, rows: Sequence[Row], evidence: Evidence) -> Average:
    values = zip(*(list(_values(row)) for row in rows), strict=True)
    return Average(
        name,
        tuple(row.task for row in rows),
        tuple(math.fsum(column) / len(rows) for column in values),
        tuple(_mean(rows, i, evidence) for i in range(len(rows[0].cells))),
    )


def _values(row: Row) -> Iterator[float]:
    for cell in row.cells:
        if cell.estimate and cell.estimate.value is not None:
            yield points(cell.estimate.value, row.info)


def _mean(rows: Sequence[Row], model: int, evidence: Evidence) -> Difference | None:
    """Return the mean of a model's differences, tested where it is known which images the tasks share."""
    gaps = [gap for row in rows if (gap := row.differences[model])]
    if len(gaps) < len(rows):
        return None
    held = [(row.cells[0].record, row.cells[model].record, row.metric) for row in rows]
    unpaired = next((gap.unpaired for gap in gaps if gap.unpaired), "")
    try:
        found = None if unpaired else evidence.mean([(a, b, metric) for a, b, metric in held if a and b])
    except UnpairedError as reason:
        found, unpaired = None, str(reason)
    if found is None:
        return Difference(math.fsum(gap.value for gap in gaps) / len(gaps), unpaired=unpaired, places=gaps[0].places)
    return judged(in_points(found, rows[0].info, places=gaps[0].places), rows[0].info)
