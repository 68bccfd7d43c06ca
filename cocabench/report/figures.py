"""Figure 1 of the CoCa blog for any two models: their scores on every task, and the sorted differences.

Drawn with matplotlib's object API: no global state, no display; the same data give the same bytes. Shapes and words
say what colours say.
"""

from __future__ import annotations

import textwrap
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from cocabench.core.formatting import plural, shortened, signed
from cocabench.report.colours import INK, MUTED, RULE, Style
from cocabench.report.pair import Pair, PairRow, Score

WIDTH, ROW, TOP, BOTTOM = 9.0, 0.28, 1.3, 0.65
"""Inches: the figure's width, a task's height, and the room for title and axis."""

PALE = 0.4
"""How opaque a difference is that the test did not find."""

SIZES, DODGE = (6.0, 5.0), 0.16


class Words(NamedTuple):
    """What stands around a figure: title, a line below it, and what the axis shows."""

    title: str
    subtitle: str
    axis: str


def scores(pair: Pair, first: Style, second: Style) -> Figure:
    """Draw both models' scores on each task, sorted by the first model's, with the numbers beside them.

    The second model's marks are a little lower, so that equal scores hide nothing; the better number is bold.
    """
    rows = sorted(pair.rows, key=lambda row: row.first.value)
    unit = "score, %" if all(row.metric == "acc1" for row in rows) else "score, % (acc1 unless named)"
    words = Words(f"Zero-shot {pair.kind}: two models on {plural(len(rows), 'task')}", pair.about, unit)
    figure, axes = _canvas(rows, words, right=1.35)
    axes.hlines(range(len(rows)), 0, 1, transform=axes.get_yaxis_transform(), color=RULE, linewidth=0.6, zorder=0)
    for side, style in enumerate((first, second)):
        marks, shift = [(row.first, row.second)[side] for row in rows], (DODGE, -DODGE)[side]
        for y, (row, mark) in enumerate(zip(rows, marks, strict=True)):
            _interval(axes, mark, y + shift, style)
            _beside(axes, mark.value, y, side, bold=_best(row, side))
        y_all = [y + shift for y in range(len(rows))]
        axes.plot(
            [mark.value for mark in marks], y_all, style.mark, color=style.light, markersize=SIZES[side], zorder=3
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
    """Draw first minus second on each task, sorted, with its interval; pale where no difference was found."""
    rows = sorted(pair.rows, key=lambda row: row.gap.value)
    title = f"First model ahead on {pair.ahead}, behind on {pair.behind} of {plural(len(rows), f'{pair.kind} task')}"
    figure, axes = _canvas(rows, Words(title, pair.about, "first model minus second, points"))
    ends = [end for row in rows for end in row.gap if end is not None]
    room = 0.13 * (max([*ends, 0]) - min([*ends, 0])) or 1
    for y, row in enumerate(rows):
        gap, style = row.gap, first if row.gap.value > 0 else second
        opaque = PALE if row.finding.startswith("no ") else 1.0
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
    """Write a model's number right of the axis, in a column of its own."""
    place: dict[str, Any] = {"xycoords": axes.get_yaxis_transform(), "textcoords": "offset points"}
    words: dict[str, Any] = {"ha": "right", "va": "center_baseline", "fontsize": 9, "color": INK}
    axes.annotate(
        f"{value:.1f}", (1, y), ((45, 85)[side], 0), fontweight="bold" if bold else "normal", **place, **words
    )


def _canvas(rows: list[PairRow], words: Words, right: float = 0.3) -> tuple[Figure, Axes]:
    """Return a figure with a line per task, room for the longest name, title and axis; all sizes in inches."""
    labels = [shortened(row.label, 48) for row in rows]
    subtitle = textwrap.wrap(words.subtitle, 105)[:2]
    height = TOP + BOTTOM + ROW * max(len(rows), 4)
    left = min(4.2, 0.3 + 0.085 * max((len(label) for label in labels), default=10))
    figure = Figure(figsize=(WIDTH, height))
    axes = figure.add_axes((left / WIDTH, BOTTOM / height, 1 - (left + right) / WIDTH, 1 - (TOP + BOTTOM) / height))
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
