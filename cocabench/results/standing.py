"""Where a measured model stands among the published ones: percentiles, nearest neighbours, effective robustness."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np
import scipy

from cocabench.core.errors import UnknownNameError, UsageError
from cocabench.core.formatting import number, plural, points
from cocabench.core.types import Estimate, MetricInfo, Record
from cocabench.results import published
from cocabench.results.difference import with_interval
from cocabench.results.records import choose, limit, published_by, set_of, standard

REFERENCE = "imagenet1k"
SHIFTS = ("imagenetv2", "imagenet-a", "imagenet-r", "imagenet_sketch", "objectnet")
"""Sets of ImageNet's classes whose accuracy is set against ImageNet's (Taori et al. 2020, arXiv 2007.00644)."""

MIN_MODELS = 10
"""Of fewer published models no percentile and no line is given."""

NEIGHBOURS = 3

Pool = Mapping[tuple[str, str], Mapping[str, float]]
"""{(task, metric): {NAME:TAG: value}}"""


@cache
def pool() -> Pool:
    """Return the published numbers, one for each model, task and metric: of several sources the first of SOURCES."""
    table = published.read()
    found: dict[tuple[str, str], dict[str, float]] = {}
    for source in published.SOURCES:
        rows = table[table["source"] == source]
        columns = (rows[name].tolist() for name in ("spec", "task", "metric", "value"))
        for spec, task, metric, value in zip(*columns, strict=True):
            found.setdefault((task, metric), {}).setdefault(spec, value)
    return found


class Place(NamedTuple):
    """A percentile: the share of published models with a worse number, in percent; equal ones count half.

    low, high: the percentiles of the ends of the number's interval; None where it has none.
    """

    value: float
    low: float | None
    high: float | None

    @property
    def text(self) -> str:
        """``73 (70 to 76)``"""
        ends = "" if self.low is None or self.high is None else f" ({self.low:.0f} to {self.high:.0f})"
        return f"{self.value:.0f}{ends}"


def place(estimate: Estimate, others: Sequence[float], *, higher_is_better: bool = True) -> Place:
    """Return where a number stands among others.

    >>> place(Estimate(value=0.5, low=0.35, high=0.65, n=9), [0.1, 0.2, 0.5, 0.6]).text
    '62 (50 to 100)'
    """
    assert estimate.value is not None, "of undefined numbers there is no place"
    ends = (estimate.low, estimate.high) if higher_is_better else (estimate.high, estimate.low)
    low, high = (None if end is None else _percentile(end, others, higher_is_better) for end in ends)
    return Place(_percentile(estimate.value, others, higher_is_better), low, high)


def _percentile(value: float, others: Sequence[float], higher_is_better: bool) -> float:
    sign = 1 if higher_is_better else -1
    worse = sum(sign * other < sign * value for other in others)
    return 100 * (worse + sum(other == value for other in others) / 2) / len(others)


@dataclass(frozen=True)
class Neighbour:
    """A published model near the measured one. distance: the mean absolute difference over shared tasks, in points.

    mean: over these tasks, in points. parameters: in all, 0 if unknown. gflops: of image and text, None if unknown.
    """

    spec: str
    distance: float
    mean: float
    parameters: int
    gflops: float | None

    @property
    def text(self) -> str:
        """``ViT-B-32:openai (mean 52.1, off by 1.3; 151 M parameters, 14.8 GFLOPs)``"""
        cost = [f"{self.parameters / 1e6:,.0f} M parameters"] if self.parameters else []
        cost += [f"{self.gflops:,.1f} GFLOPs"] if self.gflops else []
        tail = f"; {', '.join(cost)}" if cost else ""
        return f"{self.spec} (mean {self.mean:.1f}, off by {self.distance:.1f}{tail})"


@dataclass(frozen=True)
class Robustness:
    """Effective robustness on one shift set, or the mean of all (name ''): accuracy above the line, in points.

    The line is fitted to the published models on the logit scale. low, high: the 95 % interval over images of both sets
    and of the line; None where a number has no interval. scatter: the standard deviation of the published models about
    it. models: how many. extrapolated: the model is outside of their ImageNet accuracies.
    """

    name: str
    value: float
    low: float | None
    high: float | None
    scatter: float
    models: int
    extrapolated: bool

    @property
    def text(self) -> str:
        """``+1.2 ± 0.8 (published models scatter by 2.1)``"""
        outside = "; outside the published ImageNet accuracies" if self.extrapolated else ""
        text = with_interval(self.value, self.low, self.high, 1)
        return f"{text} (published models scatter by {self.scatter:.1f}{outside})"


@dataclass(frozen=True)
class TaskPlace:
    """One task: the measured number, its place, and how far it is from the mean of the neighbours, in points."""

    record: Record
    others: Mapping[str, float]
    place: Place
    lead: float | None

    @property
    def info(self) -> MetricInfo:
        return self.record.definitions[self.record.primary]

    @property
    def estimate(self) -> Estimate:
        return self.record.metrics[self.record.primary]


@dataclass(frozen=True)
class Standing:
    """A measured model among the published. mean: its place by the mean over tasks; None for one task.

    left_out: phrases on tasks without a place.
    """

    model: str
    tasks: tuple[TaskPlace, ...]
    mean: Place | None
    mean_value: float
    mean_models: int
    neighbours: tuple[Neighbour, ...]
    robustness: tuple[Robustness, ...]
    left_out: tuple[str, ...]


def standings(records: Iterable[Record], models: Sequence[str] = (), among: Pool | None = None) -> list[Standing]:
    """Return the standing of each measured model, in the order given or found.

    UsageError where no measured result can be placed; UnknownNameError for a model without Records.
    """
    chosen = [r for r in choose(records).records if not published_by(r)]
    known = tuple(dict.fromkeys(r.model for r in chosen))
    for name in models:
        if name not in known:
            raise UnknownNameError("measured model", name, known)
    numbers = pool() if among is None else among
    found = [standing(name, [r for r in chosen if r.model == name], numbers) for name in models or known]
    placed = [one for one in found if one.tasks]
    if not placed:
        reason = found[0].left_out[0] if found and found[0].left_out else "no measured results"
        raise UsageError("--published", f"nothing to place: {reason}", wanted="tasks with published numbers")
    return placed


def standing(model: str, records: Sequence[Record], among: Pool) -> Standing:
    """Return where a model stands, by the primary metric of each task.

    The languages of a set have places of their own, but count in the mean and in the distances only if nothing else is
    there.
    """
    placed, left_out = [], []
    for record in records:
        others = {s: v for s, v in among.get((record.task, record.primary), {}).items() if s != model}
        if reason := _unplaceable(record, others):
            left_out.append(f"{record.task}: {reason}")
        else:
            placed.append((record, others))
    counted = [one for one in placed if not set_of(one[0])] or placed
    neighbours = _neighbours(counted)
    tasks = tuple(_task(record, others, neighbours) for record, others in placed)
    own = {record.task for record, _ in counted}
    fractions = [
        task
        for task in tasks
        if task.record.task in own and task.info.unit == "fraction" and task.info.higher_is_better
    ]
    mean, value, count = _mean(fractions)
    return Standing(model, tasks, mean, value, count, neighbours, tuple(robustness(tasks)), tuple(left_out))


def _unplaceable(record: Record, others: Mapping[str, float]) -> str:
    if not others:
        return f"{record.primary} is not published"
    if len(others) < MIN_MODELS:
        return f"{len(others)} published models, {MIN_MODELS} are the fewest that tell"
    if (n := limit(record)) is not None:
        return f"limited to {plural(n, 'sample')}"
    if not standard(record):
        return "not the standard protocol"
    estimate = record.metrics.get(record.primary)
    return "" if estimate is not None and estimate.value is not None else "no number"


def _task(record: Record, others: Mapping[str, float], neighbours: Sequence[Neighbour]) -> TaskPlace:
    info, estimate = record.definitions[record.primary], record.metrics[record.primary]
    near = [others[one.spec] for one in neighbours if one.spec in others]
    lead = points((estimate.value or 0.0) - statistics.fmean(near), info) if near else None
    found = place(estimate, list(others.values()), higher_is_better=info.higher_is_better)
    return TaskPlace(record, others, found, lead)


def _shared(placed: Iterable[Mapping[str, float]]) -> list[str]:
    """Return the published models that have all tasks."""
    tables = list(placed)
    return [spec for spec in tables[0] if all(spec in table for table in tables[1:])] if tables else []


def _neighbours(placed: Sequence[tuple[Record, Mapping[str, float]]]) -> tuple[Neighbour, ...]:
    """Return the published models with the smallest mean absolute difference over all placed tasks."""
    found = []
    for spec in _shared(others for _, others in placed):
        pairs = [(r.definitions[r.primary], r.metrics[r.primary].value or 0.0, o[spec]) for r, o in placed]
        distance = statistics.fmean(abs(points(own - other, info)) for info, own, other in pairs)
        mean = statistics.fmean(points(other, info) for info, _, other in pairs)
        found.append((distance, spec, mean))
    nearest = sorted(found)[:NEIGHBOURS]
    return tuple(Neighbour(spec, distance, mean, *_cost(spec)) for distance, spec, mean in nearest)


def _cost(spec: str) -> tuple[int, float | None]:
    """Return parameters and GFLOPs of a published model's architecture."""
    name, table = spec.partition(":")[0], published.profile()
    total = table[(table["model"] == name) & (table["tower"] == "total")]
    gflops = total[total["quantity"] == "gflops"]["value"]
    counts = total[total["quantity"] == "params_millions"]["value"]
    count = round(float(counts.iloc[0]) * 1e6) if len(counts) else sum(published.parameters(name).values())
    return count, float(gflops.iloc[0]) if len(gflops) else None


