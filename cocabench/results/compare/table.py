"""The table: a row per task and metric, a cell per model, and the differences from the first model."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from cocabench.core.errors import UnknownNameError
from cocabench.core.formatting import number, points
from cocabench.core.types import Estimate, MetricInfo, Record
from cocabench.kinds import find
from cocabench.results.compare.choice import brief, choose, incomparable, notes, unknown_parts
from cocabench.results.compare.difference import Difference, Finding, corrected, judged, tested
from cocabench.results.compare.evidence import Evidence
from cocabench.results.store import RecordSet


@dataclass(frozen=True, slots=True)
class Cell:
    """One model on one task and metric. estimate is None where the model has no such number; text says it all.

    best: no other model of the row prints a better value, and all of them may be compared. notes: what a reader
    must know beside the number. incomparable: why it cannot be held against the first model's. record: where the
    estimate is from.
    """

    text: str
    estimate: Estimate | None = None
    best: bool = False
    notes: tuple[str, ...] = ()
    incomparable: tuple[str, ...] = ()
    record: Record | None = None


def remarks(cell: Cell, *, apart: bool) -> list[str]:
    """Return a cell's notes. apart: with the reason why it cannot be held against the first model's."""
    reasons = [f"not comparable with the first model: {brief(cell.incomparable)}"] if cell.incomparable else []
    return [*cell.notes, *(reasons if apart else [])]


@dataclass(frozen=True, slots=True)
class Row:
    """One task and metric: a cell per model, and the difference of the first from each.

    differences: one per cell, first minus that cell's model; None for the first and where there is none. primary: the
    metric is the task's. evaluator and groups are the task's.
    """

    task: str
    metric: str
    info: MetricInfo
    cells: tuple[Cell, ...]
    differences: tuple[Difference | None, ...] = ()
    evaluator: str = ""
    groups: tuple[str, ...] = ()
    primary: bool = True

    @property
    def difference(self) -> Difference | None:
        """The difference of two models; None for one or more than two."""
        return self.differences[1] if len(self.differences) == 2 else None

    @property
    def difference_text(self) -> str:
        """``+1.2 ± 0.9``, ``+1.2 ± 3.0, unpaired``, or the reason why there is none, or nothing."""
        if (gap := self.difference) is not None:
            return f"{gap}{'' if gap.paired or gap.low is None else ', unpaired'}"
        reasons = self.cells[1].incomparable if len(self.cells) == 2 else ()
        return f"incomparable ({brief(reasons)})" if reasons else ""

    @property
    def finding(self) -> Finding:
        """What the test of two models says."""
        return self.difference.finding if self.difference else Finding.UNTESTED

    @property
    def verdict(self) -> str:
        """What the test of two models says, in words, with ▲ or ▼ where one is better."""
        return f"{self.difference.mark} {self.difference.verdict}".strip() if self.difference else ""

    @property
    def gain(self) -> float:
        """How far the first of two models is ahead, in points, whatever the metric's direction; −inf where unknown."""
        if self.difference is None:
            return -math.inf
        return self.difference.value if self.info.higher_is_better else -self.difference.value


@dataclass(frozen=True, slots=True)
class Comparison:
    """The table: a row per task (and metric), a cell per model. left_out: Records that lost against another.

    evidence: what the differences were tested on.
    """

    models: tuple[str, ...]
    rows: tuple[Row, ...]
    left_out: tuple[str, ...] = ()
    evidence: Evidence = field(default_factory=Evidence, compare=False)


def compare(
    records: Iterable[Record],
    *,
    models: Sequence[str] = (),
    all_metrics: bool = False,
    evidence: Evidence | None = None,
) -> Comparison:
    """Return the table of Records: tasks by kind, models in the order given or found, the primary metric of each task.

    The primary metric is that of the first model that ran the task. all_metrics: a row for every metric. evidence:
    the samples, for paired differences; by default those of records where they are a RecordSet, else none.
    """
    if evidence is None:
        evidence = Evidence(records) if isinstance(records, RecordSet) else Evidence()
    chosen, left_out = choose(records)
    names = _names(chosen, models)
    by_key = {(r.model, r.task): r for r in chosen if r.model in names}
    tasks = dict.fromkeys(r.task for r in sorted(by_key.values(), key=lambda r: find(r.evaluator).shown.order))
    rows = [
        row
        for task in tasks
        for row in _rows([by_key.get((name, task)) for name in names], all_metrics=all_metrics, evidence=evidence)
    ]
    return Comparison(names, tuple(_with_findings(rows)), left_out, evidence)


