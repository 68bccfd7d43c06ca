"""The sections of a report: of each kind of task its sentence, figures, agreement, errors, tables; costs; epochs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd

from cocabench.core.formatting import points
from cocabench.core.types import Record
from cocabench.kinds import find
from cocabench.kinds.base import Kind
from cocabench.kinds.shown import Curve
from cocabench.report import breakdowns, headline, pictures
from cocabench.report.breakdowns import Agreement, Listing
from cocabench.report.charts import Chart, DotRow, Dots, Line, Point, dot_row, panel
from cocabench.report.content import Area, Report, score_of
from cocabench.report.costs import Cost, front
from cocabench.report.differences import Differences, Subject, metric_label
from cocabench.report.grid import Table
from cocabench.report.headline import Sentence
from cocabench.report.pictures import Strip, Thumbnails
from cocabench.report.style import Score, linear, logarithmic
from cocabench.results.compare import Row
from cocabench.results.epochs import epoch_of, runs

MAX_TASKS_IN_DETAIL = 2
"""Curves, groups and confusions are shown for this many tasks of a kind."""

MAX_ROWS_IN_DOTS, MAX_ROWS_IN_HALF, MAX_AGREEMENTS = 60, 7, 12
MAX_EPOCH_CHARTS = 8
WIDE_RANGE = 10
"""An axis of costs is logarithmic where the largest is so many times the smallest."""


@dataclass(frozen=True)
class Section:
    """The section of a kind of task. agreements: {(model, model): tasks}. hard: images that every model gets wrong."""

    area: Area
    sentence: Sentence
    dots: Dots | None
    curves: tuple[Chart, ...]
    groups: tuple[Dots, ...]
    agreements: Mapping[tuple[str, str], tuple[Agreement, ...]]
    listings: tuple[Listing, ...]
    strips: tuple[Strip, ...]
    hard: Strip | None
    tables: tuple[Table, ...]
    files: Mapping[str, Path | None]

    @property
    def id(self) -> str:
        return slug(self.area.kind)

    @property
    def wide(self) -> Dots | None:
        """The dot plot, if it has so many rows that it stands alone."""
        return self.dots if self.dots and sum(len(p.rows) for p in self.dots.panels) > MAX_ROWS_IN_HALF else None

    @property
    def halves(self) -> tuple[Dots | Chart, ...]:
        """The figures that stand side by side."""
        own = () if self.dots is None or self.wide else (self.dots,)
        return (*own, *self.curves, *self.groups)

    @property
    def legend(self) -> tuple[str, ...]:
        return find(self.area.kind).shown.legend


def slug(name: str) -> str:
    """Return the HTML id of a kind of task: ``kind-linear-probe``."""
    return "kind-" + re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


@dataclass
class _Details:
    """What the samples of a kind's tasks say, task by task."""

    chances: dict[str, float] = field(default_factory=dict)
    curves: list[Chart] = field(default_factory=list)
    groups: dict[str, list[Dots]] = field(default_factory=dict)
    agreements: dict[tuple[str, str], list[Agreement]] = field(default_factory=dict)
    listings: list[Listing] = field(default_factory=list)
    tasks: list[pictures.Task] = field(default_factory=list)
    files: dict[str, Path | None] = field(default_factory=dict)


def section(report: Report, found: Differences, area: Area, tables: Sequence[Table], thumbnails: Thumbnails) -> Section:
    """Return the section of a kind; its cards' pictures are added to the thumbnails."""
    kind, details = find(area.kind), _Details()
    for subject in found.in_area(area):
        _read(report, found, kind, subject, thumbnails, details)
    strips, hard = pictures.strips(kind, details.tasks)
    details.listings.sort(key=lambda item: -item.total)
    listed = _first_of_each(details.listings)
    own = tuple(replace(table, shut=len(area.rows) > 1) for table in tables if table.section == area.kind)
    return Section(
        area=area,
        sentence=headline.section(report, found, area, details.chances),
        dots=_dots(report, found, area, details.chances, has_curves=bool(details.curves)),
        curves=tuple(details.curves),
        groups=tuple(_groups(report, found, area, [item.task for item in listed], details.groups)),
        agreements={pair: tuple(_most_different(tasks)) for pair, tasks in details.agreements.items()},
        listings=tuple(listed),
        strips=tuple(strips),
        hard=hard,
        tables=own,
        files=details.files,
    )


