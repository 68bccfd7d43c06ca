"""Tables over all tasks: the leaderboard, every task, means, the best checkpoints, and many models as a heat map."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from cocabench.core.formatting import decimals, plural
from cocabench.core.types import Estimate, MetricInfo
from cocabench.kinds import find, in_words
from cocabench.report.charts import Point
from cocabench.report.content import Report
from cocabench.report.differences import BEST, Differences, Subject
from cocabench.report.grid import Entry, Line, Table, of_cell, of_estimate
from cocabench.report.style import Axis, linear
from cocabench.results.compare import Average, Row, averages, legend
from cocabench.results.epochs import Best, best_epochs
from cocabench.results.groups import GroupMean, estimate_of, group_means
from cocabench.specs.groups import Member
from cocabench.specs.groups import datacomp as members

MAX_MODELS_WITHOUT_HEAT = 12
"""With more models, a heat map shows all tasks, and the leaderboard the kinds alone."""

MAX_TASKS_OF_A_KIND = 3
"""A kind whose tasks have no mean has a column for each of this many tasks."""


class Column(NamedTuple):
    """A column of the leaderboard. task: whether it is shown with all tasks, else with the kinds. axis: of marks."""

    subject: Subject
    title: str
    about: str
    task: bool
    axis: Axis


class Standing(NamedTuple):
    """A row of the leaderboard. unbeaten: on how many tasks no model is significantly better, and how many are tested.

    cells: the number in each column, None without one. cost: millions of parameters, None if unknown.
    """

    model: str
    unbeaten: tuple[int, int]
    cells: tuple[Point | None, ...]
    cost: float | None


class Leaderboard(NamedTuple):
    """rows: the page's models, best first. apart: published models beside them. tasks: the number of tasks."""

    columns: tuple[Column, ...]
    rows: tuple[Standing, ...]
    apart: tuple[Standing, ...]
    tasks: int

    @property
    def tested(self) -> bool:
        return any(row.unbeaten[1] for row in self.rows)


def leaderboard(report: Report, found: Differences, params: dict[str, float | None]) -> Leaderboard:
    """Return the leaderboard. params: {model: millions of parameters}."""
    columns = tuple(_columns(report, found))
    rows = tuple(_standing(found, columns, model, params) for model in found.order(report.models))
    apart = tuple(_apart(report, columns, model, params) for model in report.apart)
    return Leaderboard(columns, rows, apart, len(found.tasks))


def _columns(report: Report, found: Differences) -> Iterator[Column]:
    for area in report.areas:
        subject, tasks = found.of(area), found.in_area(area)
        if subject and subject.mean:
            yield _column(subject, area.title, f"mean {subject.metric}, {len(subject.rows)} tasks", task=False)
        for own in tasks[:MAX_TASKS_OF_A_KIND] if not (subject and subject.mean) else ():
            about = own.metric if len(tasks) == 1 else f"{own.label}, {own.metric}"
            yield _column(own, area.title, about, task=False)
    if len(report.models) <= MAX_MODELS_WITHOUT_HEAT:
        for subject in found.tasks:
            yield _column(subject, subject.label, subject.metric, task=True)


def _column(subject: Subject, title: str, about: str, *, task: bool) -> Column:
    values = [x for score in subject.scores.values() for x in score if x is not None]
    return Column(subject, title, about, task, linear(values))


def _standing(found: Differences, columns: Sequence[Column], model: str, params: dict[str, float | None]) -> Standing:
    subjects = [column.subject for column in columns]
    cells = (Point(model, s.scores[model], s.status(model)) if model in s.scores else None for s in subjects)
    return Standing(model, found.unbeaten(model), tuple(cells), params.get(model))


def _apart(report: Report, columns: Sequence[Column], model: str, params: dict[str, float | None]) -> Standing:
    """Return the row of a published model: its numbers on single tasks; of means it has none."""
    cells = []
    for column in columns:
        single = column.subject.rows[0] if len(column.subject.rows) == 1 else None
        score = report.score(single, model) if single else None
        cells.append(Point(model, score) if score else None)
    return Standing(model, (0, 0), tuple(cells), params.get(model))


