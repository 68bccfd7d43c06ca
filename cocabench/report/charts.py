"""The figures of a report as data: what page and matplotlib draw. Places along an axis are between 0 and 1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from cocabench.core.formatting import rounded_up, signed
from cocabench.report.differences import Subject
from cocabench.report.style import Axis, Score, linear
from cocabench.results.difference import Difference, up


class Point(NamedTuple):
    """A model's mark in a row: its number, and BEST, UNBEATEN, BEATEN or ''."""

    model: str
    score: Score
    status: str = ""

    @property
    def text(self) -> str:
        return f"{self.score.value:,.{self.score.places}f}"

    @property
    def half(self) -> str:
        """``± 2.1``, the larger half of the interval, rounded up; '' without an interval."""
        value, low, high, places = self.score
        if low is None or high is None:
            return ""
        return f"± {rounded_up(max(high - value, value - low), places):,.{places}f}"


class DotRow(NamedTuple):
    """A row of a dot plot. about: what stands behind the label. chance: in the row's unit, None if unknown.

    others: numbers of models without a colour.
    """

    label: str
    about: str
    points: tuple[Point, ...]
    chance: float | None = None
    others: tuple[float, ...] = ()
    title: str = ""

    def point(self, model: str) -> Point | None:
        return next((point for point in self.points if point.model == model), None)


class Panel(NamedTuple):
    """Rows on one axis. heading: above the labels."""

    heading: str
    axis: Axis
    rows: tuple[DotRow, ...]


class Dots(NamedTuple):
    """A dot plot: one panel, or several with axes of their own. name: the stem of its files. models: the columns."""

    name: str
    caption: str
    panels: tuple[Panel, ...]
    models: tuple[str, ...]

    @property
    def chance(self) -> bool:
        return any(row.chance is not None for panel in self.panels for row in panel.rows)


class Line(NamedTuple):
    """A line of a chart: (x, y) in order, and the places of points that carry a mark, or a text beside it."""

    model: str
    label: str
    points: tuple[tuple[float, Score], ...]
    marked: tuple[int, ...]
    best: int | None = None
    texts: tuple[tuple[int, str], ...] = ()


class Chart(NamedTuple):
    """A chart of lines, or of single points (lines with one point). chance: (x, y) of the dashed line, named dashed.

    front: for single points, the models on the Pareto front.
    """

    name: str
    caption: str
    x_label: str
    x: Axis
    y: Axis
    lines: tuple[Line, ...]
    chance: tuple[tuple[float, float], ...] = ()
    front: tuple[str, ...] = ()
    others: tuple[tuple[float, float], ...] = ()
    dashed: str = "chance"

    @property
    def scatter(self) -> bool:
        return all(len(line.points) == 1 for line in self.lines)


class Effect(NamedTuple):
    """A model's difference from the baseline in a row of the forest, positive where the model is better."""

    model: str
    gap: Difference

    @property
    def significant(self) -> bool:
        return self.gap.significant

    @property
    def text(self) -> str:
        return signed(self.gap.value, self.gap.places)

    @property
    def half(self) -> str:
        return f"± {str(self.gap).partition(' ± ')[2]}" if " ± " in str(self.gap) else ""

    @property
    def p(self) -> str:
        p = self.gap.adjusted if self.gap.adjusted is not None else self.gap.p_value
        if p is None:
            return ""
        return "< 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"

    @property
    def detects(self) -> str:
        """The smallest difference that would be significant in 80 of 100 tests, where this one is not."""
        hidden = self.significant or self.gap.detectable is None
        return "" if hidden else up(self.gap.detectable or 0.0, self.gap.places)


class ForestRow(NamedTuple):
    label: str
    about: str
    mean: bool
    effects: tuple[Effect, ...]
    title: str = ""


class ForestPart(NamedTuple):
    """The rows of a kind of task, on an axis of differences in points. rest: rows that the page shows on demand."""

    heading: str
    unit: str
    axis: Axis
    rows: tuple[ForestRow, ...]
    rest: tuple[ForestRow, ...] = ()


class Forest(NamedTuple):
    """The differences from one baseline. tested: the number of task differences that p is corrected for."""

    base: str
    parts: tuple[ForestPart, ...]


MAX_FOREST_ROWS, LARGEST_DIFFERENCES = 16, 10
"""Of more tasks, the forest shows the ten with the largest differences, and the others on demand."""


