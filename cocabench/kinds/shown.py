"""How a kind of task is presented, as data: tables, galleries, breakdowns, texts. Nothing here draws."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import JsonValue

if TYPE_CHECKING:
    import pandas as pd

ColumnType = Literal["int", "float", "bool", "text", "ints", "floats", "texts", "image_ids", "caption"]
"""The type of a statistic. image_ids: ids of other examples, whose thumbnails are stored for galleries. caption: a
generated caption, also written in COCO's result format."""

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
    """The choices of a model to show.

    texts: a column of text, texts or image_ids. scores: a column of floats; of a flattened (m, n) matrix each of the n
    texts shows its m scores. right: returns which choices of a row are correct. rank: where texts leave the correct
    choice out, the metric whose value is its rank; it is shown at that place.
    """

    texts: str
    scores: str = ""
    right: Callable[[Row], Sequence[bool]] | None = None
    rank: str = ""


@dataclass(frozen=True)
class View:
    """A gallery of samples. ``compare --samples`` and error analysis use a kind's first view.

    It is shown if the samples have its columns, for the rows that its outcome metric reads.
    outcome: metrics; the first readable one grades a row, as right or wrong (a share of hits) or by its value.
    says: metrics whose values are printed per row; if empty, right, wrong or tied is printed. heading: a column shown
    as heading; query: whether that text is the query. truth: the column of references; a text column means the texts
    of all rows of the image. answer: the column of the model's answer (a text, or a list whose first entry counts).
    about: a sentence on how to read the answers. marks: a column of words that are marked in a text answer.
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
    about: str = ""
    marks: str = ""

    @property
    def columns(self) -> frozenset[str]:
        """The columns that the samples must have."""
        return frozenset({self.choices.texts, self.choices.scores, self.heading, self.truth} - {""})

    def right_of(self, row: Row) -> str:
        """Return the correct answer of a row as text: its heading, truth or correct choice; '' if unknown."""
        for name in (self.truth,) if self.query and self.truth else (self.heading, self.truth):
            if text := first_text(row.get(name)):
                return text
        texts = row.get(self.choices.texts)
        if self.choices.right is None or texts is None:
            return ""
        return next((str(text) for text, right in zip(texts, self.choices.right(row), strict=False) if right), "")

    def answer_of(self, row: Row) -> str:
        """Return the model's answer on a row as text, '' if unknown."""
        return first_text(row.get(self.answer))


def first_text(value: object) -> str:
    """Return a text, or the first of a list of texts; '' for anything else."""
    if isinstance(value, str):
        return value
    return str(value[0]) if isinstance(value, np.ndarray | list | tuple) and len(value) else ""


