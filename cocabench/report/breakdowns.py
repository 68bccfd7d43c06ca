"""Where models differ and fail, as a kind declares it: curves, groups, confusions, repeated texts; and agreement.

Samples are {model: its frame} of one task, all columns.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from cocabench.core.formatting import points
from cocabench.kinds.base import Kind
from cocabench.kinds.shown import Confusions, Curve, Groups, Reliability, Repeats, Trend, first_text
from cocabench.metrics.base import Metric, estimate
from cocabench.metrics.statistics import Hits
from cocabench.report.charts import Chart, DotRow, Dots, Line, Point, panel
from cocabench.report.content import score_of
from cocabench.report.style import Score, linear, logarithmic
from cocabench.results.store import slug

Samples = Mapping[str, pd.DataFrame]

MARKED = (1, 5, 10, 25, 50, 100)
"""The numbers at which a curve has ticks; lines carry marks at the first ones."""

MAX_GROUPS, MAX_CONFUSIONS, MAX_REPEATS = 10, 3, 3
MAX_PICTURES_PER_GROUP = 4


class Often(NamedTuple):
    """A confusion of a model, or a text that it repeats: on n of so many images (0: of all), some of them by id."""

    truth: str
    answer: str
    n: int
    of: int
    images: tuple[str, ...]


class Listing(NamedTuple):
    """The most frequent confusions or texts of each model on a task."""

    name: str
    title: str
    task: str
    models: Mapping[str, tuple[Often, ...]]

    @property
    def total(self) -> int:
        return sum(item.n for items in self.models.values() for item in items)


class Agreement(NamedTuple):
    """On how many images of a task both of two models, only one, or neither is right."""

    task: str
    both: int
    first: int
    second: int
    neither: int


def outcome_metric(kind: type[Kind], names: Sequence[str], frames: Sequence[pd.DataFrame]) -> Metric | None:
    """Return the first of some metrics that has a value for each row, and whose columns all frames have."""
    found = (metric for name in names if (metric := kind.metric(name)))
    return next((metric for metric in found if all(_has_values(metric, frame) for frame in frames)), None)


def _has_values(metric: Metric, frame: pd.DataFrame) -> bool:
    return metric.readable(frame.columns) and metric.statistic.per_row(metric.rows(frame)[:1]) is not None


def row_values(metric: Metric, rows: pd.DataFrame) -> pd.Series[float]:
    """Return each row's own value."""
    return pd.Series(metric.statistic.per_row(rows), index=rows.index, dtype=np.float64)


def outcomes(kind: type[Kind], samples: pd.DataFrame) -> npt.NDArray[np.float64]:
    """Return a model's outcome on each sample, by the kind's first view; empty if no metric applies."""
    metric = next((m for view in kind.shown.views[:1] if (m := outcome_metric(kind, view.outcome, [samples]))), None)
    if metric is None:
        return np.empty(0)
    return np.asarray(row_values(metric, metric.rows(samples)), dtype=np.float64)


def agreements(kind: type[Kind], task: str, samples: Samples) -> dict[tuple[str, str], Agreement]:
    """Return the agreement of each pair of models, by the kind's first view if it grades right and wrong."""
    views = kind.shown.views[:1]
    metric = next((m for v in views if (m := outcome_metric(kind, v.outcome, list(samples.values())))), None)
    if metric is None or not isinstance(metric.statistic, Hits):
        return {}
    right = {}
    for model, frame in samples.items():
        rows = metric.rows(frame)
        hits = row_values(metric, rows).to_numpy() >= 1
        right[model] = texts(rows["id"]), hits
    found = {}
    for (a, (one, left)), (b, (other, hits)) in combinations(right.items(), 2):
        if one != other and set(one) != set(other):
            continue
        if one != other:
            of_other = dict(zip(other, hits, strict=True))
            hits = np.array([of_other[name] for name in one])
        outcomes = (left & hits, left & ~hits, ~left & hits, ~left & ~hits)
        found[a, b] = Agreement(task, *(int(np.count_nonzero(outcome)) for outcome in outcomes))
    return found


def texts(column: pd.Series[str]) -> list[str]:
    """Return a column as a list of texts, which is many times faster to go through than the column."""
    return list(column.astype(str).to_numpy(object))


def curves(kind: type[Kind], task: str, samples: Samples, chances: Mapping[str, float]) -> Iterator[Chart]:
    """Yield the kind's curves. chances: {metric: in points} where the level of chance is known."""
    for curve in (one for one in kind.shown.breakdowns if isinstance(one, Curve)):
        few = len(curve.ks) <= len(MARKED)
        lines = [
            Line(model, model, points_, tuple(i for i, (k, _) in enumerate(points_) if k in MARKED[:3] or few))
            for model, frame in samples.items()
            if len(points_ := tuple(_curve(kind, curve, frame))) > 1
        ]
        if lines:
            ks = [k for k, _ in max((line.points for line in lines), key=len)]
            ys = linear([0, *(score.value for line in lines for _, score in line.points)])
            chance = tuple((k, chances[name]) for k in ks if (name := curve.metric.format(f"{k:.0f}")) in chances)
            x = logarithmic(ks)._replace(ticks=tuple(k for k in ks if k in MARKED))
            yield Chart(f"{slug(task)}-{curve.name}", curve.title, curve.axis, x, ys, tuple(lines), chance)