def forest(base: str, groups: Sequence[tuple[str, Sequence[Subject]]], models: Sequence[str]) -> Forest:
    """Return the forest of a baseline. groups: (heading, subjects, means first) of each kind. models: those shown."""
    others = [model for model in models if model != base]
    total = sum(not subject.mean for _, subjects in groups for subject in subjects)
    sizes = sorted((_largest(s, base, others) for _, subjects in groups for s in subjects if not s.mean), reverse=True)
    least = 0.0 if total <= MAX_FOREST_ROWS else sizes[LARGEST_DIFFERENCES - 1]
    points = [s for _, subjects in groups for s in subjects if s.info.unit == "fraction"]
    shared = _axis(points, base, others)
    parts = (_part(heading, subjects, base, others, shared, least) for heading, subjects in groups)
    return Forest(base, tuple(part for part in parts if part.rows or part.rest))


def _largest(subject: Subject, base: str, others: Sequence[str]) -> float:
    """Return the largest difference from the baseline, relative to the unit: scores of captions count a tenth."""
    gains = [abs(gain) for other in others if (gain := subject.gain(other, base)) is not None]
    return max(gains, default=0.0) / (1 if subject.info.unit == "fraction" else 10)


def _effects(subject: Subject, base: str, others: Sequence[str]) -> tuple[Effect, ...]:
    found = []
    for other in others:
        if (gap := subject.gap(other, base)) is not None:
            found.append(Effect(other, gap if subject.info.higher_is_better else gap.opposite))
    return tuple(found)


def _axis(subjects: Sequence[Subject], base: str, others: Sequence[str]) -> Axis:
    gaps = [effect.gap for subject in subjects for effect in _effects(subject, base, others)]
    return linear([end for gap in gaps for end in (gap.value, gap.low, gap.high) if end is not None], most=6)


def _part(
    heading: str, subjects: Sequence[Subject], base: str, others: Sequence[str], shared: Axis, least: float
) -> ForestPart:
    percent = all(subject.info.unit == "fraction" for subject in subjects)
    labels = list(dict.fromkeys(subject.metric for subject in subjects if not subject.mean))
    named = len(labels) > 1
    rows: list[ForestRow] = []
    rest: list[ForestRow] = []
    for subject in subjects:
        if effects := _effects(subject, base, others):
            about = f"n={subject.n:,}" if subject.n and not subject.mean else ""
            about = f"{subject.metric} {about}".strip() if named and not subject.mean else about
            row = ForestRow(subject.label, about, subject.mean, effects, subject.key)
            keep = subject.mean or _largest(subject, base, others) >= least
            (rows if keep else rest).append(row)
    unit = f"{labels[0]}, points" if len(labels) == 1 else "points"
    axis = shared if percent else _with_zero_of(shared, _axis(subjects, base, others))
    return ForestPart(heading, unit, axis, tuple(rows), tuple(rest))


def _with_zero_of(shared: Axis, own: Axis) -> Axis:
    """Return an axis that holds what own holds, with 0 at the place where shared has it."""
    scales = [end / other for end, other in ((own.low, shared.low), (own.high, shared.high)) if other]
    unit = max(scales, default=1.0)
    if unit <= 0 or (own.low < 0 and not shared.low) or (own.high > 0 and not shared.high):
        return own
    low, high = unit * shared.low, unit * shared.high
    ticks = linear([low, high], most=5).ticks
    return Axis(low, high, tuple(tick for tick in ticks if low <= tick <= high))


def dot_row(subject: Subject, shown: Sequence[str], chance: float | None, about: str = "") -> DotRow:
    """Return a subject as a row of a dot plot; models that are not shown are others."""
    points = tuple(Point(m, subject.scores[m], subject.status(m)) for m in shown if m in subject.scores)
    others = tuple(score.value for model, score in subject.scores.items() if model not in shown)
    return DotRow(subject.label, about, points, chance, others, subject.key)


NEAR_ZERO = 0.4
"""An axis begins at 0 where the smallest number, or the level of chance, is below this share of the largest."""


def panel(heading: str, rows: Sequence[DotRow]) -> Panel:
    """Return rows with an axis that holds them all, with chance; it begins at 0 unless all numbers are far from it."""
    values = [x for row in rows for point in row.points for x in point.score[:3] if x is not None]
    values += [x for row in rows for x in (*row.others, *([row.chance] if row.chance is not None else []))]
    zero = min(values, default=0.0) < NEAR_ZERO * max(values, default=0.0)
    return Panel(heading, linear(values, zero=zero), tuple(rows))
