"""The figure of two groups of checkpoints: the difference on each task, over seeds and images."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from cocabench.report import plots
from cocabench.report.charts import Effect, Forest, ForestPart, ForestRow
from cocabench.report.style import linear
from cocabench.results.recipes import Recipe, RecipeRow


def figure(first: Recipe, second: Recipe, rows: Sequence[RecipeRow]) -> plots.Plot:
    """Return the differences of rows as a figure: right of zero the first group is better; a panel for each unit."""
    shown = [row for row in rows if row.difference is not None]
    shown.sort(key=lambda row: row.info.unit)
    parts = tuple(_part(unit, list(own)) for unit, own in groupby(shown, key=lambda row: row.info.unit))
    title = f"{first.name} against {second.name}, over seeds and images"
    styles = ((FIRST, first.name, 0), (SECOND, second.name, 1))
    return plots.Plot("recipes", title, Forest(SECOND, parts), styles)


FIRST, SECOND = "first", "second"
"""The two groups among the figure's styles, whose names may be equal."""


def _part(unit: str, rows: Sequence[RecipeRow]) -> ForestPart:
    found = []
    for row in rows:
        assert row.difference, "rows without a difference are not drawn"
        gap = row.difference if row.info.higher_is_better else row.difference.opposite
        label = row.task if row.tasks else f"{row.task} {row.metric}"
        found.append(ForestRow(label, "", bool(row.tasks), (Effect(FIRST, gap),)))
    gaps = [row.effects[0].gap for row in found]
    ends = [end for gap in gaps for end in (gap.value, gap.low, gap.high) if end is not None]
    return ForestPart("Difference", "points" if unit in ("fraction", "score") else unit, linear(ends), tuple(found))


def draw(first: Recipe, second: Recipe, rows: Sequence[RecipeRow], folder: Path) -> list[Path]:
    """Draw the figure as SVG, PNG and PDF in a folder, and return the files."""
    plot = figure(first, second, rows)
    folder.mkdir(parents=True, exist_ok=True)
    plots.draw(plot, folder)
    return plots.files(folder, plot)