def trends(kind: type[Kind], task: str, samples: Samples) -> Iterator[Chart]:
    """Yield the kind's metrics over a column; a model without the column, or with one range of it, has no line."""
    for trend in (one for one in kind.shown.breakdowns if isinstance(one, Trend)):
        found = {model: tuple(_trend(kind, trend, frame)) for model, frame in samples.items()}
        lines = [Line(model, model, line, tuple(range(len(line)))) for model, line in found.items() if len(line) > 1]
        if lines:
            x = logarithmic([x for line in lines for x, _ in line.points])
            y = linear([0, *(score.value for line in lines for _, score in line.points)])
            yield Chart(f"{slug(task)}-{trend.name}", trend.title, trend.axis, x, y, tuple(lines))


def _trend(kind: type[Kind], trend: Trend, frame: pd.DataFrame) -> Iterator[tuple[float, Score]]:
    metric = kind.metric(trend.metric)
    if metric is None or trend.by not in frame or not metric.readable(frame.columns):
        return
    rows = metric.rows(frame)
    rows = rows[rows[trend.by] > 0]
    for _, part in rows.groupby(np.searchsorted(trend.ends, rows[trend.by].to_numpy(np.float64))):
        if len(part) >= trend.fewest:
            yield float(part[trend.by].mean()), Score(points(metric.statistic.value(part), metric.info))


N_RANGES = 10
"""Of probabilities in a reliability diagram."""


def reliabilities(kind: type[Kind], task: str, samples: Samples) -> Iterator[Chart]:
    """Yield the kind's metrics over the probabilities of answers; a model that kept none has no line."""
    for one in (item for item in kind.shown.breakdowns if isinstance(item, Reliability)):
        found = {model: tuple(_reliability(kind, one, frame)) for model, frame in samples.items()}
        lines = [Line(model, model, line, tuple(range(len(line)))) for model, line in found.items() if len(line) > 1]
        if lines:
            axis = linear([0, 100])
            name, ends = f"{slug(task)}-{one.name}", ((0.0, 0.0), (100.0, 100.0))
            yield Chart(name, one.title, "probability, %", axis, axis, tuple(lines), ends, dashed="calibrated")


def _reliability(kind: type[Kind], one: Reliability, frame: pd.DataFrame) -> Iterator[tuple[float, Score]]:
    metric = kind.metric(one.metric)
    if metric is None or not {*one.columns, *metric.columns} <= set(frame):
        return
    rows = metric.rows(frame[frame[one.columns[0]].notna()])
    given = one.of(rows) if len(rows) else np.empty(0)
    for _, places in pd.Series(range(len(rows))).groupby(np.minimum((given * N_RANGES).astype(int), N_RANGES - 1)):
        if len(places) >= one.fewest and (score := score_of(estimate(metric, rows.iloc[places]), metric.info)):
            yield 100 * float(given[places].mean()), score


def _curve(kind: type[Kind], curve: Curve, frame: pd.DataFrame) -> Iterator[tuple[float, Score]]:
    for k in curve.ks:
        metric = kind.metric(curve.metric.format(k))
        if metric is None or not metric.readable(frame.columns):
            return
        if k < len(rows := metric.rows(frame)):
            yield float(k), Score(points(metric.statistic.value(rows), metric.info))


def groups(kind: type[Kind], task: str, samples: Samples) -> Iterator[Dots]:
    """Yield the kind's groups of rows as dot plots."""
    for one in (item for item in kind.shown.breakdowns if isinstance(item, Groups)):
        metric, frames = kind.metric(one.metric), list(samples.values())
        if metric is None or not frames or not all(metric.readable(frame.columns) for frame in frames):
            continue
        if isinstance(one.by, str) and not all(one.by in frame for frame in frames):
            continue
        rows = _group_rows(one, metric, samples)
        if len(rows) > 1:
            title = one.title.format(n=len(rows))
            yield Dots(f"{slug(task)}-{one.name}", title, (panel(one.heading.capitalize(), rows),), tuple(samples))