def _groups(
    report: Report, found: Differences, area: Area, listed: Sequence[str], known: Mapping[str, list[Dots]]
) -> Iterator[Dots]:
    """Yield the groups of the tasks that have listings, then of others. known: {task: its groups} of the first ones."""
    detailed = list(dict.fromkeys([*listed, *(task for task, dots in known.items() if dots)]))[:MAX_TASKS_IN_DETAIL]
    for row in area.rows:
        if (task := row.task) in detailed:
            records = _records(report, found, task)
            for dots in known[task] if task in known else _groups_of(report, find(area.kind), task, records):
                several = len(area.rows) > 1
                yield dots._replace(caption=f"{dots.caption}, {report.labels[task]}") if several else dots


def _groups_of(report: Report, kind: type[Kind], task: str, records: Mapping[str, Record]) -> list[Dots]:
    return list(breakdowns.groups(kind, task, {model: report.samples(record) for model, record in records.items()}))


def _first_of_each(listings: Sequence[Listing]) -> list[Listing]:
    """Return the listing with the most images of each title."""
    found: dict[str, Listing] = {}
    for listing in listings:
        found.setdefault(listing.title, listing)
    return list(found.values())


def _most_different(found: Sequence[Agreement]) -> list[Agreement]:
    """Return the tasks, or of many those on which the two models differ most, in page order."""
    if len(found) <= MAX_AGREEMENTS:
        return list(found)

    def share(item: Agreement) -> float:
        return (item.first + item.second) / max(1, item.both + item.first + item.second + item.neither)

    chosen = sorted(found, key=share, reverse=True)[:MAX_AGREEMENTS]
    return [item for item in found if item in chosen]


def _read(
    report: Report, found: Differences, kind: type[Kind], subject: Subject, thumbnails: Thumbnails, details: _Details
) -> None:
    """Add what a task's samples say."""
    task, (row,) = subject.key, subject.rows
    records = _records(report, found, task)
    if not records:
        return
    file = next((file for r in records.values() if (file := report.thumbnails(r))), None)
    samples = {model: report.samples(record) for model, record in records.items()}
    first_record, first = next(iter(records.values())), next(iter(samples.values()))
    protocol, label, pictured = first_record.signature.protocol, report.labels[task], thumbnails.ids(file)
    if (level := kind.chance_level(row.metric, protocol, first)) is not None:
        details.chances[task] = points(level, row.info)
    if len(details.tasks) < MAX_TASKS_IN_DETAIL:
        levels = {
            name: 100 * level
            for curve in kind.shown.breakdowns
            if isinstance(curve, Curve)
            for name in (curve.metric.format(k) for k in curve.ks)
            if (level := kind.chance_level(name, protocol, first)) is not None
        }
        details.curves += breakdowns.curves(kind, task, samples, levels)
        details.curves += breakdowns.trends(kind, task, samples)
        details.curves += breakdowns.reliabilities(kind, task, samples)
    if sum(map(bool, details.groups.values())) < MAX_TASKS_IN_DETAIL:
        details.groups[task] = list(breakdowns.groups(kind, task, samples))
    for pair, agreement in breakdowns.agreements(kind, label, samples).items():
        details.agreements.setdefault(pair, []).append(agreement)
    details.listings += breakdowns.listings(kind, task, samples, pictured)
    pool = _pool(first, pictured)
    some = {
        model: frame[[name in pool for name in breakdowns.texts(frame["image_id"])]] for model, frame in samples.items()
    }
    details.tasks.append(pictures.Task(task, label, some, pictured))
    details.files[task] = file


