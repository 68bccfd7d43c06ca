"""Tables of models: a row per task and metric, a cell per model, and the differences from the first model.

A difference is first minus second. If both have samples, it is paired: the outcomes of both models on the same images.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd

from cocabench.core.errors import UnknownNameError, UnpairedError, UsageError
from cocabench.core.formatting import number, plural, points, printed
from cocabench.core.types import Estimate, MetricInfo, Record
from cocabench.kinds import find
from cocabench.metrics.power import POWER
from cocabench.results.difference import (
    LEVEL,
    Difference,
    Evidence,
    Finding,
    difference,
    in_points,
    with_finding,
    with_findings,
)
from cocabench.results.records import (
    choose,
    comparable,
    first_reasons,
    incomparable,
    measured_otherwise,
    notes,
    published_by,
    read,
    set_of,
    unknown_parts,
)
from cocabench.results.store import RecordSet

INTERVALS = "± is half the width of the 95 % interval over images, rounded up; n is the number of images."
TIMES_100 = " Scores are multiplied by 100."
MEANS = "Means over tasks: an image that several tasks share counts once; p is not corrected for several means."


@dataclass(frozen=True, slots=True)
class Cell:
    """One model on one task and metric. text: the number as printed, or why there is none (estimate is None).

    best: no other model of the row prints a better value, and all of them are comparable. notes: footnotes.
    incomparable: why the number cannot be compared with the first model's.
    """

    text: str
    estimate: Estimate | None = None
    best: bool = False
    notes: tuple[str, ...] = ()
    incomparable: tuple[str, ...] = ()

    @property
    def all_notes(self) -> tuple[str, ...]:
        """The notes, and the reason why it cannot be compared with the first model's."""
        if not self.incomparable:
            return self.notes
        return (*self.notes, f"not comparable with the first model: {first_reasons(self.incomparable)}")


