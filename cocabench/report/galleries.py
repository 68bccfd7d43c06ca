"""Sample galleries and breakdowns of one task, as its kind declares them.

Gallery items are chosen to show both agreement and disagreement between models. Samples are {model: its frame}.
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
"""Items are chosen from this many images: those whose ids hash lowest."""

MAX_MODELS_IN_PATTERNS = 4
"""Items cover the patterns of right and wrong of this many models."""

MAX_CHOICES = 5
"""Choices shown per answer."""

MAX_CLASSES, MAX_CONFUSIONS = 10, 6
"""Rows in the table of hardest classes, and confusions per model."""


class Choice(NamedTuple):
    """One choice: a class, a text, or an image by its id. picture: the id of the image to show, '' for texts."""

    text: str
    score: str = ""
    right: bool = False
    picture: str = ""


class Answer(NamedTuple):
    """One model's answer. value: 1 right, 0 wrong, or a score; the page filters by it."""

    model: str
    value: float
    words: str
    choices: tuple[Choice, ...]


class Item(NamedTuple):
    """An image (picture: its example id) with heading, ground truth, and an answer per model."""

    picture: str
    title: str
    truth: tuple[str, ...]
    answers: tuple[Answer, ...]


class Gallery(NamedTuple):
    """The items of a view.

    graded: outcomes are scores, not right or wrong. single: an answer is one text. pictured: choices are images.
    """

    view: View
    graded: bool
    single: bool
    pictured: bool
    examples: tuple[Item, ...]


def pool(samples: pd.DataFrame, wanted: frozenset[str]) -> list[str]:
    """Return the ids of the images to choose items from; only wanted ones (with thumbnails), if there are any."""
    images = samples["image_id"].astype(str).unique()
    return sorted([name for name in images if name in wanted] or images, key=_hash)[:POOL_IMAGES]


def outcomes(kind: type[Kind], samples: pd.DataFrame) -> npt.NDArray[np.float64]:
    """Return a model's outcome on each sample, by the kind's first view; empty if no metric applies."""
    metric = next((m for view in kind.shown.views[:1] if (m := _outcome(kind, view, [samples]))), None)
    if metric is None:
        return np.empty(0)
    return np.asarray(_values(metric, metric.rows(samples)), dtype=np.float64)


def _outcome(kind: type[Kind], view: View, frames: Sequence[pd.DataFrame]) -> Metric | None:
    """Return the view's first metric with per-row values whose columns all frames have."""
    metrics = (metric for name in view.outcome if (metric := kind.metric(name)))
    return next((metric for metric in metrics if all(_readable(metric, frame) for frame in frames)), None)


def _readable(metric: Metric, frame: pd.DataFrame) -> bool:
    return metric.readable(frame.columns) and metric.statistic.per_row(metric.rows(frame)[:1]) is not None


def _values(metric: Metric, rows: pd.DataFrame) -> pd.Series[float]:
    return pd.Series(metric.statistic.per_row(rows), index=rows.index, dtype=np.float64)


def galleries(kind: type[Kind], samples: Samples, wanted: frozenset[str], max_items: int) -> list[Gallery]:
    """Return the galleries for which the samples have the columns, with at most max_items items each.

    samples: of the images that ``pool`` returned. wanted: ids of images with thumbnails.
    """
    made = [_gallery(kind, view, samples, wanted, max_items) for view in kind.shown.views]
    return [gallery for gallery in made if gallery is not None and gallery.examples]


def _gallery(kind: type[Kind], view: View, samples: Samples, wanted: frozenset[str], max_items: int) -> Gallery | None:
    if any(not view.columns <= set(frame) for frame in samples.values()):
        return None
    metric = _outcome(kind, view, list(samples.values()))
    asked = {m: (metric.rows(f) if metric else f).drop_duplicates("id") for m, f in samples.items()}
    frames = {model: frame.set_index("id", drop=False) for model, frame in asked.items()}
    first, *others = frames.values()
    shared = functools.reduce(lambda index, frame: index.intersection(frame.index), others, first.index)
    type_ = kind.column_type(view.choices.texts)
    near = view.choices.texts if type_ == "image_ids" else ""
    seen = sorted(shared, key=lambda key: (_missing_thumbnails(key, frames, near, wanted), _hash(key)))[:POOL_IMAGES]
    values = pd.DataFrame(
        {m: _values(metric, f.loc[seen]) if metric else pd.Series(0.0, index=seen) for m, f in frames.items()}
    )
    keys = _chosen(values, first["image_id"], max_items)
    shown = {model: frame.loc[keys] for model, frame in frames.items()}
    graded = metric is None or not isinstance(metric.statistic, Hits)
    answers = {model: _answers(kind, view, model, rows, values[model], graded) for model, rows in shown.items()}
    heads = _heads(kind, view, next(iter(samples.values())), next(iter(shown.values())))
    items = (Item(*head, tuple(answers[m][i] for m in answers)) for i, head in enumerate(heads))
    return Gallery(view, graded, type_ in ("text", "caption"), type_ == "image_ids", tuple(items))