def _records(report: Report, found: Differences, task: str) -> dict[str, Record]:
    """Return the Records with samples of the models in colour."""
    return {m: r for m in found.shown if (r := report.record(m, task)) and report.has_samples(r)}


def _pool(samples: pd.DataFrame, wanted: frozenset[str]) -> frozenset[str]:
    """Return the images to choose cards from: those with thumbnails if there are any, of many a fixed choice."""
    images = dict.fromkeys(breakdowns.texts(samples["image_id"]))
    chosen = [name for name in images if name in wanted] or images
    return frozenset(sorted(chosen, key=pictures.hashed)[: pictures.POOL_IMAGES])


def add_pictures(sections: Sequence[Section], thumbnails: Thumbnails) -> None:
    """Add the pictures of all cards: what the cards are about, then what models chose, then those of the lists."""
    cards = [(s, card) for s in sections for strip in (*s.strips, *filter(None, [s.hard])) for card in strip.cards]
    for one, card in cards:
        thumbnails.add(one.files.get(card.task), card.picture)
    for turn in range(pictures.MAX_CHOICES):
        for one, card in cards:
            for answer in card.answers:
                for near in answer.near[turn : turn + 1]:
                    thumbnails.add(one.files.get(card.task), near.picture)
    for one in sections:
        for listing in one.listings:
            for item in (item for items in listing.models.values() for item in items):
                for name in item.images:
                    thumbnails.add(one.files.get(listing.task), name)


def _dots(
    report: Report, found: Differences, area: Area, chances: Mapping[str, float], *, has_curves: bool
) -> Dots | None:
    """Return the dot plot of a kind: its tasks by their primary metric, or the metrics of its only task."""
    subjects = found.in_area(area)[:MAX_ROWS_IN_DOTS]
    name, title = f"{slug(area.kind)}", area.title
    if len(subjects) > 1:
        labels = list(dict.fromkeys(subject.metric for subject in subjects))
        rows = [dot_row(s, found.shown, chances.get(s.key), _about(s, len(labels) > 1)) for s in subjects]
        rows.sort(key=lambda row: -max((p.score.value for p in row.points), default=0.0))
        what = labels[0] if len(labels) == 1 else "primary metric"
        return Dots(name, f"{title}: {what} by task", (panel("Task", rows),), _having(found.shown, rows))
    return None if has_curves else _metric_dots(report, found, area, chances)


def _about(subject: Subject, named: bool) -> str:
    n = f"n={subject.n:,}" if subject.n else ""
    return f"{subject.metric}, {n}".strip(", ") if named else n


def _metric_dots(report: Report, found: Differences, area: Area, chances: Mapping[str, float]) -> Dots | None:
    """Return the metrics of a single task, a panel for each unit."""
    (primary,) = area.rows
    rows = [row for row in report.everything.rows if row.task == primary.task and row.info.kind == "quality"]
    panels: dict[str, list[DotRow]] = {}
    for row in sorted(rows, key=lambda row: not row.primary):
        dots = tuple(
            Point(m, score, _status(found, row, m)) for m in found.shown if (score := score_in(report, row, m))
        )
        if dots and row.info.unit in ("fraction", "score", "number", "loss"):
            chance = chances.get(primary.task) if row.primary else None
            panels.setdefault(row.info.unit, []).append(DotRow(metric_label(row), "", dots, chance, title=row.metric))
    made = tuple(panel("Metric" if i == 0 else "", rows) for i, rows in enumerate(panels.values()))
    times = ", times 100" if {"fraction", "score"} & set(panels) else ""
    models = _having(found.shown, [row for part in made for row in part.rows])
    return Dots(slug(area.kind), f"{area.title}: metrics{times}", made, models) if made else None


def _having(models: Sequence[str], rows: Sequence[DotRow]) -> tuple[str, ...]:
    """Return the models that have a number in one of the rows."""
    return tuple(model for model in models if any(row.point(model) for row in rows))


