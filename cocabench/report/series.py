"""The data of figures: a colour and a mark per model, numbers with intervals, and series of them.

Hues are those of Okabe and Ito, which colour-blind readers can distinguish, darkened to a contrast of 4.5 on white and
lightened to as much on dark. More models than colours differ by marks. All values can be pickled and hashed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from cocabench.report.content import plain

LIGHT = ("#0067A3", "#B84A00", "#007A5A", "#A34480", "#8A6100", "#5F5F5F")
DARK = ("#5CB8EE", "#F58E4A", "#35CFA2", "#E9A3CF", "#E6B53C", "#B5B5B5")
INK, MUTED, RULE = "#1C1D20", "#5C6066", "#D9DBDE"
MARKS = ("o", "D", "s", "^", "v", "P")


class Style(NamedTuple):
    """A model's style: the index of its colour, and its mark (a matplotlib marker)."""

    colour: int
    mark: str

    @property
    def light(self) -> str:
        return LIGHT[self.colour]


def styles(models: Iterable[str]) -> dict[str, Style]:
    """Return a Style per model; a published model has the colour of the measured one, with another mark."""
    models = list(dict.fromkeys(models))
    order = {name: i for i, name in enumerate(dict.fromkeys(map(plain, models)))}
    seen: dict[str, int] = {}
    found = {}
    for model in models:
        i, again = order[plain(model)], seen.setdefault(plain(model), 0)
        seen[plain(model)] += 1
        found[model] = Style(i % len(LIGHT), MARKS[(i + i // len(LIGHT) + 3 * again) % len(MARKS)])
    return found


def css(palette: Mapping[str, Style]) -> str:
    """Return the CSS variables ``--c0`` … with light and dark values."""
    used = sorted({style.colour for style in palette.values()})
    return " ".join(f"--c{i}: light-dark({LIGHT[i]}, {DARK[i]});" for i in used)


def themed(svg: str) -> str:
    """Replace an SVG's fixed colours by the page's CSS variables."""
    for i, colour in enumerate(LIGHT):
        svg = svg.replace(colour.lower(), f"var(--c{i})")
    for colour, name in ((INK, "ink"), (MUTED, "muted"), (RULE, "rule")):
        svg = svg.replace(colour.lower(), f"var(--{name})")
    return svg


class Score(NamedTuple):
    """A number with its interval, in points; low and high are None if unknown."""

    value: float
    low: float | None
    high: float | None


class Point(NamedTuple):
    """A model at its cost (x) and quality (y, points). front: whether it is on the Pareto front."""

    model: str
    x: float
    y: Score
    front: bool
    style: Style


class Series(NamedTuple):
    """A line of a panel or curve: x in its unit, y in points. best: index of the point to ring."""

    name: str
    xs: tuple[float, ...]
    ys: tuple[Score, ...]
    style: Style
    best: int | None = None


class Panel(NamedTuple):
    """A small multiple: a title, and a line per model."""

    title: str
    series: tuple[Series, ...]
