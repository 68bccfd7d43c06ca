"""Which models differ: every pair on every task, and on the mean of each kind of task, corrected for all of them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import combinations

from cocabench.core.errors import UnpairedError
from cocabench.core.types import MetricInfo
from cocabench.kinds import find
from cocabench.report.content import Area, Report
from cocabench.report.style import MAX_STYLED, Score
from cocabench.results.compare import Row
from cocabench.results.difference import Difference, Finding, difference, in_points, with_findings
from cocabench.results.records import incomparable

MAX_MODELS_IN_ALL_PAIRS = 12
"""Up to this many models, all pairs are tested; beyond, each model with those shown in colour, and with the best of a
task."""

BEST, UNBEATEN, BEATEN, UNTESTED = "best", "unbeaten", "beaten", ""
"""Significantly better than every other model; no model significantly better; one is; no test."""

Pair = tuple[str, str]


@dataclass(frozen=True)
class Subject:
    """What models are compared on: a task, or the mean over tasks of a kind.

    key: the task's name; of a mean ``mean:KIND``. rows: its task, or the tasks of the mean. n: images, 0 if unknown.
    scores: {model: its number, in points}, without models that have none. gaps: {(a, b): a minus b}, in one order.
    """

    key: str
    kind: str
    label: str
    metric: str
    info: MetricInfo
    rows: tuple[Row, ...]
    n: int
    scores: Mapping[str, Score]
    gaps: Mapping[Pair, Difference] = field(default_factory=dict)

    @property
    def mean(self) -> bool:
        return self.key.startswith("mean:")

    def gap(self, model: str, base: str) -> Difference | None:
        """Return model minus base, None if it is not known."""
        return self._both_ways.get((model, base))

    @cached_property
    def _both_ways(self) -> Mapping[Pair, Difference]:
        return {**{(b, a): gap.reversed for (a, b), gap in self.gaps.items()}, **self.gaps}

    def gain(self, model: str, base: str) -> float | None:
        """Return by how much model is better than base, in points; None if it is not known."""
        gap = self.gap(model, base)
        return None if gap is None else gap.value if self.info.higher_is_better else -gap.value

    def finding(self, model: str, base: str) -> Finding | None:
        """Return the finding of model minus base, None if their difference is not known."""
        return gap.finding if (gap := self.gap(model, base)) else None

    def beats(self, model: str, other: str) -> bool:
        """Return whether model is significantly better."""
        return self.finding(model, other) is Finding.FIRST

    def status(self, model: str) -> str:
        """Return BEST, UNBEATEN, BEATEN, or UNTESTED."""
        return self._statuses.get(model, UNTESTED)

    @cached_property
    def _statuses(self) -> Mapping[str, str]:
        return {model: self._status(model) for model in self.scores}

    def _status(self, model: str) -> str:
        others = [other for other in self.scores if other != model]
        findings = [found for other in others if (found := self.finding(model, other)) not in (None, Finding.UNTESTED)]
        if not findings:
            return UNTESTED
        if Finding.SECOND in findings:
            return BEATEN
        return BEST if len(findings) == len(others) and Finding.NOTHING not in findings else UNBEATEN

    def ranking(self) -> list[str]:
        """Return the models with a number, the best first; equal ones in page order."""
        return list(self.places)

    @cached_property
    def places(self) -> Mapping[str, int]:
        """{model: its place in the ranking, from 0}."""
        sign = -1 if self.info.higher_is_better else 1
        ranked = sorted(self.scores, key=lambda model: sign * self.scores[model].value)
        return {model: place for place, model in enumerate(ranked)}


@dataclass(frozen=True)
class Differences:
    """All subjects of a page. tasks: in page order. means: one per kind with several tasks."""

    tasks: tuple[Subject, ...]
    means: tuple[Subject, ...]
    shown: tuple[str, ...]

    @cached_property
    def by_key(self) -> Mapping[str, Subject]:
        return {subject.key: subject for subject in (*self.means, *self.tasks)}

    def of(self, area: Area) -> Subject | None:
        """Return the subject whose number is a kind's score: its mean, or its only shared task."""
        if area.mean:
            return self.by_key[f"mean:{area.kind}"]
        return self.by_key[area.shared[0].task] if area.shared else None

    def in_area(self, area: Area) -> list[Subject]:
        return [subject for subject in self.tasks if subject.kind == area.kind]

    def unbeaten(self, model: str) -> tuple[int, int]:
        """Return on how many tasks no model is significantly better, and how many are tested."""
        return self._unbeaten.get(model, (0, 0))

    @cached_property
    def _unbeaten(self) -> Mapping[str, tuple[int, int]]:
        counted = {}
        for model in dict.fromkeys(model for subject in self.tasks for model in subject.scores):
            found = [status for subject in self.tasks if (status := subject.status(model))]
            counted[model] = sum(status != BEATEN for status in found), len(found)
        return counted

    def order(self, models: Sequence[str]) -> list[str]:
        """Return models by the share of tasks on which they are unbeaten, then by their mean place on all tasks."""

        def key(model: str) -> tuple[float, float]:
            k, n = self.unbeaten(model)
            return (-k / n if n else 0.0, _place(model, self.tasks))

        return sorted(models, key=key)


