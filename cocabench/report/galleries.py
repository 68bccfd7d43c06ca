"""What the samples of one task show: galleries, one for each view of its kind, and breakdowns.

The items of a gallery are chosen so that agreement and disagreement can be seen. Samples are {model: its frame}.
"""

from __future__ import annotations

import functools
import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from cocabench.core.formatting import points
from cocabench.kinds.base import Kind
from cocabench.kinds.shown import Confusions, Hardest, Histogram, View, first_text
from cocabench.metrics.base import Metric
from cocabench.metrics.statistics import Hits
from cocabench.report.grid import Entry, Line, Table

Samples = Mapping[str, pd.DataFrame]

POOL_IMAGES = 512
"""Images that items are chosen from: those whose ids hash lowest."""

MODELS_TOLD_APART = 4
"""Models of whose outcomes every pattern is to be seen."""

MAX_CHOICES = 5
"""Choices shown of one model's answer."""

MAX_CLASSES, MAX_CONFUSIONS = 10, 6
"""Lines of the hardest classes, and of each model's confusions."""


class Choice(NamedTuple):
    """One answer: a class, a text, or an image by its id. picture: the example whose image it is, '' for words."""

    text: str
    score: str = ""
    right: bool = False
    picture: str = ""


class Answer(NamedTuple):
    """What one model said. value: 1 right, 0 wrong, or a score; what the page's filter compares."""

    model: str
    value: float
    words: str
    choices: tuple[Choice, ...]


class Item(NamedTuple):
    """An image (picture: its example) with its heading and its truth, and an answer per model."""

    picture: str
    title: str
    truth: tuple[str, ...]
    answers: tuple[Answer, ...]


class Gallery(NamedTuple):
    """graded: outcomes are scores, not right or wrong. single: an answer is one text. pictured: choices are images."""

    view: View
    graded: bool
    single: bool
    pictured: bool
    examples: tuple[Item, ...]


def pool(samples: pd.DataFrame, wanted: frozenset[str]) -> list[str]:
    """Return the ids of the images that items are chosen from; of the images wanted, if any of them are there."""
    images = samples["image_id"].astype(str).unique()
    return sorted([name for name in images if name in wanted] or images, key=_hash)[:POOL_IMAGES]


def outcomes(kind: type[Kind], samples: pd.DataFrame) -> npt.NDArray[np.float64]:
    """Return how well a model did on each sample, by the kind's first view; empty if nothing tells."""
    metric = next((m for view in kind.shown.views[:1] if (m := _outcome(kind, view, [samples]))), None)
    if metric is None:
        return np.empty(0)
    return np.asarray(_values(metric, metric.rows(samples)), dtype=np.float64)


def _outcome(kind: type[Kind], view: View, frames: Sequence[pd.DataFrame]) -> Metric | None:
    """Return the view's first metric that all frames have the columns of, and a value for each row."""
    metrics = (metric for name in view.outcome if (metric := kind.metric(name)))
    return next((metric for metric in metrics if all(_readable(metric, frame) for frame in frames)), None)


def _readable(metric: Metric, frame: pd.DataFrame) -> bool:
    return metric.readable(frame.columns) and metric.statistic.per_row(metric.rows(frame)[:1]) is not None


def _values(metric: Metric, rows: pd.DataFrame) -> pd.Series[float]:
    return pd.Series(metric.statistic.per_row(rows), index=rows.index, dtype=np.float64)


def galleries(kind: type[Kind], samples: Samples, wanted: frozenset[str], most: int) -> list[Gallery]:
    """Return the galleries that the samples of a task have the columns for, of at most so many items each.

    samples: of the images of ``pool``. wanted: the images that there are pictures of.
    """
    made = [_gallery(kind, view, samples, wanted, most) for view in kind.shown.views]
    return [gallery for gallery in made if gallery is not None and gallery.examples]