@dataclass(frozen=True, slots=True)
class Row:
    """One task and metric: a cell per model, and the difference of the first from each.

    differences: one per cell, first minus that cell's model; None for the first and if there is none. primary: whether
    the metric is the task's primary one. evaluator, groups: the task's.
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
        return f"incomparable ({first_reasons(reasons)})" if reasons else ""

    @property
    def finding(self) -> Finding:
        """The result of testing two models."""
        return self.difference.finding if self.difference else Finding.UNTESTED

    @property
    def verdict(self) -> str:
        """The result of testing two models as text, with ▲ or ▼ if one is better."""
        return f"{self.difference.mark} {self.difference.verdict}".strip() if self.difference else ""


@dataclass(frozen=True, slots=True)
class Comparison:
    """A table: a row per task (and metric), a cell per model. left_out: what is not in it, in words.

    records: by model and task. evidence: their samples, on which the differences were tested.
    """

    models: tuple[str, ...]
    rows: tuple[Row, ...]
    left_out: tuple[str, ...] = ()
    records: Mapping[tuple[str, str], Record] = field(default_factory=dict)
    evidence: Evidence = field(default_factory=Evidence, compare=False)


def compare_models(
    records: Iterable[Record],
    *,
    models: Sequence[str] = (),
    all_metrics: bool = False,
    evidence: Evidence | None = None,
) -> Comparison:
    """Return the table of Records: tasks by kind, models in the order given or found, the primary metric of each task.

    The primary metric is that of the first model that ran the task. all_metrics: a row for every metric. evidence: the
    samples, for paired differences; by default those of records if they are a RecordSet, else none.
    Of several Records of a model and task one is taken (``choose``), for the given models a comparable one.
    UnknownNameError for a model that has no Record.
    """
    if evidence is None:
        evidence = Evidence(records) if isinstance(records, RecordSet) else Evidence()
    chosen, left_out = choose(records, models)
    known = tuple(dict.fromkeys(r.model for r in chosen))
    for name in models:
        if name not in known:
            raise UnknownNameError("model", name, known)
    names = tuple(models) or known
    tables = [{r.task: r for r in chosen if r.model == name} for name in names]
    rows = _rows(tables, _tasks(r for r in chosen if r.model in names), all_metrics, evidence)
    return Comparison(names, rows, left_out, {(r.model, r.task): r for r in chosen}, evidence)


def of_measured(comparison: Comparison) -> Comparison:
    """Return the table without the tasks that only published models have; all of it if no model was measured."""
    measured = {task for (_, task), record in comparison.records.items() if not published_by(record)}
    rows = tuple(row for row in comparison.rows if row.task in measured)
    if not rows or len(rows) == len(comparison.rows):
        return comparison
    others = len({row.task for row in comparison.rows} - measured)
    left_out = f"{plural(others, 'published task')} that no model here was measured on"
    return replace(comparison, rows=rows, left_out=(*comparison.left_out, left_out))


def compare(a: RecordSet | str | Path, b: RecordSet | str | Path, *, all_metrics: bool = False) -> pd.DataFrame:
    """Compare two models: return a frame with a row per task and metric, with paired tests if both have samples.

    a, b: Results of one model each, from ``evaluate`` or ``load`` (of several models: ``results.model(NAME)``), a
    results folder, a Record's file, or ``published:NAME:TAG``. all_metrics: every metric, not each task's primary one.

    Columns, on the metric's own scale (fractions 0-1): task, metric, value_a, value_b; difference: a minus b, low,
    high: its 95 % interval; p_value: two-sided; p_adjusted: corrected for all primary metrics together (Holm);
    detectable: the smallest true difference that such a test finds in 80 of 100 cases; better: "a", "b", or "" if the
    difference is not significant or not tested; n: number of images; changed: number of images on which the two
    differ; paired: whether the test is; notes, among them why there is no difference. Unknown numbers are NaN.

    Raises UsageError if a side has several models, ResultsError if it cannot be read.

    >>> import cocabench
    >>> results = cocabench.load("results/baselines")
    >>> found = cocabench.compare(results.model("demo/coca"), results.model("demo/clip"))
    >>> found.loc[found["task"] == "emoji_flags", ["value_a", "value_b", "changed", "better"]].round(3).values.tolist()
    [[0.841, 0.867, 31.0, '']]
    """
    sides = [_one_model(side, f"compare: {name}") for name, side in (("a", a), ("b", b))]
    chosen = [choose(_comparable(*pair)).records for pair in (sides, sides[::-1])]
    tables = [{r.task: r for r in records} for records in chosen]
    rows = _rows(tables, _tasks(r for records in chosen for r in records), all_metrics, Evidence(*sides))
    return pd.DataFrame([_flat(row) for row in rows], columns=COLUMNS)


COLUMNS = (
    *("task", "metric", "value_a", "value_b", "difference", "low", "high", "p_value", "p_adjusted", "detectable"),
    *("better", "n", "changed", "paired", "notes"),
)


def _one_model(side: RecordSet | str | Path, where: str) -> RecordSet:
    found = side if isinstance(side, RecordSet) else read(side)
    names = list(dict.fromkeys(record.model for record in found))
    if len(names) != 1:
        got = f"{len(names)} models ({', '.join(names[:3])}{' …' if len(names) > 3 else ''})" if names else "no results"
        raise UsageError(where, got, wanted="one model", fix="choose it: cocabench.load(FOLDER).model(NAME)")
    return found


def _comparable(side: RecordSet, other: RecordSet) -> Iterator[Record]:
    """Yield the Records of a side; of several of a task those that are comparable with one of the other's, if any."""
    for task in dict.fromkeys(r.task for r in side):
        yield from comparable([r for r in side if r.task == task], [r for r in other if r.task == task])


def _flat(row: Row) -> dict[str, object]:
    """Return a row of two models with the values of COLUMNS, on the metric's own scale."""
    (one, other), gap, unit = row.cells, row.difference or Difference(math.nan), points(1.0, row.info)
    values = {name: c.estimate.value if c.estimate else None for name, c in (("value_a", one), ("value_b", other))}
    in_points = {"difference": gap.value, "low": gap.low, "high": gap.high, "detectable": gap.detectable}
    scaled = {name: None if value is None else value / unit for name, value in in_points.items()}
    numbers = {**values, **scaled, "p_value": gap.p_value, "p_adjusted": gap.adjusted, "changed": gap.changed}
    absent = [f"{name}: {cell.text}" for name, cell in zip("ab", row.cells, strict=True) if cell.estimate is None]
    texts = [*absent, *one.notes, *other.all_notes, *([f"unpaired: {gap.unpaired}"] if gap.unpaired else [])]
    return {
        "task": row.task,
        "metric": row.metric,
        **{name: math.nan if value is None else value for name, value in numbers.items()},
        "better": {Finding.FIRST: "a", Finding.SECOND: "b"}.get(gap.finding, ""),
        "n": max((cell.estimate.n for cell in row.cells if cell.estimate), default=0),
        "paired": row.difference is not None and gap.paired,
        "notes": "; ".join(dict.fromkeys(texts)),
    }


def _tasks(records: Iterable[Record]) -> list[str]:
    """Return the tasks of Records by kind, else in the order of their first appearance."""
    ordered = sorted(records, key=lambda record: find(record.evaluator).shown.order)
    return list(dict.fromkeys(record.task for record in ordered))


