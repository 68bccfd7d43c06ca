"""How a kind of task is shown, as data: tables, galleries, breakdowns, figures, words. Nothing here draws anything."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Literal

import numpy as np
from pydantic import JsonValue

ColumnType = Literal["int", "float", "bool", "text", "ints", "floats", "texts", "image_ids", "caption"]
"""Of a statistic. image_ids: ids of other examples, whose pictures are kept for galleries. caption: a text that the
model wrote of the image, stored also as COCO's server takes it."""

Row = Mapping[str, Any]
"""One row of samples: {column: value}."""


@dataclass(frozen=True)
class Column:
    """A statistic of a sample."""

    name: str
    type: ColumnType
    summary: str


@dataclass(frozen=True)
class Choices:
    """What a model chose among, or took for right.

    texts: a column of text, texts or image_ids. scores: a column of floats; of a flattened (m, n) matrix each of the n
    texts shows its m scores. right: which of them are right, by row. digits: of the scores.
    """

    texts: str
    scores: str = ""
    right: Callable[[Row], Sequence[bool]] | None = None
    label: str = ""
    digits: int = 2


@dataclass(frozen=True)
class View:
    """A gallery of samples; the first one of a kind is also what error analysis and ``compare --samples`` read.

    It is shown where its columns are there, of the rows that its outcome reads.
    outcome: metrics; the first that can be read says whether a model is right on a row (a share of hits) or how well
    it did. says: metrics whose values of a row are printed; none: right, wrong or tied.
    heading: a column whose text stands above; query: that text looks for the image. truth: the column of the
    references; a text column stands for those of all rows of the image. answer: what the model answered (a text, or a
    list whose first counts).
    """

    name: str
    title: str
    outcome: tuple[str, ...]
    choices: Choices
    says: tuple[str, ...] = ()
    heading: str = ""
    query: bool = False
    truth: str = ""
    answer: str = ""

    @property
    def columns(self) -> frozenset[str]:
        """The columns without which there is nothing to show."""
        return frozenset({self.choices.texts, self.choices.scores, self.heading, self.truth} - {""})

    def right_of(self, row: Row) -> str:
        """Return what is right on a row in one text: its heading, truth, or right choice; '' where nothing tells."""
        for name in (self.heading, self.truth):
            if text := first_text(row.get(name)):
                return text
        texts = row.get(self.choices.texts)
        if self.choices.right is None or texts is None:
            return ""
        return next((str(text) for text, right in zip(texts, self.choices.right(row), strict=False) if right), "")

    def answer_of(self, row: Row) -> str:
        """Return what the model answered on a row in one text, '' where nothing tells."""
        return first_text(row.get(self.answer))


def first_text(value: object) -> str:
    """Return a text, or the first of a list of texts; '' for anything else."""
    if isinstance(value, str):
        return value
    return str(value[0]) if isinstance(value, np.ndarray | list | tuple) and len(value) else ""


@dataclass(frozen=True)
class TableSpec:
    """A table of the report: a line per task and model, a column per metric.

    name: ``{kind}`` stands for the kind's name. metrics: names in order, ``*`` for any text; what one pattern finds is
    sorted by the number behind @, then as it comes. but: patterns of metrics left out. Metrics inside a domain
    (``CIDEr[near]``) are found by their plain name. published: published numbers are set apart below. note: said of the
    intervals. fewest: with fewer metrics there is no table.
    """

    name: str
    title: str
    metrics: tuple[str, ...] = ("*",)
    but: tuple[str, ...] = ()
    role: Literal["quality", "health", "cost"] = "quality"
    published: bool = False
    note: str = ""
    fewest: int = 1


@dataclass(frozen=True)
class Histogram:
    """How many rows have which value of a metric, in percent, a column per model. bins: (upper edge, words)."""

    name: str
    title: str
    metric: str
    bins: tuple[tuple[float, str], ...]


@dataclass(frozen=True)
class Hardest:
    """The groups of rows of equal ``by`` with the lowest mean of a metric. ``{n}`` in the title: how many are shown.

    heading: of the column of groups.
    """

    name: str
    title: str
    metric: str
    by: str
    heading: str = "class"


@dataclass(frozen=True)
class Confusions:
    """Which truth is taken for which answer (two columns; of a list its first) most often, by model."""

    name: str
    title: str
    truth: str
    answer: str


Breakdown = Histogram | Hardest | Confusions


@dataclass(frozen=True)
class Figure:
    """Figure 1 of the CoCa blog. unnamed: the metric that is not named beside a task. alone: never mixed with others'.

    None in a Presentation: such a kind is not in the figure.
    """

    unnamed: str = ""
    alone: bool = False


@dataclass(frozen=True)
class Presentation:
    """How a kind is shown.

    title: of the kind, by default its name in words. order: of kinds in tables, lower first. legend: sentences below a
    table with such tasks. costs: it has a page section of costs instead of scores.
    """

    title: str = ""
    order: int = 100
    legend: tuple[str, ...] = ()
    tables: tuple[TableSpec, ...] = (TableSpec("{kind}", "Every metric", fewest=2),)
    views: tuple[View, ...] = ()
    breakdowns: tuple[Breakdown, ...] = ()
    figure: Figure | None = Figure()
    costs: bool = False


class Absent(Enum):
    """What a part of a protocol means where it is absent."""

    UNKNOWN = "unknown"


UNKNOWN = Absent.UNKNOWN


@dataclass(frozen=True)
class Part:
    """A leaf of the protocol (``decoding.prompt``), or a group of leaves (``decoding``), in words.

    differs: what it means that a published run had another one ('': it is not checked against published runs).
    absent: the value that a protocol without it has; UNKNOWN where older versions did not record it.
    """

    words: str
    differs: str = ""
    absent: JsonValue | Absent = UNKNOWN


@dataclass(frozen=True)
class ClipBenchmark:
    """CLIP_benchmark's name of the kind, {its metric: ours} (``{}`` a number), and what our tasks' names end with."""

    task: str
    metrics: Mapping[str, str] = field(default_factory=dict)
    suffix: str = ""

    def ours(self, name: str) -> str:
        """Return our name of one of its metrics; names without a translation are the same."""
        return _translated(name, self.metrics)

    def theirs(self, name: str) -> str:
        """Return its name of one of our metrics."""
        return _translated(name, {ours: theirs for theirs, ours in self.metrics.items()})


def _translated(name: str, table: Mapping[str, str]) -> str:
    for source, target in table.items():
        if found := re.fullmatch(re.escape(source).replace(r"\{\}", r"(\d+)"), name):
            return target.format(*found.groups())
    return name