def differences(report: Report) -> Differences:
    """Return all subjects with their tests; p-values are corrected (Holm) for all tasks, and for all means."""
    tasks = [_task(report, row) for area in report.areas for row in area.rows]
    means = [_mean(report, area) for area in report.areas if area.mean]
    shown = shown_models(report, (*means, *tasks))
    tested, of_means = (tuple(_corrected(_tested(report, subjects, shown))) for subjects in (tasks, means))
    return Differences(tested, of_means, shown)


def shown_models(report: Report, subjects: Sequence[Subject]) -> tuple[str, ...]:
    """Return the models to show in colour, in page order: all, or of many the baseline, the best and the worst."""
    if len(report.models) <= MAX_STYLED:
        return report.models
    ranked = sorted(report.models, key=lambda model: _place(model, subjects))
    best = [subject.ranking()[0] for subject in subjects if subject.mean and subject.scores]
    wanted = [*(m for m in report.models if m in report.baseline), *ranked[:3], ranked[-1], *best, *ranked]
    chosen = list(dict.fromkeys(wanted))[:MAX_STYLED]
    return tuple(model for model in report.models if model in chosen)


def _place(model: str, subjects: Sequence[Subject]) -> float:
    """Return a model's mean place, 0 for the best and 1 for the worst; 1 where it has no number."""
    places = [
        subject.places[model] / max(1, len(subject.scores) - 1) if model in subject.scores else 1.0
        for subject in subjects
        if not subject.mean
    ]
    return math.fsum(places) / len(places) if places else 1.0


def _task(report: Report, row: Row) -> Subject:
    scores = {m: score for m in report.models if (score := report.score(row, m))}
    n = max((e.n for m in scores if (e := report.cell(row, m).estimate)), default=0)
    return Subject(row.task, row.evaluator, report.labels[row.task], metric_label(row), row.info, (row,), n, scores)


def metric_label(row: Row) -> str:
    """Return how a row's metric is called on the page: its declared label, or its name."""
    metric = find(row.evaluator).metric(row.metric)
    return metric.label if metric and metric.label else row.metric


def _mean(report: Report, area: Area) -> Subject:
    rows = area.shared
    labels = list(dict.fromkeys(metric_label(row) for row in rows))
    scores = {model: score for model in area.able if (score := _mean_score(report, rows, model))}
    what = labels[0] if len(labels) == 1 else "primary metrics"
    return Subject(f"mean:{area.kind}", area.kind, f"mean of {len(rows)} tasks", what, rows[0].info, rows, 0, scores)


def _mean_score(report: Report, rows: Sequence[Row], model: str) -> Score | None:
    """Return a model's mean over tasks, whose interval counts an image that several share once; None without a number.

    Without samples the interval assumes independent tasks; there is none if one of its parts is unknown.
    """
    found = [score for row in rows if (score := report.score(row, model))]
    if len(found) < len(rows):
        return None
    value = math.fsum(score.value for score in found) / len(found)
    if rows[0].info.unit == "fraction":
        numbers = [(record, row.metric) for row in rows if (record := report.record(model, row.task))]
        try:
            low, high = report.evidence.interval_of_mean(numbers)
        except UnpairedError:
            pass
        else:
            below, above = (None if math.isnan(end) else 100 * end for end in (low, high))
            return Score(value, below, above)
    ends = [max(s.high - s.value, s.value - s.low) for s in found if s.low is not None and s.high is not None]
    half = math.hypot(*ends) / len(found)
    return Score(value, value - half, value + half) if len(ends) == len(found) else Score(value)


def _tested(report: Report, subjects: Sequence[Subject], shown: Sequence[str]) -> Iterator[Subject]:
    for subject in subjects:
        pairs = _pairs(report, subject, shown)
        test = _gap_of_means if subject.mean else _gap
        gaps = {pair: gap for pair in pairs if (gap := test(report, subject, *pair)) is not None}
        yield replace(subject, gaps=gaps)


def _pairs(report: Report, subject: Subject, shown: Sequence[str]) -> list[Pair]:
    """Return the pairs to test, in page order: all of few models, else each model with the shown ones and the best."""
    models = [model for model in report.models if model in subject.scores]
    others = models if len(report.models) <= MAX_MODELS_IN_ALL_PAIRS else {*subject.ranking()[:1], *shown}
    return [(a, b) for a, b in combinations(models, 2) if a in others or b in others]


def _gap(report: Report, subject: Subject, a: str, b: str) -> Difference | None:
    row = subject.rows[0]
    one, other = report.record(a, row.task), report.record(b, row.task)
    if one is None or other is None or incomparable(one, other, row.metric):
        return None
    return difference(one, other, row.metric, row.info, report.evidence)


def _gap_of_means(report: Report, subject: Subject, a: str, b: str) -> Difference | None:
    """Return the difference of two means; without a test where it is not known which images the tasks share."""
    pairs = []
    for row in subject.rows:
        one, other = report.record(a, row.task), report.record(b, row.task)
        if one is None or other is None or incomparable(one, other, row.metric):
            return None
        pairs.append((one, other, row.metric))
    try:
        return in_points(report.evidence.mean(pairs), subject.info)
    except UnpairedError as reason:
        return Difference(subject.scores[a].value - subject.scores[b].value, unpaired=str(reason))


def _corrected(subjects: Iterator[Subject]) -> Iterator[Subject]:
    """Yield subjects whose findings hold for all pairs of all of them together."""
    found = list(subjects)
    family = iter(with_findings([(gap, subject.info) for subject in found for gap in subject.gaps.values()]))
    for subject in found:
        yield replace(subject, gaps={pair: next(family) for pair in subject.gaps})