class Shade(NamedTuple):
    """A cell of the heat map: the number, and 0 for the worst to 9 for the best of its task; -1 without a number."""

    text: str
    step: int


NO_NUMBER = Shade("–", -1)


class Heat(NamedTuple):
    columns: tuple[Subject, ...]
    rows: tuple[tuple[str, tuple[Shade, ...]], ...]


def heat(report: Report, found: Differences) -> Heat | None:
    """Return all models on all tasks, in the leaderboard's order; None for few models."""
    if len(report.models) <= MAX_MODELS_WITHOUT_HEAT or len(found.tasks) < 2:
        return None
    columns = [_shades(subject) for subject in found.tasks]
    rows = ((m, tuple(shades.get(m, NO_NUMBER) for shades in columns)) for m in found.order(report.models))
    return Heat(found.tasks, tuple(rows))


def _shades(subject: Subject) -> dict[str, Shade]:
    values = {model: score.value for model, score in subject.scores.items()}
    low, high = min(values.values(), default=0.0), max(values.values(), default=0.0)
    return {model: shade(value, low, high, subject.info) for model, value in values.items()}


def shade(value: float | None, low: float, high: float, info: MetricInfo) -> Shade:
    """Return the cell of a value (in points) among values from low to high; None: there is none."""
    if value is None:
        return NO_NUMBER
    share = (value - low) / (high - low) if high > low else 0.5
    share = share if info.higher_is_better else 1 - share
    return Shade(f"{value:.{max(0, decimals(value, info) - 1)}f}", min(9, int(10 * share)))


# The same as tables for files.


def standings(report: Report, board: Leaderboard) -> Table:
    """Return a row per model, best first, with the scores of the kinds."""
    columns = [(i, column) for i, column in enumerate(board.columns) if not column.task]
    lines = []
    for row in (*board.rows, *board.apart):
        k, n = row.unbeaten
        cells = (_entry(row.cells[i]) for i, _ in columns)
        unbeaten = Entry(f"{k} of {n}", value=k) if n else Entry("–")
        part = "published, not compared" if row in board.apart else ""
        lines.append(Line((Entry(row.model, model=row.model), unbeaten, *cells), part=part))
    return Table(
        name="standings",
        caption="Leaderboard: the score of each kind of task, and the tasks on which no model is significantly better",
        columns=("model", "unbeaten on", *(f"{column.title}: {column.about}" for _, column in columns)),
        lines=tuple(lines),
        about="± is the larger half of a 95 % interval over images; in means, an image that several tasks share counts "
        "once. Bold: significantly better than every other model.",
    )


def _entry(point: Point | None) -> Entry:
    return Entry("–") if point is None else Entry(point.text, point.half, point.score.value, best=point.status == BEST)


def tasks(report: Report) -> Table:
    """Return a row per task: every model's primary metric, and for two models the difference."""
    two = len(report.comparison.models) == 2
    return Table(
        name="results",
        caption="All tasks: primary metric with 95 % intervals over images",
        columns=("task", "metric", *report.comparison.models, *(("difference", "finding") if two else ())),
        lines=tuple(_task(row, two=two) for row in report.comparison.rows),
        heads=2,
        about=" ".join(legend(report.comparison)),
    )


def _task(row: Row, *, two: bool) -> Line:
    cells = (of_cell(cell, row.info, apart=not two) for cell in row.cells)
    gap = (_difference(row), Entry(row.verdict)) if two else ()
    return Line((Entry(row.task), Entry(row.metric), *cells, *gap), part=find(row.evaluator).title())


def _difference(row: Row) -> Entry:
    text, _, spread = row.difference_text.partition(" ± ")
    return Entry(text, f"± {spread}" if spread else "", row.difference.value if row.difference else None)