def _rows(
    tables: Sequence[Mapping[str, Record]], tasks: Iterable[str], all_metrics: bool, evidence: Evidence
) -> tuple[Row, ...]:
    """Return the rows of tasks; tables: {task: Record} per model. The findings of primary metrics hold together.

    The languages of a set are a family of their own, so that many languages do not hide what other tasks show.
    """
    found = [[table.get(task) for table in tables] for task in tasks]
    rows = [row for records in found for row in _rows_of_task(records, all_metrics, evidence)]
    sets = {record.task: set_of(record) for table in tables for record in table.values()}
    families = {
        name: iter(with_findings([(gap, row.info) for row in own for gap in row.differences if gap]))
        for name in set(sets.values())
        for own in [[row for row in rows if row.primary and sets[row.task] == name]]
    }
    tested = []
    for row in rows:
        family = families[sets[row.task]]
        gaps = [gap and (next(family) if row.primary else with_finding(gap, row.info)) for gap in row.differences]
        tested.append(replace(row, differences=tuple(gaps)))
    return tuple(tested)


def _rows_of_task(found: Sequence[Record | None], all_metrics: bool, evidence: Evidence) -> Iterator[Row]:
    """Yield the rows of one task; found has a Record, or None, per model."""
    present = [r for r in found if r]
    others = (name for r in present for name in (*r.metrics, *r.skipped_metrics)) if all_metrics else ()
    for metric in dict.fromkeys([present[0].primary, *others]):
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
        difference(first, r, metric, info, evidence)
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
        otherwise = () if record is first else measured_otherwise(first, record)
        texts = tuple(note.text for note in (*notes(record), *unknown, *otherwise))
        return Cell(number(estimate, info), estimate, notes=texts, incomparable=reasons)
    why = record.skipped_metrics.get(metric)
    return Cell("skipped" if why else "not measured", notes=(f"{metric} skipped: {why}",) if why else ())


def _mark_best(cells: Sequence[Cell], info: MetricInfo) -> list[Cell]:
    """Mark every cell that prints the best value; equal printed values are all best."""
    values = {
        i: printed(c.estimate.value, info) for i, c in enumerate(cells) if c.estimate and c.estimate.value is not None
    }
    if len(values) < 2:
        return list(cells)
    best = (max if info.higher_is_better else min)(values.values(), key=float)
    return [replace(cell, best=values.get(i) == best) for i, cell in enumerate(cells)]


def ranked(comparison: Comparison) -> Comparison:
    """Sort a table of two models: within each kind, from the first model's largest lead to its largest lag."""
    kinds = list(dict.fromkeys(row.evaluator for row in comparison.rows))
    lags = {
        row.task: -row.difference.value if row.info.higher_is_better else row.difference.value
        for row in comparison.rows
        if row.primary and row.difference
    }

    def place(row: Row) -> tuple[int, float, str]:
        return kinds.index(row.evaluator), lags.get(row.task, math.inf), row.task

    return replace(comparison, rows=tuple(sorted(comparison.rows, key=place)))


def in_order(names: Iterable[str]) -> list[str]:
    """Return kinds of tasks in the order in which they are shown."""
    return sorted(names, key=lambda name: find(name).shown.order)


@dataclass(frozen=True, slots=True)
class Tally:
    """Wins and losses of the first model against another on the tasks of one kind, by their primary metrics.

    wins, losses: tasks with a significant difference, for and against the first. ties: without one. untested: tasks
    without a test (one has no result, protocols differ, no interval is known).
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


def tallies(comparison: Comparison) -> tuple[Tally, ...]:
    """Return a Tally per kind of task and model after the first. The languages of a set count in none."""
    rows = [row for row in comparison.rows if row.primary and not set_of_row(comparison, row)]
    found = []
    for kind in dict.fromkeys(row.evaluator for row in rows):
        for i, other in enumerate(comparison.models[1:], 1):
            gaps = [row.differences[i] for row in rows if row.evaluator == kind]
            count = Counter(gap.finding if gap else Finding.UNTESTED for gap in gaps)
            findings = (Finding.FIRST, Finding.NOTHING, Finding.SECOND, Finding.UNTESTED)
            found.append(Tally(kind, comparison.models[0], other, *(count[finding] for finding in findings)))
    return tuple(found)


def set_of_row(comparison: Comparison, row: Row) -> str:
    """Return the set that a row's task is one language of, '' if none."""
    found = (comparison.records.get((model, row.task)) for model in comparison.models)
    return next((name for record in found if record and (name := set_of(record))), "")