def _mean(tasks: Sequence[TaskPlace]) -> tuple[Place | None, float, int]:
    """Return the place of the mean over tasks, the mean in points, and how many published models have all tasks.

    The interval takes the tasks' images for different ones.
    """
    specs = _shared(task.others for task in tasks)
    if len(tasks) < 2 or len(specs) < MIN_MODELS:
        return None, math.nan, len(specs)
    value = statistics.fmean(task.estimate.value or 0.0 for task in tasks)
    halves = [_half(task.estimate) for task in tasks]
    half = None if None in halves else math.hypot(*(h or 0.0 for h in halves)) / len(tasks)
    ends = (None, None) if half is None else (value - half, value + half)
    others = [statistics.fmean(task.others[spec] for task in tasks) for spec in specs]
    estimate = Estimate(value=value, low=ends[0], high=ends[1], n=min(task.estimate.n for task in tasks))
    return place(estimate, others), 100 * value, len(specs)


def _half(estimate: Estimate) -> float | None:
    return None if estimate.low is None or estimate.high is None else (estimate.high - estimate.low) / 2


class Line(NamedTuple):
    """logit(shift) = intercept + slope * logit(reference), by least squares. spread: of the residuals, in logits."""

    intercept: float
    slope: float
    spread: float
    centre: float
    squares: float
    models: int

    def at(self, accuracy: float) -> float:
        return float(scipy.special.expit(self.intercept + self.slope * scipy.special.logit(accuracy)))

    def error(self, accuracy: float) -> float:
        """Return the standard error of the line at an accuracy, in logits."""
        off = float(scipy.special.logit(accuracy)) - self.centre
        return self.spread * math.sqrt(1 / self.models + off**2 / self.squares)