def _heads(
    kind: type[Kind], view: View, frame: pd.DataFrame, rows: pd.DataFrame
) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Yield picture, title and ground truth per row; a text column as truth means all texts of the row's image."""
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
    """Return a model's answer per row. values: by row id."""
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
    """Return the values of the view's metrics per row as text: ``rank 3``, ``CIDEr 120.4``."""
    said: dict[str, list[str]] = {key: [] for key in rows.index}
    for metric in (kind.metric(name) for name in view.says):
        if metric is None or not metric.readable(rows.columns):
            continue
        for key, value in _values(metric, metric.rows(rows)).dropna().items():
            known = f"rank {value:.0f}" if metric.unit == "rank" else f"{metric.name} {points(value, metric.info):.1f}"
            said[str(key)].append(known)
    return said


def _choices(view: View, row: dict[Any, Any], pictured: bool) -> Iterator[Choice]:
    """Yield the first choices of a row; with a flattened (m, n) matrix of scores each text has m scores."""
    value = row[view.choices.texts]
    texts = [value] if isinstance(value, str) else list(value)
    scores = list(row[view.choices.scores]) if view.choices.scores else []
    right = list(view.choices.right(row)) if view.choices.right else [False] * len(texts)
    for i, text in enumerate(texts[:MAX_CHOICES]):
        words = ", ".join(f"{score:.{view.choices.digits}f}" for score in scores[i :: len(texts)])
        yield Choice(str(text), words, bool(right[i]), str(text) if pictured else "")


def _missing_thumbnails(key: str, frames: Samples, near: str, wanted: frozenset[str]) -> int:
    """Return how many of a query's neighbours have no thumbnail; items with few are preferred."""
    found = [frame.at[key, near] for frame in frames.values()] if near else []
    return sum(str(name) not in wanted for names in found if np.iterable(names) for name in names)


def _hash(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


def _chosen(values: pd.DataFrame, images: pd.Series[str], max_items: int) -> list[str]:
    """Return keys, one per image, taking turns between patterns of outcomes, disagreements first.

    With many models the patterns are those of the first ones.
    """
    groups: dict[tuple[object, ...], list[str]] = {}
    values = values.iloc[:, :MAX_MODELS_IN_PATTERNS]
    level = values.mean(axis=1).rank(pct=True, method="average")
    for key, row, place in zip(values.index, values.to_numpy(), level, strict=True):
        pattern = (bool((row == row[0]).all()), *np.sign(row - row[0]), int(np.ceil(3 * place)))
        groups.setdefault(pattern, []).append(key)
    ordered = [groups[pattern] for pattern in sorted(groups, key=str)]
    return list(_in_turn(ordered, images, max_items))


def _in_turn(groups: Sequence[list[str]], images: pd.Series[str], max_items: int) -> Iterator[str]:
    seen: set[str] = set()
    for turn in range(max((len(group) for group in groups), default=0)):
        for group in groups:
            if turn < len(group) and len(seen) < max_items and (image := str(images[group[turn]])) not in seen:
                seen.add(image)
                yield group[turn]


def breakdowns(kind: type[Kind], task: str, samples: Samples) -> list[Table]:
    """Return the kind's breakdowns whose columns all models' samples have."""
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
    """Return the groups with the lowest value, averaged over models.

    None if most groups have one row: then their values are 0 or 1 and say nothing about the group.
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
    """Return each model's most frequent confusions of a true class with an answer, at least twice each."""
    lines = []
    for model, frame in samples.items():
        pairs = zip(map(first_text, frame[one.truth]), map(first_text, frame[one.answer]), strict=True)
        wrong = Counter((truth, answer) for truth, answer in pairs if truth != answer)
        often = sorted(((pair, n) for pair, n in wrong.items() if n > 1), key=lambda item: (-item[1], item[0]))
        for (truth, answer), count in often[:MAX_CONFUSIONS]:
            fields = (Entry(truth), Entry(answer), Entry(str(count), value=count))
            lines.append(Line((Entry(model, model=model), *fields)))
    columns = ("model", "true class", "predicted", "images")
    return Table(f"{task}-{one.name}", one.title, columns, tuple(lines), heads=3)


def _histogram(one: Histogram, metric: Metric, task: str, samples: Samples) -> Table:
    """Return the share of rows per bin, in percent; a fractional rank belongs to the nearer bin."""
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
