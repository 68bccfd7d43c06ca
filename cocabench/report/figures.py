"""Draw the figures with matplotlib's object API: no global state, no display, the same data give the same bytes.

Figure 1 of the CoCa blog for any two models, quality against cost with the Pareto front, means per group, and curves
over epochs. Marker shapes and labels repeat what colours show.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from cocabench.core.formatting import plural, shortened, signed
from cocabench.report.pair import Pair, PairRow
from cocabench.report.series import INK, MUTED, RULE, Panel, Point, Score, Series, Style

WIDTH_INCHES, ROW_INCHES, TOP_INCHES, BOTTOM_INCHES = 9.0, 0.28, 1.3, 0.65
"""The figure's width, the height per task, and the margins for title and axis."""


NOT_SIGNIFICANT_OPACITY = 0.4
"""Opacity of bars whose difference is not significant."""

MARK_SIZES_POINTS, MARK_OFFSET_ROWS = (6.0, 5.0), 0.16

MAX_MODELS_IN_LEGEND = 12
"""Up to this many models, the legend names all; beyond, only those on the front, and the others are grey."""

TICK_STEPS: Sequence[Sequence[float]] = ((1,), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 7))
MIN_TICKS, MAX_TICKS = 3, 9


class Words(NamedTuple):
    """The texts around a figure: title, subtitle, and axis label."""

    title: str
    subtitle: str
    axis: str


def scores(pair: Pair, first: Style, second: Style) -> Figure:
    """Draw both models' scores on each task, sorted by the first model's, with the numbers on the right.

    The second model's marks are slightly lower, so that equal scores do not overlap; the better number is bold.
    """
    rows = sorted(pair.rows, key=lambda row: row.first.value)
    unnamed = "" if not any(row.named for row in rows) else next((row.metric for row in rows if not row.named), "")
    unit = f"score, % ({unnamed} unless named)" if unnamed else "score, %"
    words = Words(f"Zero-shot {pair.kind}: two models on {plural(len(rows), 'task')}", pair.about, unit)
    figure, axes = _canvas(rows, words, right=1.35)
    axes.hlines(range(len(rows)), 0, 1, transform=axes.get_yaxis_transform(), color=RULE, linewidth=0.6, zorder=0)
    for side, style in enumerate((first, second)):
        marks, shift = [(row.first, row.second)[side] for row in rows], (MARK_OFFSET_ROWS, -MARK_OFFSET_ROWS)[side]
        for y, (row, mark) in enumerate(zip(rows, marks, strict=True)):
            _interval(axes, mark, y + shift, style)
            _beside(axes, mark.value, y, side, bold=_best(row, side))
        y_all = [y + shift for y in range(len(rows))]
        axes.plot(
            [mark.value for mark in marks],
            y_all,
            style.mark,
            color=style.light,
            markersize=MARK_SIZES_POINTS[side],
            zorder=3,
        )
    highest = max((score.value for row in rows for score in (row.first, row.second)), default=100)
    axes.set_xlim(0, 100 if highest > 60 else 1.12 * highest or 100)
    handles = [
        Line2D([], [], color=style.light, marker=style.mark, linestyle="", markersize=7, label=shortened(name))
        for name, style in ((pair.first, first), (pair.second, second))
    ]
    _legend(figure, handles)
    return figure


def differences(pair: Pair, first: Style, second: Style) -> Figure:
    """Draw first minus second on each task, sorted, with its interval; pale where not significant."""
    rows = sorted(pair.rows, key=lambda row: row.gap.value)
    title = f"First model better on {pair.better}, worse on {pair.worse} of {plural(len(rows), f'{pair.kind} task')}"
    figure, axes = _canvas(rows, Words(title, pair.about, "first model minus second, points"))
    ends = [end for row in rows for end in row.gap if end is not None]
    room = 0.13 * (max([*ends, 0]) - min([*ends, 0])) or 1
    for y, row in enumerate(rows):
        gap, style = row.gap, first if row.gap.value > 0 else second
        opaque = NOT_SIGNIFICANT_OPACITY if row.faded else 1.0
        axes.barh(y, gap.value, height=0.66, color=style.light, alpha=opaque, zorder=2)
        if gap.low is not None and gap.high is not None:
            axes.plot([gap.low, gap.high], [y, y], color=INK, linewidth=1.2, zorder=3)
        sign = 1 if gap.value >= 0 else -1
        outer = max(gap.value, gap.high or 0, 0) if sign > 0 else min(gap.value, gap.low or 0)
        place: dict[str, Any] = {"ha": "left" if sign > 0 else "right", "va": "center_baseline", "fontsize": 9}
        axes.text(outer + sign * room / 9, y, signed(gap.value), color=INK, **place)
    axes.set_xlim(min([*ends, 0]) - room, max([*ends, 0]) + room)
    axes.axvline(0, color=INK, linewidth=1, zorder=4)
    better = ((pair.first, first), (pair.second, second))
    _legend(figure, [Patch(color=style.light, label=f"{shortened(name)} is better") for name, style in better])
    return figure


