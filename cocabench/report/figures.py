"""Figure 1 of the CoCa blog for any two models: their scores on every task, and the sorted differences.

Drawn with matplotlib's object API: no global state, no display; the same data give the same bytes. Colours are those
of Okabe and Ito, which colour-blind readers can tell apart; shapes and words say the same.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from cocabench.compare import Comparison, Difference, Row
from cocabench.published import SUFFIX
from cocabench.report.text import points, signed
from cocabench.store import write_atomically
from cocabench.types import Estimate

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F7F7F")
INK, GREY, RULE = "#222222", "#5F5F5F", "#D5D5D5"
WIDTH, ROW, TOP, BOTTOM = 9.0, 0.28, 1.3, 0.65
"""Inches: the figure's width, a task's height, and the room for title and axis."""

MARKERS, SIZES, DODGE = "oD", (6.0, 5.0), 0.16

LABEL = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}
STYLE: Any = {"svg.hashsalt": "cocabench", "svg.fonttype": "path", "font.family": "DejaVu Sans", "font.size": 10}


@dataclass(frozen=True, slots=True)
class Words:
    """What stands around a figure: title, a line below it, and what the axis shows."""

    title: str
    subtitle: str
    axis: str


def colours(models: Iterable[str]) -> dict[str, str]:
    """Return a colour per model, by order; a published model has the colour of the measured one beside it."""
    names = dict.fromkeys(model.removesuffix(SUFFIX) for model in models)
    palette = {name: PALETTE[i % len(PALETTE)] for i, name in enumerate(names)}
    return palette | {name + SUFFIX: colour for name, colour in palette.items()}


def drawable(pair: Comparison) -> list[tuple[Row, Difference]]:
    """Return the rows of a two-model comparison in which both have a number, and the numbers may be compared."""
    return [(row, row.difference) for row in pair.rows if row.difference is not None]


@matplotlib.rc_context(STYLE)
def scores(pair: Comparison, words: Words, palette: Mapping[str, str]) -> Figure:
    """Draw both models' scores on each task, sorted by the first model's, with the numbers beside them.

    The second model's marks are a little lower, so that equal scores hide nothing; the better number is bold.
    """
    rows = [row for row, _ in sorted(drawable(pair), key=lambda item: _value(item[0], 0))]
    figure, axes = _canvas(rows, words, right=1.35)
    axes.hlines(range(len(rows)), 0, 1, transform=axes.get_yaxis_transform(), color="#EAEAEA", linewidth=0.8, zorder=0)
    for side, marker in enumerate(MARKERS):
        colour, shift = palette[pair.models[side]], (DODGE, -DODGE)[side]
        for y, row in enumerate(rows):
            _interval(axes, row.cells[side].estimate, row, y + shift, colour)
            _beside(axes, row.cells[side].best, _value(row, side), side, y, colour)
        x, y_all = [_value(row, side) for row in rows], [y + shift for y in range(len(rows))]
        axes.plot(x, y_all, marker, color=colour, markersize=SIZES[side], zorder=3)
    axes.set_xlim(0, max(100, 1.03 * max((_value(row, s) for row in rows for s in (0, 1)), default=100)))
    handles = [
        Line2D([], [], color=palette[m], marker=k, linestyle="", markersize=7, label=shortened(m))
        for m, k in zip(pair.models, MARKERS, strict=True)
    ]
    _legend(figure, handles)
    return figure


@matplotlib.rc_context(STYLE)
def differences(pair: Comparison, words: Words, palette: Mapping[str, str]) -> Figure:
    """Draw first minus second on each task, sorted, with the interval of the difference where there is one."""
    found = sorted(drawable(pair), key=lambda item: item[1].value)
    figure, axes = _canvas([row for row, _ in found], words)
    ends = [end for _, gap in found for end in (gap.value, gap.low, gap.high) if end is not None]
    room = 0.13 * (max([*ends, 0]) - min([*ends, 0])) or 1
    for y, (_, gap) in enumerate(found):
        colour = palette[pair.models[0 if gap.value > 0 else 1]]
        axes.barh(y, gap.value, height=0.66, color=colour, zorder=2)
        if gap.low is not None and gap.high is not None:
            axes.plot([gap.low, gap.high], [y, y], color=INK, linewidth=1.2, zorder=3)
        outer = max(gap.value, gap.high or 0, 0) if gap.value >= 0 else min(gap.value, gap.low or 0)
        sign = 1 if gap.value >= 0 else -1
        place: dict[str, Any] = {
            "ha": "left" if sign > 0 else "right",
            "va": "center_baseline",
            "fontsize": 9,
            "color": INK,
        }
        axes.text(outer + sign * room / 9, y, signed(gap.value), **place)
    axes.set_xlim(min([*ends, 0]) - room, max([*ends, 0]) + room)
    axes.axvline(0, color=INK, linewidth=1, zorder=4)
    _legend(figure, [Patch(color=palette[m], label=f"{shortened(m)} is better") for m in pair.models])
    return figure


@matplotlib.rc_context(STYLE)
def save(figure: Figure, stem: Path) -> list[Path]:
    """Write stem.svg and stem.png (150 dots per inch); no date and no version in them."""
    svg, png = (stem.with_name(stem.name + suffix) for suffix in (".svg", ".png"))
    about = {"Date": None, "Creator": "cocabench"}
    write_atomically(svg, lambda path: figure.savefig(path, format="svg", metadata=about))
    write_atomically(png, lambda path: figure.savefig(path, format="png", dpi=150, metadata={"Software": "cocabench"}))
    return [svg, png]


def shortened(model: str, length: int = 44) -> str:
    """Return a model's name for a legend: without the mark of published Records, its middle left out if long."""
    name = model.removesuffix(SUFFIX)
    half = (length - 1) // 2
    return name if len(name) <= length else f"{name[:half]}…{name[-half:]}"


