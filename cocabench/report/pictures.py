"""The samples on the page: cards of images with each model's answer, chosen to show where models differ.

Every choice is fixed by the ids of the images: the same results give the same cards.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from cocabench.core.errors import BadImageError
from cocabench.core.formatting import points, printed
from cocabench.data.images import BytesImage
from cocabench.kinds.base import Kind
from cocabench.kinds.shown import View
from cocabench.metrics.base import Metric
from cocabench.metrics.statistics import Hits
from cocabench.report.breakdowns import Samples, outcome_metric, row_values
from cocabench.results.store import read_thumbnails

POOL_IMAGES = 512
"""Cards are chosen from this many images: those whose ids hash lowest."""

MAX_CHOICES = 5
"""Choices shown per answer."""

MAX_CARDS, FIRST_CARDS, MIN_CARDS_PER_TASK = 16, 4, 2
"""Cards of a strip, those that it shows at first, and the fewest of a task."""

MAX_PATTERNS = 4
"""Cards cover the patterns of right and wrong of this many models."""


class Near(NamedTuple):
    """One of the choices of an answer: an image by its id. right: whether it is the correct one."""

    picture: str
    right: bool


class Answer(NamedTuple):
    """One model's answer. out: 1 right, 0 wrong, or a score; the page filters by it.

    word: right, wrong, tied, or '' for scores. score: a number in words (``rank 3``). text: the answer. hint: where the
    right one is. bar: the score as a share of the highest on the strip, None for right and wrong. marks: words of the
    text to mark.
    """

    model: str
    out: float
    word: str
    score: str
    text: str
    hint: str = ""
    near: tuple[Near, ...] = ()
    bar: float | None = None
    marks: tuple[str, ...] = ()

    @property
    def parts(self) -> list[tuple[str, bool]]:
        """The text in parts, and whether each is marked.

        >>> Answer("", 0, "", "", "A dog, two hot dogs", marks=("hot dogs",)).parts
        [('A dog, two ', False), ('hot dogs', True)]
        """
        words = "|".join(
            re.escape(word).replace(r"\ ", r"\W+") for word in sorted(set(self.marks), key=len, reverse=True)
        )
        pieces = re.split(rf"(?i)\b({words})\b", self.text) if words else [self.text]
        return [(piece, k % 2 == 1) for k, piece in enumerate(pieces) if piece]


class Card(NamedTuple):
    """An image (picture: its example's id) of a task with a title, further true texts, and an answer per model."""

    task: str
    picture: str
    tag: str
    title: str
    also: str
    answers: tuple[Answer, ...]


@dataclass(frozen=True)
class Strip:
    """The cards of a view. graded: outcomes are scores, not right or wrong. models: those that have answers."""

    name: str
    title: str
    about: str
    graded: bool
    models: tuple[str, ...]
    cards: tuple[Card, ...]


class Task(NamedTuple):
    """A task's samples for the strips. label: on cards. thumbnails: ids of the images that have one."""

    name: str
    label: str
    samples: Samples
    thumbnails: frozenset[str]


def strips(kind: type[Kind], tasks: Sequence[Task], most: int = MAX_CARDS) -> tuple[list[Strip], Strip | None]:
    """Return a strip per view of a kind, and one of images that every model gets wrong (of the first view)."""
    found, wrong = [], None
    for view in kind.shown.views:
        each = max(MIN_CARDS_PER_TASK, most // max(1, len(tasks)))
        made = [made for task in tasks if (made := _View.of(kind, view, task)) is not None]
        if not made:
            continue
        cards = _in_turn([list(one.cards(one.chosen(each))) for one in made], most)
        models = tuple(dict.fromkeys(model for one in made for model in one.frames))
        name = f"{kind.name}-{view.name}"
        if cards:
            title = kind.title() if len(kind.shown.views) == 1 else view.title
            found.append(
                Strip(name, title, view.about, made[0].graded, models, tuple(_with_bars(cards, made[0].graded)))
            )
        if view is kind.shown.views[0] and not made[0].graded:
            hard = _in_turn([list(one.cards(one.hardest(FIRST_CARDS))) for one in made], FIRST_CARDS)
            wrong = Strip(f"{name}-hard", "Wrong for every model", "", False, models, tuple(hard)) if hard else None
    return found, wrong


def _in_turn(groups: Sequence[list[Card]], most: int) -> list[Card]:
    """Return cards of the groups in turn, each image once."""
    found: dict[str, Card] = {}
    for turn in range(max(map(len, groups), default=0)):
        for group in groups:
            if turn < len(group) and len(found) < most:
                found.setdefault(f"{group[turn].task}/{group[turn].picture}", group[turn])
    return list(found.values())


def _with_bars(cards: Sequence[Card], graded: bool) -> Iterator[Card]:
    """Give scores a bar, relative to the highest on the strip."""
    top = max((answer.out for card in cards for answer in card.answers), default=0.0)
    for card in cards:
        bars = (a._replace(bar=max(0.0, a.out / top)) if graded and top > 0 else a for a in card.answers)
        yield card._replace(answers=tuple(bars))


@dataclass(frozen=True)
class _View:
    """A task's view. frames: {model: rows of the images to choose from, by id}. values: (rows, models) outcomes."""

    kind: type[Kind]
    view: View
    task: Task
    metric: Metric | None
    frames: Mapping[str, pd.DataFrame]
    values: pd.DataFrame

    @classmethod
    def of(cls, kind: type[Kind], view: View, task: Task) -> _View | None:
        """Return the view of a task; None if the samples lack its columns."""
        if not task.samples or any(not view.columns <= set(frame) for frame in task.samples.values()):
            return None
        metric = outcome_metric(kind, view.outcome, list(task.samples.values()))
        asked = {m: (metric.rows(f) if metric else f).drop_duplicates("id") for m, f in task.samples.items()}
        frames = {model: frame.set_index("id", drop=False) for model, frame in asked.items()}
        first, *others = frames.values()
        shared = functools.reduce(lambda index, frame: index.intersection(frame.index), others, first.index)
        images = first["image_id"].astype(str)
        near = view.choices.texts if kind.column_type(view.choices.texts) == "image_ids" else ""
        pictured = [key for key in shared if images[key] in task.thumbnails] or list(shared)
        lacking = {key: _without_thumbnail(key, frames, near, task.thumbnails) for key in pictured} if near else {}
        keys = sorted(pictured, key=lambda key: (lacking.get(key, 0), hashed(key)))[:POOL_IMAGES]
        if not keys:
            return None
        values = pd.DataFrame(
            {m: row_values(metric, f.loc[keys]) if metric else pd.Series(0.0, index=keys) for m, f in frames.items()}
        )
        return cls(kind, view, task, metric, {m: f.loc[keys] for m, f in frames.items()}, values)

    @property
    def graded(self) -> bool:
        return self.metric is None or not isinstance(self.metric.statistic, Hits)

    def chosen(self, n: int) -> list[tuple[str, str]]:
        """Return (key, tag) of n rows: of scores the most different, the best and the worst; else by pattern."""
        if self.graded and self.metric is not None and len(self.frames) > 1:
            return self._by_spread(n)
        if self.graded:
            return [(key, "") for key in self.values.index[:n]]
        return [(key, self.task.label) for key in _by_pattern(self.values, n)]

    def _by_spread(self, n: int) -> list[tuple[str, str]]:
        lows, highs = self.values.min(axis=1), self.values.max(axis=1)
        spread = (highs - lows).sort_values(ascending=False, kind="stable")
        best = lows.sort_values(ascending=False, kind="stable").index
        worst = highs.sort_values(kind="stable").index
        unit = points(1.0, self.metric.info) if self.metric else 1.0
        what = "both" if len(self.frames) == 2 else "all"
        half, quarter = max(1, n // 2), max(1, n // 4)
        usual = self.values.to_numpy().mean()  # of few rows, or of equal ones, the last is not a bad one
        tagged = [(str(key), f"most different, by {unit * gap:.0f}") for key, gap in spread.items() if unit * gap > 0.5]
        best_ones = [(str(key), f"best for {what}") for key in best if lows[key] > usual]
        worst_ones = [(str(key), f"worst for {what}") for key in worst if highs[key] < usual]
        others = [(str(key), "") for key in self.values.index]
        found: dict[str, str] = {}
        for some, limit in ((tagged, half), (best_ones, half + quarter), (worst_ones, n), (tagged, n), (others, n)):
            for key, tag in some:
                if len(found) < limit:
                    found.setdefault(key, tag)
        return _spread_out(list(found.items()), n)

    def hardest(self, n: int) -> list[tuple[str, str]]:
        """Return (key, tag) of rows that every model gets wrong: those with the worst ranks, if ranks are known."""
        wrong = self.values.index[(self.values <= 0).all(axis=1)]
        rank = next((m for name in self.view.says if (m := self.kind.metric(name)) and m.unit == "rank"), None)
        if rank is not None and len(wrong):
            ranks = pd.DataFrame({m: row_values(rank, rank.rows(f.loc[wrong])) for m, f in self.frames.items()})
            order = ranks.min(axis=1).sort_values(ascending=False, kind="stable").index
            near = self.view.choices.texts if self.kind.column_type(self.view.choices.texts) == "image_ids" else ""
            lacking = {k: _without_thumbnail(k, self.frames, near, self.task.thumbnails) if near else 0 for k in order}
            wrong = pd.Index(sorted(order, key=lambda key: lacking[key] > 0))
        return [(str(key), self.task.label) for key in wrong[:n]]

    def cards(self, chosen: Sequence[tuple[str, str]]) -> Iterator[Card]:
        keys = [key for key, _ in chosen]
        first_samples, first = next(iter(self.task.samples.values())), next(iter(self.frames.values())).loc[keys]
        heads = list(self._heads(first_samples, first))
        own = [texts[0] if len(texts) == 1 else "" for _, _, texts in heads]
        answers = {model: self._answers(model, frame.loc[keys], own) for model, frame in self.frames.items()}
        for i, ((_, tag), head) in enumerate(zip(chosen, heads, strict=True)):
            picture, title, truth = head
            also = [text for text in truth if text != title]
            word = "right" if len(also) == len(truth) else "also"  # a question is no answer
            words = f"{word}: {'; '.join(also[:2])}{' …' if len(also) > 2 else ''}" if also and title else ""
            yield Card(self.task.name, picture, tag, title, words, tuple(mine[i] for mine in answers.values()))

    def _heads(self, frame: pd.DataFrame, rows: pd.DataFrame) -> Iterator[tuple[str, str, tuple[str, ...]]]:
        """Yield picture, title and true texts per row; a text column as truth means all texts of the row's image."""
        of_image: dict[Any, list[Any]] = {}
        view, whole = self.view, self.kind.column_type(self.view.truth) in ("text", "caption")
        if whole:
            of_image = frame[frame[view.truth].notna()].groupby("image_id")[view.truth].agg(list).to_dict()
        for row in rows.to_dict("records"):
            truth = of_image.get(row["image_id"], []) if whole else row[view.truth] if view.truth else ()
            texts = tuple(map(str, truth))
            known = texts[0] if texts else view.right_of({str(name): value for name, value in row.items()})
            yield str(row["image_id"]), str(row[view.heading]) if view.heading else known, texts

    def _answers(self, model: str, rows: pd.DataFrame, own: Sequence[str]) -> list[Answer]:
        """Return a model's answer to each row. own: the only right text of each row, '' if there are several."""
        said, rank = self._said(rows), self._ranks(rows)
        unit = points(1.0, self.metric.info) if self.metric else 1.0
        found = []
        outs = self.values.loc[rows.index, model].tolist()
        for key, row, right, out in zip(rows.index, rows.to_dict("records"), own, outs, strict=True):
            word = "" if self.graded else "right" if out >= 1 else "wrong" if out <= 0 else "tied"
            text, hint, near = self._answer(row, rank.get(str(key)), right)
            score = ", ".join(said[str(key)]) or (f"{out * unit:.0f}" if self.graded and self.metric else "")
            marked = row.get(self.view.marks)
            marks = tuple(map(str, marked)) if isinstance(marked, np.ndarray | list) else ()
            value = out * unit if self.graded else out
            found.append(Answer(model, value, word, score, text, hint, near, marks=marks))
        return found

    def _answer(self, row: Mapping[Any, Any], rank: float | None, title: str) -> tuple[str, str, tuple[Near, ...]]:
        """Return a model's answer as text, a hint at the place of the right one, and the images that it chose."""
        view, choices = self.view, self.view.choices
        value = row[choices.texts]
        texts = [value] if isinstance(value, str) else [str(text) for text in value]
        if self.kind.column_type(choices.texts) == "image_ids":
            near = [Near(text, False) for text in texts[:MAX_CHOICES]]
            if rank is not None and rank < MAX_CHOICES + 0.5:
                near.insert(round(rank) - 1, Near(str(row["image_id"]), True))
            return "", "", tuple(near[:MAX_CHOICES])
        if rank is not None and rank < 1.5:
            return title or "the right one", "", ()
        text = view.answer_of(row) or (texts[0] if texts else "")
        right = list(choices.right(row)) if choices.right else []
        place = right.index(True) + 1 if True in right else 0
        return text, f"right answer is no. {place}" if place > 1 and self._ordered(row) else "", ()

    def _ordered(self, row: Mapping[Any, Any]) -> bool:
        """Return whether the choices are sorted by score, so that a place in them is a rank."""
        scores = row.get(self.view.choices.scores) if self.view.choices.scores else None
        return scores is not None and len(scores) > 1 and bool(np.all(np.diff(np.asarray(scores, float)) <= 0))

    def _said(self, rows: pd.DataFrame) -> dict[str, list[str]]:
        """Return the values of the view's metrics per row as text: ``rank 3``; the outcome's own value first."""
        said: dict[str, list[str]] = {str(key): [] for key in rows.index}
        for metric in (self.kind.metric(name) for name in self.view.says):
            if metric is None or not metric.readable(rows.columns) or metric is self.metric:
                continue
            if self.graded and self.metric is not None and metric.name in self.view.outcome:
                continue
            for key, value in row_values(metric, metric.rows(rows)).dropna().items():
                known = (
                    f"rank {value:,.0f}" if metric.unit == "rank" else f"{metric.name} {printed(value, metric.info)}"
                )
                said[str(key)].append(known)
        return said

    def _ranks(self, rows: pd.DataFrame) -> dict[str, float]:
        metric = self.kind.metric(self.view.choices.rank) if self.view.choices.rank else None
        if metric is None or not metric.readable(rows.columns):
            return {}
        values = row_values(metric, metric.rows(rows)).dropna()
        return dict(zip(map(str, values.index), values.tolist(), strict=True))


def _without_thumbnail(key: str, frames: Samples, near: str, wanted: frozenset[str]) -> int:
    """Return how many of a query's neighbours have no thumbnail; cards with few are preferred."""
    found = [frame.at[key, near] for frame in frames.values()]
    return sum(str(name) not in wanted for names in found if np.iterable(names) for name in names)


def hashed(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


def _by_pattern(values: pd.DataFrame, n: int) -> list[str]:
    """Return n keys, taking turns between patterns of outcomes, disagreements first."""
    groups: dict[tuple[object, ...], list[str]] = {}
    values = values.iloc[:, :MAX_PATTERNS]
    for key, row in zip(values.index, values.to_numpy(), strict=True):
        groups.setdefault((bool((row == row[0]).all()), *np.sign(row - row[0]), float(row[0])), []).append(str(key))
    ordered = [groups[pattern] for pattern in sorted(groups, key=str)]
    turns = range(max(map(len, ordered), default=0))
    return [group[turn] for turn in turns for group in ordered if turn < len(group)][:n]


def _spread_out(items: Sequence[tuple[str, str]], n: int) -> list[tuple[str, str]]:
    """Return the tagged rows so that the first eight show four that differ, two of the best and two of the worst."""
    by_word: dict[str, list[tuple[str, str]]] = {}
    for key, tag in items:
        by_word.setdefault(tag.split(" ")[0], []).append((key, tag))
    parts = [by_word.get(word, []) for word in ("most", "best", "worst")]
    first = [*parts[0][:4], *parts[1][:2], *parts[2][:2]]
    return [*first, *(item for item in items if item not in first)][:n]


# Thumbnails.

THUMBNAIL_PIXELS = 132
"""Longer side: sharp at the 66 to 72 CSS pixels of a card on a high-density screen."""

JPEG_QUALITY = 78

MAX_THUMBNAILS, MAX_THUMBNAIL_BYTES = 300, 1_200_000
"""Thumbnails of a whole page, and their bytes before base64."""


class Thumbnail(NamedTuple):
    """A picture of the page: its key, data URL, and size in pixels."""

    key: str
    url: str
    width: int
    height: int


class Thumbnails:
    """The page's thumbnails; equal images are stored once, images beyond the limits are left out.

    max_images: 0 for none.
    """

    def __init__(self, max_images: int = MAX_THUMBNAILS, max_bytes: int = MAX_THUMBNAIL_BYTES) -> None:
        self.max_images, self._left = max_images, max_bytes
        self._images: dict[str, Thumbnail] = {}
        self._of: dict[tuple[Path, str], str] = {}
        self._files: dict[Path, dict[str, bytes]] = {}

    def ids(self, file: Path | None) -> frozenset[str]:
        """Return the example ids in a thumbnails file."""
        return frozenset(self._read(file))

    def add(self, file: Path | None, example: str) -> str:
        """Return the key of an example's image, '' if there is none or a limit is reached."""
        data = self._read(file).get(example)
        if data is None or file is None:
            return ""
        name = hashlib.sha256(data).hexdigest()
        if name not in self._images and len(self._images) < self.max_images:
            small, width, height = _small(data)
            if small and len(small) <= self._left:
                self._left -= len(small)
                url = f"data:image/jpeg;base64,{base64.b64encode(small).decode()}"
                self._images[name] = Thumbnail(f"i{len(self._images)}", url, width, height)
        if name in self._images:
            self._of[file, example] = self._images[name].key
        return self.key(file, example)

    def key(self, file: Path | None, example: str) -> str:
        """Return the key of an image that was added, '' for others."""
        return self._of.get((file, example), "") if file else ""

    @property
    def images(self) -> tuple[Thumbnail, ...]:
        return tuple(self._images.values())

    def _read(self, file: Path | None) -> dict[str, bytes]:
        if file is None or not self.max_images:
            return {}
        if file not in self._files:
            self._files[file] = read_thumbnails(file)
        return self._files[file]


def _small(data: bytes) -> tuple[bytes, int, int]:
    """Return a picture as a smaller JPEG with its size; nothing for one that cannot be read."""
    try:
        image = BytesImage(data, "a thumbnail").open().convert("RGB")
    except BadImageError:
        return b"", 0, 0
    image.thumbnail((THUMBNAIL_PIXELS, THUMBNAIL_PIXELS))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=JPEG_QUALITY, optimize=True)
    return buffer.getvalue(), image.width, image.height