def score_in(report: Report, row: Row, model: str) -> Score | None:
    """Return a model's number in a row of everything."""
    return score_of(row.cells[report.everything.models.index(model)].estimate, row.info)


def _status(found: Differences, row: Row, model: str) -> str:
    return found.by_key[row.task].status(model) if row.primary and row.task in found.by_key else ""


# Costs.


def cost_charts(found: Differences, costs: Sequence[Cost], areas: Sequence[Area]) -> Iterator[Chart]:
    """Yield quality against parameters, or GFLOPs where all are known, for the kinds with a score."""
    spent = {cost.model: cost for cost in costs}
    for area in areas:
        subject = found.of(area)
        if subject is None or not subject.info.higher_is_better:
            continue
        for unit, label in (("total_params", "million parameters"), ("total_gflops", "GFLOPs of an image and a text")):
            xs = {m: x for m in subject.scores if m in spent and (x := getattr(spent[m], unit))}
            if len(set(xs.values())) > 1:
                yield _cost_chart(found, area, subject, xs, label)
                break


def _cost_chart(found: Differences, area: Area, subject: Subject, xs: Mapping[str, float], label: str) -> Chart:
    models = list(xs)
    best = front([(xs[m], subject.scores[m].value) for m in models])
    scale = 1.0
    if label.startswith("GFLOPs") and max(xs.values()) < 1:
        scale, label = 1000.0, f"M{label[1:]}"
    lines = tuple(Line(m, m, ((scale * xs[m], subject.scores[m]),), (0,)) for m in models if m in found.shown)
    others = tuple((scale * xs[m], subject.scores[m].value) for m in models if m not in found.shown)
    values = [scale * x for x in xs.values()]
    x = logarithmic(values) if max(values) > WIDE_RANGE * min(values) else linear(values)
    y = linear([v for score in subject.scores.values() for v in score if v is not None])
    what = f"mean {subject.metric}, {len(subject.rows)} tasks" if subject.mean else subject.metric
    on_front = tuple(models[i] for i in best)
    return Chart(f"cost-{slug(area.kind)}", f"{area.title}: {what}", label, x, y, lines, (), on_front, others)


# Checkpoints.


def epoch_charts(report: Report, found: Differences) -> Iterator[Chart]:
    """Yield a chart per score of which several epochs of a run have numbers: a line per run, the best one ringed."""
    scores = [subject for area in report.areas if (subject := found.of(area))]
    chosen = list(dict.fromkeys([s.key for s in scores] + [s.key for s in found.tasks]))
    made = 0
    for subject in (found.by_key[key] for key in chosen):
        if lines := tuple(_run_lines(report, subject)):
            numbers = [x for line in lines for x, _ in line.points]
            values = [v for line in lines for _, score in line.points for v in score if v is not None]
            x = linear(numbers, zero=False)
            x = x._replace(ticks=tuple(t for t in x.ticks if t == int(t)))
            name = f"epochs-{re.sub(r'[^a-z0-9]+', '-', subject.key.lower())}"
            what = f"{find(subject.kind).title()}: {subject.label}" if subject.mean else subject.label
            yield Chart(name, f"{what}, {subject.metric}", "epoch", x, linear(values), lines)
            made += 1
        if made == MAX_EPOCH_CHARTS:
            return


def _run_lines(report: Report, subject: Subject) -> Iterator[Line]:
    for run, models in runs(report.models).items():
        known = [(point.number, m) for m in models if m in subject.scores and (point := epoch_of(m))]
        if len(known) > 1:
            spots = tuple((float(number), subject.scores[model]) for number, model in known)
            values = [score.value if subject.info.higher_is_better else -score.value for _, score in spots]
            last = known[-1][1]
            label = run.rpartition("/")[2] or run
            yield Line(last, label, spots, tuple(range(len(spots))), values.index(max(values)))