def _best(row: PairRow, side: int) -> bool:
    mine, other = (row.first, row.second) if side == 0 else (row.second, row.first)
    return round(mine.value, 1) >= round(other.value, 1)


def _interval(axes: Axes, score: Score, y: float, style: Style) -> None:
    if score.low is not None and score.high is not None:
        axes.plot([score.low, score.high], [y, y], color=style.light, linewidth=1.4, zorder=2)


def _beside(axes: Axes, value: float, y: float, side: int, *, bold: bool) -> None:
    """Write a model's number in a column on the right of the axis."""
    place: dict[str, Any] = {"xycoords": axes.get_yaxis_transform(), "textcoords": "offset points"}
    words: dict[str, Any] = {"ha": "right", "va": "center_baseline", "fontsize": 9, "color": INK}
    axes.annotate(
        f"{value:.1f}", (1, y), ((45, 85)[side], 0), fontweight="bold" if bold else "normal", **place, **words
    )


def _canvas(rows: list[PairRow], words: Words, right: float = 0.3) -> tuple[Figure, Axes]:
    """Return a figure with a row per task and margins for labels, title and axis; all sizes in inches."""
    labels = [shortened(row.label, 48) for row in rows]
    subtitle = textwrap.wrap(words.subtitle, 105)[:2]
    height = TOP_INCHES + BOTTOM_INCHES + ROW_INCHES * max(len(rows), 4)
    left = min(4.2, 0.3 + 0.085 * max((len(label) for label in labels), default=10))
    figure = Figure(figsize=(WIDTH_INCHES, height))
    axes = figure.add_axes(
        (
            left / WIDTH_INCHES,
            BOTTOM_INCHES / height,
            1 - (left + right) / WIDTH_INCHES,
            1 - (TOP_INCHES + BOTTOM_INCHES) / height,
        )
    )
    figure.text(0.02, 1 - 0.22 / height, words.title, fontsize=14, fontweight="bold", color=INK, va="top")
    figure.text(0.02, 1 - 0.5 / height, "\n".join(subtitle), fontsize=10, color=MUTED, va="top")
    axes.set_yticks(range(len(rows)), labels, color=INK)
    axes.set_ylim(-0.7, len(rows) - 0.3)
    axes.set_xlabel(words.axis, color=INK, labelpad=8)
    axes.grid(axis="x", color=RULE, linewidth=0.8, zorder=0)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, colors=INK)
    axes.spines[:].set_visible(False)
    return figure, axes


def _legend(figure: Figure, handles: list[Line2D] | list[Patch]) -> None:
    height = figure.get_size_inches()[1]
    place: dict[str, Any] = {
        "loc": "upper left",
        "bbox_to_anchor": (0.02, 1 - 0.86 / height),
        "borderaxespad": 0,
        "borderpad": 0,
    }
    figure.legend(
        handles=handles, ncols=2, frameon=False, handletextpad=0.4, columnspacing=1.6, labelcolor=INK, **place
    )