def fit(reference: Sequence[float], shift: Sequence[float]) -> Line:
    """Return the line through published models' accuracies (0-1, both ends excluded).

    >>> line = fit([0.2, 0.5, 0.8], [0.1, 0.3, 0.6])
    >>> round(line.at(0.5), 3)
    0.293
    """
    x, y = scipy.special.logit(np.array(reference)), scipy.special.logit(np.array(shift))
    squares = float(((x - x.mean()) ** 2).sum())
    slope = float(((x - x.mean()) * y).sum()) / squares
    intercept = float(y.mean()) - slope * float(x.mean())
    rest = y - intercept - slope * x
    return Line(intercept, slope, math.sqrt(float((rest**2).sum()) / (len(x) - 2)), float(x.mean()), squares, len(x))


def robustness(tasks: Sequence[TaskPlace]) -> list[Robustness]:
    """Return the effective robustness on each shift set, then their mean where there are two or more."""
    by_task = {task.record.task: task for task in tasks if task.record.primary == "acc1"}
    base = by_task.get(REFERENCE)
    if base is None or not 0 < (base.estimate.value or 0.0) < 1:
        return []
    parts = [part for name in SHIFTS if name in by_task and (part := _against(base, by_task[name])) is not None]
    found = [part.robustness for part in parts]
    if len(parts) < 2:
        return found
    value = statistics.fmean(part.robustness.value for part in parts)
    halves = [part.own for part in parts] + [part.line for part in parts]
    half = None
    if None not in halves and parts[0].base is not None:
        shared = sum(part.base or 0.0 for part in parts)  # ImageNet's images are the same for all sets
        half = math.hypot(*(h or 0.0 for h in halves), shared) / len(parts)
    specs = set.intersection(*(set(part.residuals) for part in parts))
    means = [statistics.fmean(part.residuals[spec] for part in parts) for spec in specs]
    low, high = (None, None) if half is None else (value - half, value + half)
    outside = any(part.robustness.extrapolated for part in parts)
    scatter = statistics.stdev(means) if len(means) > 1 else math.nan
    return [*found, Robustness("", value, low, high, scatter, len(specs), outside)]


