"""Records side by side: which to take, what may be compared, and the table of tasks and models.

The first model of a comparison is the one asked about: a difference is first minus second. Intervals of differences
are for unpaired samples here, and therefore wider than the truth where both models saw the same images.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from cocabench.errors import UnknownNameError
from cocabench.report.text import half_width, number, plural, points, signed
from cocabench.signature import protocol_differences, short
from cocabench.types import Estimate, MetricInfo, Record

KINDS = ("classification", "retrieval", "captioning")
"""The order of tasks in a table, by evaluator; others follow."""


class Choice(NamedTuple):
    """One Record per model and task, and a phrase for each that was left out."""

    records: tuple[Record, ...]
    left_out: tuple[str, ...]


class Difference(NamedTuple):
    """First minus second, in points; low and high are None where one of the two has no interval."""

    value: float
    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            return signed(self.value)
        return f"{signed(self.value)} ± {half_width(self.value, self.low, self.high):.1f}"


@dataclass(frozen=True, slots=True)
class Cell:
    """One model on one task and metric. estimate is None where the model has no such number; text says it all.

    best: no other model of the row prints a better value, and all of them may be compared. notes: what a reader
    must know beside the number. incomparable: why it cannot be held against the first model's.
    """

    text: str
    estimate: Estimate | None = None
    best: bool = False
    notes: tuple[str, ...] = ()
    incomparable: tuple[str, ...] = ()


def remarks(cell: Cell, *, apart: bool) -> list[str]:
    """Return a cell's notes. apart: with the reason why it cannot be held against the first model's."""
    reasons = [f"not comparable with the first model: {brief(cell.incomparable)}"] if cell.incomparable else []
    return [*cell.notes, *(reasons if apart else [])]


@dataclass(frozen=True, slots=True)
class Row:
    """One task and metric: a cell per model, and for two comparable models their difference."""

    task: str
    metric: str
    info: MetricInfo
    cells: tuple[Cell, ...]
    difference: Difference | None = None

    @property
    def difference_text(self) -> str:
        """``+1.2 ± 0.9``, or the reason why there is none, or nothing."""
        if self.difference is not None:
            return str(self.difference)
        reasons = self.cells[1].incomparable if len(self.cells) == 2 else ()
        return f"incomparable ({brief(reasons)})" if reasons else ""


@dataclass(frozen=True, slots=True)
class Comparison:
    """The table: a row per task (and metric), a cell per model. left_out: Records that lost against another."""

    models: tuple[str, ...]
    rows: tuple[Row, ...]
    left_out: tuple[str, ...] = ()


def published_by(record: Record) -> str:
    """Return the source of a published Record, '' for a measured one."""
    return str(record.signature.protocol.get("published", ""))


def limit(record: Record) -> int | None:
    """Return the number of samples that ``--limit`` left, or None for a full run."""
    value = record.signature.protocol.get("limit")
    return value if isinstance(value, int) else None


def standard(record: Record) -> bool:
    """Return whether the data are those of the standard protocol, as far as the task file says."""
    return record.signature.protocol.get("standard", True) is not False


def notes(record: Record) -> tuple[str, ...]:
    """Return what must stand beside each number of a Record, in words."""
    found = list(record.warnings)
    said = " ".join(found).lower()
    if (n := limit(record)) is not None and "limit" not in said:
        found.append(f"limited to {plural(n, 'sample')}")
    if not standard(record) and "standard" not in said:
        found.append("not the standard protocol")
    if record.skipped_images:
        found.append(f"{plural(len(record.skipped_images), 'image')} skipped, for example {record.skipped_images[0]}")
    return tuple(found)


def choose(records: Iterable[Record]) -> Choice:
    """Return one Record per model and task: full before limited, standard before not, then the newest.

    Models and tasks keep the order of their first appearance.
    """
    groups: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        groups.setdefault((record.model, record.task), []).append(record)
    chosen = [max(group, key=_preference) for group in groups.values()]
    left_out = [
        f"{r.model} on {r.task}: {short(r.signature)} ({_why(r, best)} than {short(best.signature)})"
        for best, group in zip(chosen, groups.values(), strict=True)
        for r in group
        if r is not best
    ]
    return Choice(tuple(chosen), tuple(left_out))


def _preference(record: Record) -> tuple[bool, bool, str]:
    return limit(record) is None, standard(record), record.created


def _why(loser: Record, winner: Record) -> str:
    reasons = ("fewer samples", "further from the standard protocol", "not newer")
    pairs = zip(_preference(loser), _preference(winner), reasons, strict=True)
    return next((reason for a, b, reason in pairs if a != b), reasons[-1])


def incomparable(a: Record, b: Record) -> tuple[str, ...]:
    """Return why the numbers of two Records of one task cannot be compared; empty where they can."""
    sources = published_by(a), published_by(b)
    if sources[0] == sources[1]:
        skipped = [] if a.skipped_images == b.skipped_images else [_skipped(a, b)]
        return (*protocol_differences(a.signature, b.signature), *skipped)
    if all(sources):
        return (f"published by {sources[0]} and by {sources[1]}",)
    return (f"published by {''.join(sources)}, protocol not recorded",)


def _skipped(a: Record, b: Record) -> str:
    return f"skipped images: {len(a.skipped_images)} against {len(b.skipped_images)}, not the same"


def brief(reasons: Sequence[str], shown: int = 2) -> str:
    """Return the first reasons, and how many more there are."""
    more = len(reasons) - shown
    return "; ".join([*reasons[:shown], *([f"{more} more"] if more > 0 else [])])


def difference(a: Estimate, b: Estimate, info: MetricInfo) -> Difference | None:
    """Return a minus b in points, with the 95 % interval of two independent samples; None if one is undefined.

    The interval is Newcombe's "square-and-add" (Statistics in Medicine 17, 1998, method 10): it needs nothing but the
    two intervals, and stays right near 0 and 1.
    """
    if a.value is None or b.value is None:
        return None
    gap = a.value - b.value
    if a.low is None or a.high is None or b.low is None or b.high is None:
        return Difference(points(gap, info))
    low = gap - math.hypot(a.value - a.low, b.high - b.value)
    high = gap + math.hypot(a.high - a.value, b.value - b.low)
    return Difference(points(gap, info), points(low, info), points(high, info))


def compare(records: Iterable[Record], *, models: Sequence[str] = (), all_metrics: bool = False) -> Comparison:
    """Return the table of Records: tasks by kind, models in the order given or found, the primary metric of each task.

    The primary metric is that of the first model that ran the task. all_metrics: a row for every metric.
    """
    chosen, left_out = choose(records)
    known = tuple(dict.fromkeys(r.model for r in chosen))
    for name in models:
        if name not in known:
            raise UnknownNameError("model", name, known)
    names = tuple(models) or known
    by_key = {(r.model, r.task): r for r in chosen if r.model in names}
    tasks = dict.fromkeys(r.task for r in sorted(by_key.values(), key=_kind))
    rows = [
        _row(task, metric, found)
        for task in tasks
        for found in [[by_key.get((name, task)) for name in names]]
        for metric in _metrics([r for r in found if r], all_metrics)
    ]
    return Comparison(names, tuple(rows), left_out)


def _kind(record: Record) -> int:
    return KINDS.index(record.evaluator) if record.evaluator in KINDS else len(KINDS)


def _metrics(found: Sequence[Record], all_metrics: bool) -> list[str]:
    primary = found[0].primary
    if not all_metrics:
        return [primary]
    return list(dict.fromkeys([primary, *(name for r in found for name in (*r.metrics, *r.skipped_metrics))]))


def _row(task: str, metric: str, found: Sequence[Record | None]) -> Row:
    info = next((r.definitions[metric] for r in found if r and metric in r.definitions), None) or MetricInfo(
        unit="fraction", higher_is_better=True, summary="not measured"
    )
    first = next(r for r in found if r is not None)
    cells = [_cell(r, metric, info, first) for r in found]
    comparable = not any(cell.incomparable for cell in cells)
    cells = _mark_best(cells, info) if comparable else cells
    pair = [cell.estimate for cell in cells if cell.estimate]
    gap = difference(pair[0], pair[1], info) if comparable and len(cells) == len(pair) == 2 else None
    return Row(task, metric, info, tuple(cells), gap)


def _cell(record: Record | None, metric: str, info: MetricInfo, first: Record) -> Cell:
    if record is None:
        return Cell("no result")
    reasons = () if record is first else incomparable(first, record)
    if (estimate := record.metrics.get(metric)) is not None:
        return Cell(number(estimate, info), estimate, notes=notes(record), incomparable=reasons)
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
    return [Cell(c.text, c.estimate, values.get(i) == best, c.notes, c.incomparable) for i, c in enumerate(cells)]