def means(report: Report) -> Table | None:
    """Return means over kinds of task and over groups, with the tested difference for two models."""
    two = len(report.comparison.models) == 2
    found = averages(report.comparison, tested=two)
    if not found:
        return None
    return Table(
        name="means",
        caption="Means over groups of tasks",
        columns=("group", "tasks", *report.comparison.models, *(("difference", "finding") if two else ())),
        lines=tuple(_average(average, two=two) for average in found),
        about="Means are over the tasks that all models have run under one protocol. An image that several tasks share "
        "counts once; findings are not corrected for testing several groups.",
    )


def _average(average: Average, *, two: bool) -> Line:
    top = max(round(value, 1) for value in average.values)
    values = [Entry(f"{v:.1f}", value=v, best=round(v, 1) == top) for v in average.values]
    gap = average.differences[1] if two else None
    text, _, spread = str(gap or "").partition(" ± ")
    tail = (Entry(text, f"± {spread}" if spread else "", gap.value), Entry(f"{gap.mark} {gap.verdict}")) if gap else ()
    count = Entry(str(len(average.tasks)), value=len(average.tasks))
    return Line((Entry(in_words(average.group)), count, *values, *tail))


def datacomp(report: Report) -> Table | None:
    """Return DataComp's table: its main metric of each task, then its means; None before half of one is measured."""
    found = group_means(report.records)
    models = [m for m in report.comparison.models if any(2 * x.n > x.of for own in found.values() if (x := own.get(m)))]
    if not models:
        return None
    records = {m: {r.task: r for r in report.records if r.model == m} for m in models}
    counted = [member for member in members() if member.metric]
    lines = [_member(one, [estimate_of(records[m], one) for m in models]) for one in counted]
    for name, own in found.items():
        entries = (_group_mean(own.get(m)) for m in models)
        lines.append(Line((Entry(name), Entry("mean"), Entry(""), *entries), part="Means"))
    return Table(
        name="datacomp",
        caption="DataComp's evaluation sets: the main metric of each, and its means",
        columns=("task", "main metric", "by chance", *models),
        lines=tuple(lines),
        heads=2,
        about="Main metrics are DataComp's, and may be others than the tasks' primary ones. A mean stands where all of "
        "its tasks are measured; ± by the intervals of the tasks.",
    )


def _member(member: Member, estimates: Sequence[Estimate | None]) -> Line:
    chance = Entry("–") if member.random is None else Entry(f"{100 * member.random:.1f}", value=100 * member.random)
    info = find(member.kind).metric(member.metric)
    cells = (Entry("–") if e is None or info is None else of_estimate(e, info.info) for e in estimates)
    return Line((Entry(member.title), Entry(member.metric), chance, *cells), part="Tasks")


def _group_mean(mean: GroupMean | None) -> Entry:
    if mean is None or mean.value is None:
        return Entry("–" if mean is None else mean.text)
    text, _, width = mean.text.partition(" ")
    notes = (f"not on the standard data: {', '.join(mean.other)}",) if mean.other else ()
    return Entry(text, width, round(100 * mean.value, 1), notes=notes)


def best_checkpoints(report: Report) -> Table | None:
    """Return the best epoch of each run and task by the primary metric, with its own interval."""
    primary = {(row.task, row.metric) for row in report.comparison.rows}
    found = [best for best in best_epochs(report.records) if (best.task, best.metric) in primary]
    if not found:
        return None
    return Table(
        name="epochs",
        caption="Best checkpoint of each run",
        columns=("run", "task", "metric", "best", "value", "of"),
        lines=tuple(_checkpoint(item) for item in found),
        heads=3,
        about="The interval does not account for the choice: the best of several checkpoints looks better than it is. "
        "Measure a number for publication on other data.",
        shut=False,
    )


def _checkpoint(item: Best) -> Line:
    unit = item.epoch.unit
    return Line(
        (
            Entry(item.epoch.run),
            Entry(item.task),
            Entry(item.metric),
            Entry(f"{unit} {item.epoch.number}", value=item.epoch.number),
            of_estimate(item.estimate, item.info),
            Entry(plural(item.n_epochs, unit), value=item.n_epochs),
        )
    )