class _Part(NamedTuple):
    """A shift set's result, and the halves of its interval by cause, in points. residuals: {published: points}."""

    robustness: Robustness
    own: float | None
    base: float | None
    line: float
    residuals: Mapping[str, float]


def _against(base: TaskPlace, shift: TaskPlace) -> _Part | None:
    inside = [s for s in base.others if s in shift.others and 0 < base.others[s] < 1 and 0 < shift.others[s] < 1]
    if len(inside) < MIN_MODELS:
        return None
    reference, values = [base.others[s] for s in inside], [shift.others[s] for s in inside]
    line, accuracy = fit(reference, values), base.estimate.value or 0.0
    expected = line.at(accuracy)
    steep = line.slope * expected * (1 - expected) / (accuracy * (1 - accuracy))
    own, held = _half(shift.estimate), _half(base.estimate)
    reach = float(scipy.special.stdtrit(len(inside) - 2, 0.975))
    of_line = 100 * reach * line.error(accuracy) * expected * (1 - expected)
    of_base = None if held is None else 100 * abs(steep) * held
    value = 100 * ((shift.estimate.value or 0.0) - expected)
    residuals = {s: 100 * (v - line.at(r)) for s, r, v in zip(inside, reference, values, strict=True)}
    ends: tuple[float | None, float | None] = (None, None)
    if own is not None and of_base is not None:
        half = math.hypot(100 * own, of_base, of_line)
        ends = (value - half, value + half)
    outside = not min(reference) <= accuracy <= max(reference)
    scatter = statistics.stdev(residuals.values())
    found = Robustness(shift.record.task, value, *ends, scatter, len(inside), outside)
    return _Part(found, None if own is None else 100 * own, of_base, of_line, residuals)


HEADER = ("task", "metric", "measured", "percentile", "published", "from neighbours")


def cells(found: Standing) -> list[list[str]]:
    """Return the rows below HEADER: from the largest lead over the neighbours to the largest lag, then the mean."""
    tasks = sorted(found.tasks, key=lambda task: -(task.lead or 0.0) * (1 if task.info.higher_is_better else -1))
    rows = [
        [
            task.record.task,
            task.record.primary,
            number(task.estimate, task.info),
            task.place.text,
            str(len(task.others)),
            "" if task.lead is None else with_interval(task.lead, *_ends_of(task), 1),
        ]
        for task in tasks
    ]
    if found.mean is not None:
        rows.append(["mean of shares", "", f"{found.mean_value:.1f}", found.mean.text, str(found.mean_models), ""])
    return rows


def _ends_of(task: TaskPlace) -> tuple[float | None, float | None]:
    """Return the interval of the lead: that of the measured number, since published ones have none."""
    low, high, value = task.estimate.low, task.estimate.high, task.estimate.value
    if low is None or high is None or value is None or task.lead is None:
        return None, None
    return tuple(task.lead + points(end - value, task.info) for end in (low, high))  # type: ignore[return-value]


def sentences(found: Standing) -> list[str]:
    """Return the sentences below a table."""
    said = [f"nearest published: {'; '.join(one.text for one in found.neighbours)}"] if found.neighbours else []
    for one in found.robustness:
        said.append(f"effective robustness, {one.name or 'mean'}: {one.text}")
    said += [f"left out: {phrase}" for phrase in found.left_out]
    return said


def legend(found: Sequence[Standing]) -> list[str]:
    """Return the sentences below all tables."""
    said = [
        "percentile: the share of published models with a worse number, and at the ends of the interval.",
        "from neighbours: more or less than the mean of the nearest published models.",
    ]
    if any(one.robustness for one in found):
        said.append("effective robustness: accuracy above the line of published models against ImageNet (logits).")
    return said


def lines(found: Standing) -> dict[str, object]:
    """Return a standing as a table for JSON, in points and percent."""
    tasks = [
        {
            "task": task.record.task,
            "metric": task.record.primary,
            "value": points(task.estimate.value or 0.0, task.info),
            "percentile": task.place._asdict(),
            "published": len(task.others),
            "from_neighbours": task.lead,
        }
        for task in found.tasks
    ]
    return {
        "model": found.model,
        "tasks": tasks,
        "mean": None if found.mean is None else {"value": found.mean_value, "percentile": found.mean._asdict()},
        "neighbours": [vars(one) for one in found.neighbours],
        "effective_robustness": [vars(one) for one in found.robustness],
        "left_out": found.left_out,
    }