def pareto(points: Sequence[Point], x_label: str, y_label: str) -> Figure:
    """Draw quality against cost on a logarithmic axis; the Pareto front is a step line with filled marks."""
    named = [point for point in points if point.front or len(points) <= MAX_MODELS_IN_LEGEND]
    lines = -(-len(named) // 2)
    below = 0.65 + 0.2 * lines
    figure = Figure(figsize=(5.2, 3.4 + below))
    axes = figure.add_axes((0.12, below / (3.4 + below), 0.84, 3.25 / (3.4 + below)))
    _plain(axes, x_label, y_label)
    _cost_axis(axes, [point.x for point in points])
    on_front = sorted((point.x, point.y.value) for point in points if point.front)
    axes.plot(*zip(*on_front, strict=True), color=MUTED, linewidth=1, linestyle="--", drawstyle="steps-post", zorder=1)
    for point in points:
        colour, size = (point.style.light, 7) if point in named else (MUTED, 4)
        _error(axes, point.x, point.y, colour)
        axes.plot([point.x], [point.y.value], color=colour, markersize=size, zorder=3, **_mark(point))
    handles = [
        Line2D([], [], color=p.style.light, linestyle="", label=shortened(p.model, 38), **_mark(p)) for p in named
    ]
    place: dict[str, Any] = {"loc": "lower left", "bbox_to_anchor": (0.02, 0.01), "ncols": 2, "frameon": False}
    figure.legend(handles=handles, fontsize=7, labelcolor=INK, handletextpad=0.2, columnspacing=0.8, **place)
    return figure


def _mark(point: Point) -> dict[str, Any]:
    """Return a model's mark: filled on the front, else hollow."""
    hollow = {} if point.front else {"markerfacecolor": "none"}
    return {"marker": point.style.mark, **hollow}


def multiples(panels: Sequence[Panel], y_label: str) -> Figure:
    """Draw a panel per group with the models' means, all panels on one scale."""
    columns = min(4, len(panels))
    lines = -(-len(panels) // columns)
    figure = Figure(figsize=(9, 0.35 + 1.75 * lines), layout="constrained")
    grid = figure.subplots(lines, columns, squeeze=False, sharey=True)
    for axes, panel in zip(grid.flat, panels, strict=False):
        _plain(axes, "", "")
        for i, series in enumerate(panel.series):
            value, colour = series.ys[0].value, series.style.light
            axes.vlines(i, 0, value, color=colour, linewidth=3)
            axes.plot([i], [value], series.style.mark, color=colour, markersize=6)
            where: dict[str, Any] = {"textcoords": "offset points", "ha": "center", "fontsize": 8}
            axes.annotate(f"{value:.0f}", (i, value), (0, 6), color=INK, **where)
        axes.set_title(shortened(panel.title, 26), fontsize=9, color=INK, loc="left")
        axes.set_xlim(-0.8, len(panel.series) - 0.2)
        axes.set_xticks([])
    highest = max(series.ys[0].value for panel in panels for series in panel.series)
    grid.flat[0].set_ylim(0, 1.2 * highest or 1)
    for axes in grid.flat[len(panels) :]:
        axes.set_visible(False)
    figure.supylabel(y_label, fontsize=9, color=INK)
    return figure


def curve(series: Sequence[Series], x_label: str, y_label: str) -> Figure:
    """Draw a metric over the checkpoints of runs, with bands for its intervals; the best checkpoint is ringed."""
    figure = Figure(figsize=(5.2, 3.4))
    axes = figure.add_axes((0.13, 0.16, 0.83, 0.78))
    _plain(axes, x_label, y_label)
    for line in series:
        colour, values = line.style.light, [y.value for y in line.ys]
        axes.plot(line.xs, values, color=colour, marker=line.style.mark, markersize=4, linewidth=1.6, zorder=3)
        _band(axes, line)
        if line.best is not None:
            ring: dict[str, Any] = {"markerfacecolor": "none", "markersize": 11, "zorder": 4}
            axes.plot([line.xs[line.best]], [values[line.best]], "o", color=colour, **ring)
        end: dict[str, Any] = {"textcoords": "offset points", "ha": "right", "fontsize": 8}
        axes.annotate(shortened(line.name, 28), (line.xs[-1], values[-1]), (0, 8), color=INK, **end)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.margins(x=0.06, y=0.15)
    return figure


def _band(axes: Axes, line: Series) -> None:
    """Shade the intervals of a line; a point without an interval has a band of zero width."""
    lows = [y.value if y.low is None else y.low for y in line.ys]
    highs = [y.value if y.high is None else y.high for y in line.ys]
    axes.fill_between(line.xs, lows, highs, color=line.style.light, alpha=0.15, linewidth=0, zorder=2)


def _error(axes: Axes, x: float, y: Score, colour: str) -> None:
    if y.low is not None and y.high is not None:
        axes.vlines(x, y.low, y.high, color=colour, linewidth=1.2, zorder=2)


def _cost_axis(axes: Axes, costs: Sequence[float]) -> None:
    """Make the x axis logarithmic, with margins and plain numbers."""
    room = max(1.03, (max(costs) / min(costs)) ** 0.08)
    low, high = min(costs) / room, max(costs) * room
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    axes.xaxis.set_major_locator(FixedLocator(ticks(low, high)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.6g}"))


def ticks(low: float, high: float) -> list[float]:
    """Return three to nine tick positions for a logarithmic axis from low to high (0 < low < high).

    They are round within each decade, or evenly spaced if the axis is too short for three of those.
    """
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in TICK_STEPS:
        found = [step * 10.0**decade for decade in decades for step in steps]
        found = [tick for tick in found if low <= tick <= high]
        if len(found) >= MIN_TICKS:
            return found[:: -(-len(found) // MAX_TICKS)]
    even = MaxNLocator(6, steps=[1, 2, 5, 10], min_n_ticks=MIN_TICKS).tick_values(low, high)
    return [float(tick) for tick in even if low <= tick <= high]


def _plain(axes: Axes, x_label: str, y_label: str) -> None:
    axes.set_xlabel(x_label, color=INK, fontsize=9)
    axes.set_ylabel(y_label, color=INK, fontsize=9)
    axes.grid(color=RULE, linewidth=0.7, zorder=0)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, colors=INK, labelsize=8, which="both")
    axes.spines[:].set_visible(False)