def _gallery(kind: type[Kind], view: View, samples: Samples, wanted: frozenset[str], most: int) -> Gallery | None:
    if any(not view.columns <= set(frame) for frame in samples.values()):
        return None
    metric = _outcome(kind, view, list(samples.values()))
    asked = {m: (metric.rows(f) if metric else f).drop_duplicates("id") for m, f in samples.items()}
    frames = {model: frame.set_index("id", drop=False) for model, frame in asked.items()}
    first, *others = frames.values()
    shared = functools.reduce(lambda index, frame: index.intersection(frame.index), others, first.index)
    type_ = kind.column_type(view.choices.texts)
    near = view.choices.texts if type_ == "image_ids" else ""
    seen = sorted(shared, key=lambda key: (_unseen(key, frames, near, wanted), _hash(key)))[:POOL_IMAGES]
    values = pd.DataFrame(
        {m: _values(metric, f.loc[seen]) if metric else pd.Series(0.0, index=seen) for m, f in frames.items()}
    )
    keys = _chosen(values, first["image_id"], most)
    shown = {model: frame.loc[keys] for model, frame in frames.items()}
    graded = metric is None or not isinstance(metric.statistic, Hits)
    answers = {model: _answers(kind, view, model, rows, values[model], graded) for model, rows in shown.items()}
    heads = _heads(kind, view, next(iter(samples.values())), next(iter(shown.values())))
    items = (Item(*head, tuple(answers[m][i] for m in answers)) for i, head in enumerate(heads))
    return Gallery(view, graded, type_ in ("text", "caption"), type_ == "image_ids", tuple(items))


def _heads(
    kind: type[Kind], view: View, frame: pd.DataFrame, rows: pd.DataFrame
) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Yield the picture, title and truth of rows; a text column as truth stands for all texts of the row's image."""
    of_image: dict[Any, list[Any]] = {}
    whole = bool(view.truth) and kind.column_type(view.truth) in ("text", "caption")
    if whole:
        of_image = frame[frame[view.truth].notna()].groupby("image_id")[view.truth].agg(list).to_dict()
    for row in rows.to_dict("records"):
        truth = of_image.get(row["image_id"], []) if whole else row[view.truth] if view.truth else ()
        yield str(row["image_id"]), str(row[view.heading]) if view.heading else "", tuple(map(str, truth))


def _answers(
    kind: type[Kind], view: View, model: str, rows: pd.DataFrame, values: pd.Series[float], graded: bool
) -> list[Answer]:
    """Return a model's answer on each row. values: by the rows' ids."""
    said = _said(kind, view, rows)
    pictured = kind.column_type(view.choices.texts) == "image_ids"
    found = []
    for key, row in zip(rows.index, rows.to_dict("records"), strict=True):
        value = float(values[key])
        words = ", ".join(said[key]) if view.says else "" if graded else _right(value)
        found.append(Answer(model, value, words, tuple(_choices(view, row, pictured))))
    return found


def _right(value: float) -> str:
    return "right" if value >= 1 else "wrong" if value <= 0 else "tied"


def _said(kind: type[Kind], view: View, rows: pd.DataFrame) -> dict[str, list[str]]:
    """Return by row the values of the view's metrics in words: ``rank 3``, ``CIDEr 120.4``."""
    said: dict[str, list[str]] = {key: [] for key in rows.index}
    for metric in (kind.metric(name) for name in view.says):
        if metric is None or not metric.readable(rows.columns):
            continue
        for key, value in _values(metric, metric.rows(rows)).dropna().items():
            known = f"rank {value:.0f}" if metric.unit == "rank" else f"{metric.name} {points(value, metric.info):.1f}"
            said[str(key)].append(known)
    return said


def _choices(view: View, row: dict[Any, Any], pictured: bool) -> Iterator[Choice]:
    """Yield the first choices of a row; of a flattened matrix of scores each text has one of each line."""
    told = row[view.choices.texts]
    texts = [told] if isinstance(told, str) else list(told)
    scores = list(row[view.choices.scores]) if view.choices.scores else []
    right = list(view.choices.right(row)) if view.choices.right else [False] * len(texts)
    for i, text in enumerate(texts[:MAX_CHOICES]):
        words = ", ".join(f"{score:.{view.choices.digits}f}" for score in scores[i :: len(texts)])
        yield Choice(str(text), words, bool(right[i]), str(text) if pictured else "")


def _unseen(key: str, frames: Samples, near: str, wanted: frozenset[str]) -> int:
    """Return how many of a query's neighbours have no thumbnail: with few, there is more to look at."""
    found = [frame.at[key, near] for frame in frames.values()] if near else []
    return sum(str(name) not in wanted for names in found if np.iterable(names) for name in names)