def ranked(comparison: Comparison) -> Comparison:
    """Return the table of two models with the tasks of each kind from the first's largest lead to its largest lag."""
    kinds = list(dict.fromkeys(row.evaluator for row in comparison.rows))
    lead = {row.task: row.gain for row in comparison.rows if row.primary}
    order = sorted(
        comparison.rows, key=lambda row: (kinds.index(row.evaluator), -lead.get(row.task, -math.inf), row.task)
    )
    return replace(comparison, rows=tuple(order))


def _names(chosen: Sequence[Record], models: Sequence[str]) -> tuple[str, ...]:
    known = tuple(dict.fromkeys(r.model for r in chosen))
    for name in models:
        if name not in known:
            raise UnknownNameError("model", name, known)
    return tuple(models) or known


def in_order(names: Iterable[str]) -> list[str]:
    """Return kinds of tasks in the order in which they are shown; those of one place stay as they come."""
    return sorted(names, key=lambda name: find(name).shown.order)


def _rows(found: Sequence[Record | None], *, all_metrics: bool, evidence: Evidence) -> Iterator[Row]:
    """Yield the rows of one task; found has a Record, or None, per model."""
    present = [r for r in found if r]
    primary = present[0].primary
    others = (name for r in present for name in (*r.metrics, *r.skipped_metrics)) if all_metrics else ()
    for metric in dict.fromkeys([primary, *others]):
        yield _row(metric, found, evidence)


def _row(metric: str, found: Sequence[Record | None], evidence: Evidence) -> Row:
    present = [r for r in found if r]
    first = present[0]
    info = next((r.definitions[metric] for r in present if metric in r.definitions), None) or MetricInfo(
        unit="fraction", higher_is_better=True, summary="not measured"
    )
    cells = [_cell(r, metric, info, first) for r in found]
    if info.kind == "quality" and not any(cell.incomparable for cell in cells):
        cells = _mark_best(cells, info)
    gaps = tuple(
        tested(first, r, metric, info, evidence)
        if r and r is not first and found[0] is first and cell.estimate and cells[0].estimate and not cell.incomparable
        else None
        for r, cell in zip(found, cells, strict=True)
    )
    return Row(
        first.task, metric, info, tuple(cells), gaps, first.evaluator, first.groups, primary=metric == first.primary
    )


def _cell(record: Record | None, metric: str, info: MetricInfo, first: Record) -> Cell:
    if record is None:
        return Cell("no result")
    reasons = () if record is first else incomparable(first, record, metric)
    if (estimate := record.metrics.get(metric)) is not None:
        unknown = () if record is first or reasons else unknown_parts(first, record, metric)
        said = tuple(note.text for note in (*notes(record), *unknown))
        return Cell(number(estimate, info), estimate, notes=said, incomparable=reasons, record=record)
    why = record.skipped_metrics.get(metric)
    return Cell("skipped" if why else "not measured", notes=(f"{metric} skipped: {why}",) if why else ())


def _mark_best(cells: Sequence[Cell], info: MetricInfo) -> list[Cell]:
    """Mark every cell that prints the best value: a difference that the table does not show is no win."""
    values = {
        i: round(points(c.estimate.value, info), 1)
        for i, c in enumerate(cells)
        if c.estimate and c.estimate.value is not None
    }
    if len(values) < 2:
        return list(cells)
    best = (max if info.higher_is_better else min)(values.values())
    return [replace(cell, best=values.get(i) == best) for i, cell in enumerate(cells)]


def _with_findings(rows: Sequence[Row]) -> Iterator[Row]:
    """Yield the rows with their findings: those of the primary metrics hold together, over all models; others alone."""
    family = iter(corrected([(gap, row.info) for row in rows if row.primary for gap in row.differences if gap]))
    for row in rows:
        gaps = [gap and (next(family) if row.primary else judged(gap, row.info)) for gap in row.differences]
        yield replace(row, differences=tuple(gaps))
