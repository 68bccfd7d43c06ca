"""The other figures: quality against cost with its Pareto front, means per group, and curves over epochs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from cocabench.core.formatting import shortened
from cocabench.report.colours import INK, MUTED, RULE
from cocabench.report.pair import Score
from cocabench.report.series import Panel, Point, Series

MOST_NAMED = 12
"""Models that a legend names; of more, it names the front, and the others are grey."""

STEPS: Sequence[Sequence[float]] = ((1,), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 7))
FEWEST_TICKS, MOST_TICKS = 3, 9


def pareto(points: Sequence[Point], x_label: str, y_label: str) -> Figure:
    """Draw quality against cost, the cost on a logarithmic axis; the front is a line of steps, its marks are filled."""
    named = [point for point in points if point.front or len(points) <= MOST_NAMED]
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
    """Draw a panel per group: the models side by side with their means, on one scale."""
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
    """Draw a metric over the checkpoints of runs, in bands of its intervals; the best checkpoint is ringed."""
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
    """Shade the intervals of a line, which those of another may cross; a point without one is its own interval."""
    lows = [y.value if y.low is None else y.low for y in line.ys]
    highs = [y.value if y.high is None else y.high for y in line.ys]
    axes.fill_between(line.xs, lows, highs, color=line.style.light, alpha=0.15, linewidth=0, zorder=2)


def _error(axes: Axes, x: float, y: Score, colour: str) -> None:
    if y.low is not None and y.high is not None:
        axes.vlines(x, y.low, y.high, color=colour, linewidth=1.2, zorder=2)


def _cost_axis(axes: Axes, costs: Sequence[float]) -> None:
    """Make the x axis logarithmic, with room at its ends and plain numbers."""
    room = max(1.03, (max(costs) / min(costs)) ** 0.08)
    low, high = min(costs) / room, max(costs) * room
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    axes.xaxis.set_major_locator(FixedLocator(ticks(low, high)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.6g}"))


def ticks(low: float, high: float) -> list[float]:
    """Return where a logarithmic axis from low to high (0 < low < high) has its numbers: three to nine of them.

    They are round within each decade; where the axis is too short for three of those, evenly spaced.
    """
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in STEPS:
        found = [step * 10.0**decade for decade in decades for step in steps]
        found = [tick for tick in found if low <= tick <= high]
        if len(found) >= FEWEST_TICKS:
            return found[:: -(-len(found) // MOST_TICKS)]
    even = MaxNLocator(6, steps=[1, 2, 5, 10], min_n_ticks=FEWEST_TICKS).tick_values(low, high)
    return [float(tick) for tick in even if low <= tick <= high]


def _plain(axes: Axes, x_label: str, y_label: str) -> None:
    axes.set_xlabel(x_label, color=INK, fontsize=9)
    axes.set_ylabel(y_label, color=INK, fontsize=9)
    axes.grid(color=RULE, linewidth=0.7, zorder=0)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, colors=INK, labelsize=8, which="both")
    axes.spines[:].set_visible(False)
