"""What the figures are drawn from: plain values that travel between processes and can be hashed."""

from __future__ import annotations

from typing import NamedTuple

from cocabench.report.colours import Style
from cocabench.report.pair import Score


class Point(NamedTuple):
    """A model at its cost (x) and quality (y, points). front: no other is as good for as little."""

    model: str
    x: float
    y: Score
    front: bool
    style: Style


class Series(NamedTuple):
    """A line of a small multiple or of a curve: x in its unit, y in points. best: the x that is ringed."""

    name: str
    xs: tuple[float, ...]
    ys: tuple[Score, ...]
    style: Style
    best: int | None = None


class Panel(NamedTuple):
    """A small multiple: a title, and a line per model."""

    title: str
    series: tuple[Series, ...]
