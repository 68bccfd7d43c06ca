"""Draw the page's figures with matplotlib's object API, for papers: no global state, the same data, the same bytes.

Marks differ by shape, hollow ones are not significant, and labels stand beside lines: black and white suffices.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator

from cocabench.core.formatting import shortened
from cocabench.report.charts import Chart, Dots, Forest
from cocabench.report.drawing import HEIGHT, LEFT, TOP, WIDTH, drawn
from cocabench.report.style import INK, LIGHT, MARKS, MUTED, PAGE, RULE, Axis, Score

WIDTH_INCHES, ROW_INCHES, MARK_INCHES = 6.8, 0.12, 0.11
"""The width of a figure with rows, the height of an empty row, and of each mark in it."""

TOP_INCHES, BOTTOM_INCHES, HEAD_INCHES, HEADING_INCHES = 0.5, 0.12, 0.5, 0.24
MAX_LEGEND_COLUMNS = 4
LETTER_INCHES, MAX_LABEL_LETTERS = 0.072, 34
CHART_INCHES, CHART_TITLE_INCHES = 4.4, 0.32

Styles = Mapping[str, tuple[str, int]]
"""{model: its short name, and the index of its colour and mark}."""


def forest(data: Forest, styles: Styles) -> Figure:
    """Draw the differences from a baseline, an axis for each kind of task: hollow marks are not significant."""
    parts = [(part.heading, part.unit, part.axis, (*part.rows, *part.rest)) for part in data.parts]
    heights = [[ROW_INCHES + MARK_INCHES * len(row.effects) for row in rows] for *_, rows in parts]
    figure, panels = _panels([sum(h) for h in heights], [[row.label for row in rows] for *_, rows in parts])
    for axes, (heading, unit, axis, rows), sizes in zip(panels, parts, heights, strict=True):
        places = _rows(axes, axis, [row.label for row in rows], sizes, f"{heading}: {unit}", sign=True)
        if axis.low <= 0 <= axis.high:
            axes.axvline(0, color=INK, linewidth=0.9, zorder=1)
        for row, y, size in zip(rows, places, sizes, strict=True):
            for i, effect in enumerate(row.effects):
                score = Score(effect.gap.value, effect.gap.low, effect.gap.high)
                _mark(
                    axes,
                    score,
                    _spread(y, size, i, len(row.effects)),
                    styles[effect.model][1],
                    hollow=not effect.significant,
                )
    models = list(dict.fromkeys(e.model for *_, rows in parts for row in rows for e in row.effects))
    _legend(figure, models, styles, f"Right of zero: better than {styles[data.base][0]}; hollow: not significant")
    return figure


def dots(data: Dots, styles: Styles) -> Figure:
    """Draw the rows of a dot plot, a panel for each axis; the dotted line is chance, grey ticks are other models."""
    heights = [[ROW_INCHES + MARK_INCHES * max(1, len(row.points)) for row in panel.rows] for panel in data.panels]
    labels = [[f"{row.label}  {row.about}".strip() for row in panel.rows] for panel in data.panels]
    figure, panels = _panels([sum(h) for h in heights], labels)
    for axes, panel, names, sizes in zip(panels, data.panels, labels, heights, strict=True):
        places = _rows(axes, panel.axis, names, sizes, panel.heading if len(data.panels) > 1 else "")
        for row, y, size in zip(panel.rows, places, sizes, strict=True):
            low, high = y - size / 2, y + size / 2
            if row.chance is not None:
                axes.plot([row.chance] * 2, [low, high], color=MUTED, linestyle=":", linewidth=1.3, zorder=1)
            axes.vlines(row.others, y - size / 5, y + size / 5, color=MUTED, linewidth=0.8, alpha=0.6, zorder=1)
            for i, point in enumerate(row.points):
                _mark(axes, point.score, _spread(y, size, i, len(row.points)), styles[point.model][1])
    _legend(figure, list(data.models), styles, data.caption)
    return figure


def chart(data: Chart, styles: Styles) -> Figure:
    """Draw lines, or points with the Pareto front as steps and hollow marks off it; names stand as on the page."""
    places = drawn(data, {model: name for model, (name, _) in styles.items()})
    width, box = CHART_INCHES, CHART_INCHES * HEIGHT / WIDTH
    height = box + CHART_TITLE_INCHES
    figure = Figure(figsize=(width, height))
    left, right, low, high = LEFT / WIDTH, places.right / WIDTH, 1 - places.bottom / HEIGHT, 1 - TOP / HEIGHT
    axes = figure.add_axes((left, low * box / height, right - left, (high - low) * box / height))
    _frame(axes, data)
    for line in data.lines:
        index = styles.get(line.model, ("", len(LIGHT) - 1))[1]
        xs, ys = [x for x, _ in line.points], [score.value for _, score in line.points]
        if len(xs) > 1:
            axes.plot(xs, ys, color=LIGHT[index], linewidth=1.5, zorder=2)
        for i in line.marked:
            hollow = data.scatter and line.model not in data.front
            _upright(axes, xs[i], line.points[i][1], index, hollow=hollow)
        if line.best is not None:
            axes.plot([xs[line.best]], [ys[line.best]], "o", color=LIGHT[index], markersize=12, markerfacecolor="none")
    for label in places.labels:
        at = label.x / WIDTH, (1 - (label.y - 4) / HEIGHT) * box / height
        side: dict[str, Any] = {"ha": ALIGNED[label.anchor], "va": "center", "fontsize": 8, "color": INK}
        figure.text(*at, label.text, **side)
    figure.text(0.02, 1 - 0.1 / height, data.caption, fontsize=9, fontweight="bold", color=INK, va="top")
    return figure


ALIGNED = {"start": "left", "end": "right", "middle": "center"}


def _frame(axes: Axes, data: Chart) -> None:
    if data.x.log:
        axes.set_xscale("log")
    axes.set_xlim(data.x.low, data.x.high)
    axes.set_ylim(data.y.low, data.y.high)
    axes.xaxis.set_major_locator(FixedLocator(data.x.ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(data.x.ticks, data.x.texts())
    axes.set_yticks(data.y.ticks, data.y.texts())
    axes.grid(axis="y", color=RULE, linewidth=0.8, zorder=0)
    axes.set_xlabel(data.x_label, color=MUTED, fontsize=8, loc="right")
    _plain(axes)
    dashed: dict[str, Any] = {"color": MUTED, "linestyle": "--", "linewidth": 1, "zorder": 1}
    if data.chance:
        axes.plot(*zip(*data.chance, strict=True), **dashed)
    if data.others:
        axes.plot(*zip(*data.others, strict=True), "o", color=MUTED, markersize=3, alpha=0.5, zorder=1)
    front = sorted((line.points[0][0], line.points[0][1].value) for line in data.lines if line.model in data.front)
    if front:
        xs, ys = zip(*front, strict=True)
        axes.plot([*xs, data.x.high], [*ys, ys[-1]], drawstyle="steps-post", **dashed)


def _panels(heights: Sequence[float], labels: Sequence[Sequence[str]]) -> tuple[Figure, list[Axes]]:
    """Return a figure with a panel for each list of rows, of these heights in inches."""
    longest = max((min(MAX_LABEL_LETTERS, len(label)) for some in labels for label in some), default=8)
    left = (0.2 + LETTER_INCHES * longest) / WIDTH_INCHES
    height = TOP_INCHES + BOTTOM_INCHES + sum(heights) + HEAD_INCHES * len(heights)
    figure = Figure(figsize=(WIDTH_INCHES, height))
    panels, top = [], height - TOP_INCHES
    for size in heights:
        top -= HEAD_INCHES
        panels.append(figure.add_axes((left, (top - size) / height, 0.97 - left, size / height)))
        top -= size
    return figure, panels


def _rows(
    axes: Axes, axis: Axis, labels: Sequence[str], sizes: Sequence[float], heading: str, *, sign: bool = False
) -> list[float]:
    """Set up a panel with labels left and ticks above; return the rows' places, downwards, in inches."""
    edges = [sum(sizes[:i]) for i in range(len(sizes) + 1)]
    places = [(a + b) / 2 for a, b in pairwise(edges)]
    axes.set_ylim(edges[-1], 0)
    axes.set_xlim(axis.low, axis.high)
    axes.set_yticks(places, [shortened(label, MAX_LABEL_LETTERS) for label in labels])
    axes.xaxis.tick_top()
    axes.set_xticks(axis.ticks, axis.texts(sign=sign))
    axes.grid(axis="x", color=RULE, linewidth=0.8, zorder=0)
    axes.hlines(edges, 0, 1, transform=axes.get_yaxis_transform(), color=RULE, linewidth=0.6, zorder=0)
    _plain(axes)
    figure: Any = axes.figure
    if heading:
        above = axes.get_position().y1 + HEADING_INCHES / float(figure.get_size_inches()[1])
        figure.text(0.02, above, heading, fontsize=8, fontweight="bold", color=INK)
    return places