def _hash(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


def _chosen(values: pd.DataFrame, images: pd.Series[str], most: int) -> list[str]:
    """Return keys, one per image, in turn from each pattern of outcomes, those where models disagree first.

    Of many models the patterns are those of the first ones.
    """
    groups: dict[tuple[object, ...], list[str]] = {}
    values = values.iloc[:, :MODELS_TOLD_APART]
    level = values.mean(axis=1).rank(pct=True, method="average")
    for key, row, place in zip(values.index, values.to_numpy(), level, strict=True):
        pattern = (bool((row == row[0]).all()), *np.sign(row - row[0]), int(np.ceil(3 * place)))
        groups.setdefault(pattern, []).append(key)
    ordered = [groups[pattern] for pattern in sorted(groups, key=str)]
    return list(_in_turn(ordered, images, most))


def _in_turn(groups: Sequence[list[str]], images: pd.Series[str], most: int) -> Iterator[str]:
    seen: set[str] = set()
    for turn in range(max((len(group) for group in groups), default=0)):
        for group in groups:
            if turn < len(group) and len(seen) < most and (image := str(images[group[turn]])) not in seen:
                seen.add(image)
                yield group[turn]


def breakdowns(kind: type[Kind], task: str, samples: Samples) -> list[Table]:
    """Return the kind's breakdowns of the samples of a task, those whose columns all models have."""
    columns = set.intersection(*(set(frame.columns) for frame in samples.values())) if samples else set()
    found: list[Table | None] = []
    for one in kind.shown.breakdowns:
        if isinstance(one, Confusions):
            found.append(_confusions(one, task, samples) if {one.truth, one.answer} <= columns else None)
        elif (metric := kind.metric(one.metric)) is None or not metric.readable(columns):
            continue
        elif isinstance(one, Histogram):
            found.append(_histogram(one, metric, task, samples))
        else:
            found.append(_hardest(one, metric, task, samples) if one.by in columns else None)
    return [table for table in found if table is not None and table.lines]


def _hardest(one: Hardest, metric: Metric, task: str, samples: Samples) -> Table | None:
    """Return the groups with the lowest value, by the mean of the models.

    None where most groups have one row: their values are 0 or 1 and say nothing of the group.
    """
    read = {model: metric.rows(frame) for model, frame in samples.items()}
    shares = pd.DataFrame({model: _values(metric, rows).groupby(rows[one.by]).mean() for model, rows in read.items()})
    counts = next(iter(read.values())).groupby(one.by).size()
    if counts.median() < 2:
        return None
    order = shares.assign(mean=shares.mean(axis=1), images=-counts).sort_values(["mean", "images"], kind="stable")
    lines = tuple(
        Line((Entry(str(name)), Entry(str(counts[name]), value=float(counts[name])), *map(_share, shares.loc[name])))
        for name in order.index[:MAX_CLASSES]
    )
    return Table(f"{task}-{one.name}", one.title.format(n=len(lines)), (one.heading, "images", *samples), lines)


def _share(value: float) -> Entry:
    return Entry("–") if np.isnan(value) else Entry(f"{100 * value:.1f}", value=100 * value)


def _confusions(one: Confusions, task: str, samples: Samples) -> Table:
    """Return for each model which truth is taken for which answer most often, twice at least."""
    lines = []
    for model, frame in samples.items():
        pairs = zip(map(first_text, frame[one.truth]), map(first_text, frame[one.answer]), strict=True)
        wrong = Counter((truth, answer) for truth, answer in pairs if truth != answer)
        often = sorted(((pair, n) for pair, n in wrong.items() if n > 1), key=lambda item: (-item[1], item[0]))
        for (truth, answer), count in often[:MAX_CONFUSIONS]:
            fields = (Entry(truth), Entry(answer), Entry(str(count), value=count))
            lines.append(Line((Entry(model, model=model), *fields)))
    columns = ("model", "a picture of", "taken for", "images")
    return Table(f"{task}-{one.name}", one.title, columns, tuple(lines), heads=3)


def _histogram(one: Histogram, metric: Metric, task: str, samples: Samples) -> Table:
    """Return the share of rows in each bin, in percent; a rank between two whole ones belongs to the nearer bin."""
    shares = {model: _places(one, metric, frame) for model, frame in samples.items()}
    lines = tuple(
        Line((Entry(name), *(_share(shares[model][i]) for model in samples))) for i, (_, name) in enumerate(one.bins)
    )
    heading = "rank" if metric.unit == "rank" else metric.name
    return Table(f"{task}-{one.name}", one.title, (heading, *samples), lines, bars=True)


def _places(one: Histogram, metric: Metric, frame: pd.DataFrame) -> list[float]:
    values = _values(metric, metric.rows(frame)).to_numpy()
    ranks = metric.unit == "rank"
    edges = np.array([edge + 0.5 if ranks else edge for edge, _ in one.bins])
    counts = np.bincount(np.searchsorted(edges, values, side="right" if ranks else "left"), minlength=len(edges))
    return [float(count) / max(1, len(values)) for count in counts[: len(edges)]]