def _value(row: Row, side: int) -> float:
    estimate = row.cells[side].estimate
    return points(estimate.value, row.info) if estimate is not None and estimate.value is not None else 0.0


def _interval(axes: Axes, estimate: Estimate | None, row: Row, y: float, colour: str) -> None:
    if estimate is not None and estimate.low is not None and estimate.high is not None:
        ends = [points(end, row.info) for end in (estimate.low, estimate.high)]
        axes.plot(ends, [y, y], color=colour, linewidth=1.4, alpha=0.8, zorder=2)


def _beside(axes: Axes, best: bool, value: float, side: int, y: float, colour: str) -> None:
    """Write a model's number right of the axis, in a column of its own."""
    axes.annotate(
        f"{value:.1f}",
        (1, y),
        ((45, 85)[side], 0),
        xycoords=axes.get_yaxis_transform(),
        textcoords="offset points",
        ha="right",
        va="center_baseline",
        fontsize=9,
        color=colour,
        fontweight="bold" if best else "normal",
    )


def _canvas(rows: list[Row], words: Words, right: float = 0.3) -> tuple[Figure, Axes]:
    """Return a figure with a line per task, room for the longest name, title and axis; all sizes in inches."""
    labels = [row.task if row.metric == "acc1" else f"{row.task} ({row.metric})" for row in rows]
    subtitle = textwrap.wrap(words.subtitle, 105)[:2]
    height = TOP + BOTTOM + ROW * max(len(rows), 4)
    left = min(4.2, 0.3 + 0.085 * max((len(label) for label in labels), default=10))
    figure = Figure(figsize=(WIDTH, height), facecolor="white")
    axes = figure.add_axes((left / WIDTH, BOTTOM / height, 1 - (left + right) / WIDTH, 1 - (TOP + BOTTOM) / height))
    figure.text(0.02, 1 - 0.22 / height, words.title, fontsize=14, fontweight="bold", color=INK, va="top")
    figure.text(0.02, 1 - 0.5 / height, "\n".join(subtitle), fontsize=10, color=GREY, va="top")
    axes.set_yticks(range(len(rows)), labels, color=INK)
    axes.set_ylim(-0.7, len(rows) - 0.3)
    axes.set_xlabel(words.axis, color=INK, labelpad=8)
    axes.grid(axis="x", color=RULE, linewidth=0.8, zorder=0)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, colors=INK)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return figure, axes


def _legend(figure: Figure, handles: list[Line2D] | list[Patch]) -> None:
    height = figure.get_size_inches()[1]
    place: dict[str, Any] = {
        "loc": "upper left",
        "bbox_to_anchor": (0.02, 1 - 0.86 / height),
        "borderaxespad": 0,
        "borderpad": 0,
    }
    figure.legend(handles=handles, ncols=2, frameon=False, handletextpad=0.4, columnspacing=1.6, **place)