@dataclass(frozen=True)
class TableSpec:
    """A table of the report: a row per task and model, a column per metric.

    name: ``{kind}`` is replaced by the kind's name. metrics: patterns in column order, with ``*`` as wildcard; matches
    of one pattern are sorted by the number after @. but: patterns of metrics to leave out. Metrics of a domain
    (``CIDEr[near]``) match by their plain name. published: show published numbers in a part below. note: a note on
    the intervals. fewest: the minimum number of metrics; with fewer there is no table.
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
class Curve:
    """A metric of a family over its number, on a logarithmic axis. metric: its name with ``{}``. axis: its label."""

    name: str
    title: str
    metric: str
    ks: tuple[int, ...] = (1, 2, 3, 5, 10, 20, 50, 100)
    axis: str = "K"


@dataclass(frozen=True)
class Trend:
    """A metric over a column of positive numbers, on a logarithmic axis: a point for each range of it.

    by: the column. ends: the last numbers of the ranges, ascending; a point stands at the mean of its range. axis: its
    label. fewest: smaller ranges are left out.
    """

    name: str
    title: str
    metric: str
    by: str
    ends: tuple[float, ...]
    axis: str
    fewest: int = 5


@dataclass(frozen=True)
class Reliability:
    """A metric over the probabilities (0-1) that the model gave its answers, in ten ranges of equal width.

    columns: those that of reads, besides the metric's; of: returns a probability for each row of samples. fewest:
    smaller ranges are left out.
    """

    name: str
    title: str
    metric: str
    columns: tuple[str, ...]
    of: Callable[[pd.DataFrame], npt.NDArray[np.float64]]
    fewest: int = 5


@dataclass(frozen=True)
class Groups:
    """A metric in groups of rows, with intervals.

    by: a column, or a function of the samples that returns the group of each row as text, '' for none; categories are
    shown in their order, other groups by size. fewest: smaller groups are left out. rest: the name of one group of all
    others, '' for none. worst: show the groups with the lowest means, and those on which models differ most. heading:
    of the column of groups.
    """

    name: str
    title: str
    metric: str
    by: str | Callable[[pd.DataFrame], pd.Series[str]]
    heading: str = "class"
    fewest: int = 2
    rest: str = ""
    worst: bool = False


@dataclass(frozen=True)
class Confusions:
    """The most frequent confusions per model. truth, answer: columns; of a list the first entry counts."""

    name: str
    title: str
    truth: str
    answer: str


@dataclass(frozen=True)
class Repeats:
    """The most frequent texts of each model, which it gives to several images. text: the column."""

    name: str
    title: str
    text: str


Breakdown = Curve | Trend | Reliability | Groups | Confusions | Repeats


@dataclass(frozen=True)
class Presentation:
    """How a kind is presented.

    title: by default the kind's name with spaces. does: what a model does in such tasks, as a verb (``classifies``).
    order: kinds are sorted by it. legend: sentences below tables with such tasks. costs: show it in the section on
    costs, not with the scores. guide: lines below a list of such tasks, on what to choose in
    their params.
    """

    title: str = ""
    does: str = ""
    order: int = 100
    legend: tuple[str, ...] = ()
    tables: tuple[TableSpec, ...] = (TableSpec("{kind}", "All metrics", fewest=2),)
    views: tuple[View, ...] = ()
    breakdowns: tuple[Breakdown, ...] = ()
    costs: bool = False
    guide: tuple[str, ...] = ()


class Absent(Enum):
    """The meaning of an absent part of a protocol."""

    UNKNOWN = "unknown"


UNKNOWN = Absent.UNKNOWN


@dataclass(frozen=True)
class Part:
    """The description of a leaf of the protocol (``decoding.prompt``), or of a group of leaves (``decoding``).

    differs: the cause to name if a published run's value differs ('': not compared with published runs). absent: the
    value of a protocol without it; UNKNOWN if older versions did not record it.
    """

    words: str
    differs: str = ""
    absent: JsonValue | Absent = UNKNOWN


class Foreign(NamedTuple):
    """What another program's table of metrics says: {our metric: value}, parts of the protocol, and a remark or ''."""

    metrics: Mapping[str, object]
    protocol: Mapping[str, JsonValue] = {}
    said: str = ""


@dataclass(frozen=True)
class ClipBenchmark:
    """CLIP_benchmark's name of the kind, {its metric: ours} (``{}`` is a number), and the suffix of our task names.

    reads: reads a table of metrics that also holds settings. only: the part of our protocol, and its value, of results
    that CLIP_benchmark would call by its name; all by default.
    """

    task: str
    metrics: Mapping[str, str] = field(default_factory=dict)
    suffix: str = ""
    reads: Callable[[Mapping[str, Any]], Foreign] | None = None
    only: tuple[str, JsonValue] | None = None

    def read(self, metrics: Mapping[str, Any]) -> Foreign:
        """Return what a table of CLIP_benchmark's metrics says."""
        if self.reads is not None:
            return self.reads(metrics)
        return Foreign({self.ours(name): value for name, value in metrics.items()})

    def has(self, protocol: Mapping[str, JsonValue]) -> bool:
        """Return whether CLIP_benchmark has results of this protocol."""
        return self.only is None or protocol.get(self.only[0]) == self.only[1]

    def ours(self, name: str) -> str:
        """Return our name of CLIP_benchmark's metric; the same name if there is no translation."""
        return _translated(name, self.metrics)

    def theirs(self, name: str) -> str:
        """Return CLIP_benchmark's name of our metric."""
        return _translated(name, {ours: theirs for theirs, ours in self.metrics.items()})


def _translated(name: str, table: Mapping[str, str]) -> str:
    for source, target in table.items():
        if found := re.fullmatch(re.escape(source).replace(r"\{\}", r"(\d+)"), name):
            return target.format(*found.groups())
    return name