def _group_rows(one: Groups, metric: Metric, samples: Samples) -> list[DotRow]:
    """Return a row per group; none of a single group, or without enough of several rows: single rows say nothing."""
    keys = {model: _keys(one, metric.rows(frame)) for model, frame in samples.items()}
    parts = {model: _parts(keys[model], metric.rows(frame)) for model, frame in samples.items()}
    first = next(iter(keys.values()))
    ordered = isinstance(first.dtype, pd.CategoricalDtype)
    sizes = Counter({name: len(rows) for name, rows in next(iter(parts.values())).items()})
    same = all({name: len(rows) for name, rows in mine.items()} == dict(sizes) for mine in parts.values())
    names = list(first.cat.categories) if ordered else list(sizes)
    least = {name: 1 if name == one.rest else one.fewest for name in names}
    names = [name for name in names if any(len(mine.get(name, ())) >= least[name] for mine in parts.values())]
    if one.worst:
        names = _worst(metric, parts, names, sizes) if np.median(list(sizes.values()) or [0]) >= one.fewest else []
    elif not ordered:
        names = sorted(names, key=lambda name: (name == one.rest, -sizes[name], name))[:MAX_GROUPS]
    if len(names) < 2:
        return []
    rows = []
    for name in names:
        enough = {model: mine[name] for model, mine in parts.items() if len(mine.get(name, ())) >= least[name]}
        scores = ((model, score_of(estimate(metric, part), metric.info)) for model, part in enough.items())
        dots = tuple(Point(model, score) for model, score in scores if score)
        rows.append(DotRow(name, f"n={sizes[name]:,}" if same else "", dots))
    return [row for row in rows if row.points]


def _worst(
    metric: Metric, parts: Mapping[str, Mapping[str, pd.DataFrame]], names: Sequence[str], sizes: Mapping[str, int]
) -> list[str]:
    """Return the groups with the lowest means; half of them are those on which several models differ most."""
    means = {
        name: [float(row_values(metric, mine[name]).mean()) for mine in parts.values() if name in mine]
        for name in names
    }
    low = sorted(names, key=lambda name: (np.mean(means[name]), -sizes[name], name))
    apart = sorted(names, key=lambda name: (min(means[name]) - max(means[name]), -sizes[name], name))
    half = MAX_GROUPS // 2 if len(parts) > 1 else 0
    chosen = list(dict.fromkeys([*low[: MAX_GROUPS - half], *apart[:half]]))
    return sorted(chosen, key=lambda name: (np.mean(means[name]), -sizes[name], name))


def _keys(one: Groups, rows: pd.DataFrame) -> pd.Series[str]:
    """Return the group of each row; those of too few rows are one, if that has a name."""
    keys = rows[one.by].astype(str) if isinstance(one.by, str) else one.by(rows)
    if one.rest:
        counts = keys.map(keys.value_counts())
        keys = keys.where((counts >= one.fewest) & (keys != ""), one.rest)
    return keys


def _parts(keys: pd.Series[str], rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return {group: its rows}."""
    return {str(name): frame for name, frame in rows.groupby(keys.astype(object).to_numpy(), sort=False) if name}


def listings(kind: type[Kind], task: str, samples: Samples, pictured: frozenset[str]) -> Iterator[Listing]:
    """Yield the kind's confusions and repeated texts. pictured: ids of images with thumbnails, which come first."""
    for one in kind.shown.breakdowns:
        if isinstance(one, Confusions) and all({one.truth, one.answer} <= set(f) for f in samples.values()):
            found = {model: tuple(_confusions(one, frame, pictured)) for model, frame in samples.items()}
        elif isinstance(one, Repeats) and all(one.text in frame for frame in samples.values()):
            found = {model: tuple(_repeats(one, frame, pictured)) for model, frame in samples.items()}
        else:
            continue
        if any(found.values()):
            yield Listing(f"{slug(task)}-{one.name}", one.title, task, found)


def _confusions(one: Confusions, frame: pd.DataFrame, pictured: frozenset[str]) -> Iterator[Often]:
    truths, answers = (list(map(first_text, frame[name].to_numpy(object))) for name in (one.truth, one.answer))
    images, of = texts(frame["image_id"]), Counter(truths)
    wrong: dict[tuple[str, str], list[str]] = {}
    for truth, answer, image in zip(truths, answers, images, strict=True):
        if truth != answer:
            wrong.setdefault((truth, answer), []).append(image)
    often = sorted(
        ((pair, ids) for pair, ids in wrong.items() if len(ids) > 1), key=lambda item: (-len(item[1]), item[0])
    )
    for (truth, answer), ids in often[:MAX_CONFUSIONS]:
        yield Often(truth, answer, len(ids), of[truth], _some(ids, pictured))


def _repeats(one: Repeats, frame: pd.DataFrame, pictured: frozenset[str]) -> Iterator[Often]:
    same: dict[str, list[str]] = {}
    for text, image in zip(texts(frame[one.text]), texts(frame["image_id"]), strict=True):
        same.setdefault(text, []).append(image)
    often = sorted(
        ((text, ids) for text, ids in same.items() if len(ids) > 1), key=lambda item: (-len(item[1]), item[0])
    )
    for text, ids in often[:MAX_REPEATS]:
        yield Often("", text, len(ids), 0, _some(ids, pictured))


def _some(ids: Sequence[str], pictured: frozenset[str]) -> tuple[str, ...]:
    return tuple(sorted(ids, key=lambda name: name not in pictured)[:MAX_PICTURES_PER_GROUP])