@dataclass(frozen=True, slots=True)
class Average:
    """The mean of the primary metrics of a group's tasks, in points, over the tasks that all models have.

    values: one per model. differences: first minus each, None for the first, tested if it is known which images the
    tasks share; their findings are not corrected for several means.
    """

    group: str
    tasks: tuple[str, ...]
    values: tuple[float, ...]
    differences: tuple[Difference | None, ...]


def averages(comparison: Comparison, *, tested: bool = True) -> tuple[Average, ...]:
    """Return an Average per kind of task and per group with two tasks or more; groups of the same tasks are one.

    The languages of a set count in the mean of their set alone.
    tested: whether to test the models' differences from the first; without, there are none.
    """
    members: dict[str, list[Row]] = {}
    for row in comparison.rows:
        if row.primary and all(c.estimate and c.estimate.value is not None and not c.incomparable for c in row.cells):
            of_set = set_of_row(comparison, row)
            for name in [of_set] if of_set else dict.fromkeys((row.evaluator, *row.groups)):
                members.setdefault(name, []).append(row)
    found: dict[tuple[str, ...], Average] = {}
    for name, rows in members.items():
        tasks = tuple(row.task for row in rows)
        if len(rows) > 1 and tasks not in found and len({(r.info.unit, r.info.higher_is_better) for r in rows}) == 1:
            values = ([points(c.estimate.value or 0.0, row.info) for c in row.cells if c.estimate] for row in rows)
            found[tasks] = Average(
                name,
                tasks,
                tuple(math.fsum(column) / len(rows) for column in zip(*values, strict=True)),
                tuple(_mean(comparison, rows, i) if tested else None for i in range(len(comparison.models))),
            )
    return tuple(found.values())


def _mean(comparison: Comparison, rows: Sequence[Row], model: int) -> Difference | None:
    """Return the mean of a model's differences, tested where it is known which images the tasks share."""
    gaps = [gap for row in rows if (gap := row.differences[model])]
    if len(gaps) < len(rows):
        return None
    first, other = comparison.models[0], comparison.models[model]
    records, unpaired = comparison.records, next((gap.unpaired for gap in gaps if gap.unpaired), "")
    pairs = [(records[first, row.task], records[other, row.task], row.metric) for row in rows]
    try:
        found = None if unpaired else comparison.evidence.mean(pairs)
    except UnpairedError as reason:
        found, unpaired = None, str(reason)
    if found is None:
        return Difference(math.fsum(gap.value for gap in gaps) / len(gaps), unpaired=unpaired, places=gaps[0].places)
    return with_finding(in_points(found, rows[0].info, places=gaps[0].places), rows[0].info)


def legend(comparison: Comparison) -> tuple[str, ...]:
    """Return the sentences below a table: what ± is, what the kinds' intervals hold fixed, what a finding means."""
    times_100 = any(row.info.unit in ("fraction", "score") for row in comparison.rows)
    kinds = of_kinds(row.evaluator for row in comparison.rows)
    return (INTERVALS + (TIMES_100 if times_100 else ""), *kinds, *_legend_of_tests(comparison))


def of_kinds(names: Iterable[str]) -> list[str]:
    """Return the sentences below a table with tasks of these kinds."""
    return [sentence for name in in_order(dict.fromkeys(names)) for sentence in find(name).shown.legend]


def _legend_of_tests(comparison: Comparison) -> list[str]:
    rows = comparison.rows
    gaps = [(row.primary, gap) for row in rows for gap in row.differences if gap]
    gaps.sort(key=lambda pair: not pair[0])
    if not any(gap.p_value is not None for _, gap in gaps):
        return []
    tested = [row for row in rows if row.primary for gap in row.differences if gap and gap.adjusted is not None]
    families = Counter(set_of_row(comparison, row) for row in tested)
    family = families[""] or max(families.values(), default=0)
    corrected = f", Holm-corrected for {family} primary differences" if family > 1 else ""
    corrected += ", and for the languages of each set" if corrected and len(families) > 1 else ""
    secondary = not all(primary for primary, _ in gaps)
    others = ("; other metrics not corrected" if corrected else ", not corrected") if secondary else ""
    sentences = [f"Better: p < {LEVEL:g}, two-sided{corrected}{others}."]
    if any(gap.detectable is not None for _, gap in gaps):
        power = f"{100 * POWER:.0f} of 100"
        sentences.append(f"“detects x or more”: the test finds a true difference of x points in {power} cases.")
    if reasons := list(dict.fromkeys(gap.unpaired for _, gap in gaps if gap.unpaired)):
        sentences.append(f"Unpaired intervals are wider than paired ones ({first_reasons(reasons, 1)}).")
    return sentences