def _spread(y: float, size: float, i: int, n: int) -> float:
    """Return the place of mark i of n within a row."""
    return y + (i - (n - 1) / 2) * min(MARK_INCHES, (size - 0.02) / max(1, n))


def _mark(axes: Axes, score: Score, y: float, index: int, *, hollow: bool = False) -> None:
    if score.low is not None and score.high is not None:
        axes.plot([score.low, score.high], [y, y], color=LIGHT[index], linewidth=1.3, zorder=2, solid_capstyle="butt")
    _spot(axes, score.value, y, index, hollow)


def _upright(axes: Axes, x: float, score: Score, index: int, *, hollow: bool) -> None:
    if score.low is not None and score.high is not None:
        axes.plot([x, x], [score.low, score.high], color=LIGHT[index], linewidth=1.1, zorder=2)
    _spot(axes, x, score.value, index, hollow)


def _spot(axes: Axes, x: float, y: float, index: int, hollow: bool) -> None:
    face = PAGE if hollow else LIGHT[index]
    style: dict[str, Any] = {"markersize": 4.6, "markerfacecolor": face, "markeredgecolor": LIGHT[index], "zorder": 3}
    axes.plot([x], [y], MARKS[index], markeredgewidth=1.1, clip_on=False, **style)


def _legend(figure: Figure, models: Sequence[str], styles: Styles, caption: str) -> None:
    height = figure.get_size_inches()[1]
    figure.text(0.02, 1 - 0.1 / height, caption, fontsize=9, fontweight="bold", color=INK, va="top")
    handles = [
        Line2D([], [], color=LIGHT[i], marker=MARKS[i], linestyle="", markersize=4.6, label=shortened(name, 26))
        for name, i in (styles[model] for model in models)
    ]
    place: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (0.012, 1 - 0.28 / height), "borderpad": 0}
    look: dict[str, Any] = {"frameon": False, "fontsize": 8, "handletextpad": 0.2, "columnspacing": 1}
    figure.legend(handles=handles, ncols=MAX_LEGEND_COLUMNS, labelcolor=INK, **place, **look)


def _plain(axes: Axes) -> None:
    axes.set_axisbelow(True)
    axes.tick_params(length=0, colors=MUTED, labelsize=8, which="both")
    for label in axes.get_yticklabels():
        label.set_color(INK)
    axes.spines[:].set_visible(False)
