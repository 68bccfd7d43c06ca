"""The figures of ``compare --figure``: two groups of checkpoints, prompts, parts of the images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

from cocabench.report import plots
from cocabench.report.charts import DotRow, Dots, Effect, Forest, ForestPart, ForestRow, Point, panel
from cocabench.report.content import score_of
from cocabench.report.style import Axis, linear
from cocabench.results.overlap import Part
from cocabench.results.prompts import PromptRow
from cocabench.results.recipes import Recipe, RecipeRow


def of_recipes(first: Recipe, second: Recipe, rows: Sequence[RecipeRow]) -> plots.Plot:
    """Return the differences of rows as a figure: right of zero the first group is better; a panel for each unit."""
    shown = [row for row in rows if row.difference is not None]
    shown.sort(key=lambda row: row.info.unit)
    parts = tuple(_part(unit, list(own)) for unit, own in groupby(shown, key=lambda row: row.info.unit))
    title = f"{first.name} against {second.name}, over seeds and images"
    styles = ((FIRST, first.name, 0), (SECOND, second.name, 1))
    return plots.Plot("recipes", title, Forest(SECOND, parts), styles)


FIRST, SECOND = "first", "second"
"""The two groups among the figure's styles, whose names may be equal."""


def of_prompts(rows: Sequence[PromptRow]) -> plots.Plot:
    """Return the differences of prompts from each task's first, a mark per model; right of zero is better."""
    effects: dict[str, dict[str, list[Effect]]] = {}
    for row in rows:
        if row.difference is not None:
            gap = row.difference if row.info.higher_is_better else row.difference.opposite
            effects.setdefault(row.task, {}).setdefault(row.prompts, []).append(Effect(row.model, gap))
    found = {
        task: tuple(ForestRow(prompts, "", False, tuple(each)) for prompts, each in own.items())
        for task, own in effects.items()
    }
    axis = _axis([row for rows in found.values() for row in rows])
    models = dict.fromkeys(row.model for row in rows)
    styles = ((FIRST, "the first prompts", len(models)), *((model, model, i) for i, model in enumerate(models)))
    parts = tuple(ForestPart(task, "difference in points", axis, rows) for task, rows in found.items())
    return plots.Plot("prompts", "Prompts against the first of each task", Forest(FIRST, parts), styles)


CLEAN, OVERLAPPING, ALL = "clean", "overlapping", "all images"


def of_parts(parts: Sequence[Part]) -> plots.Plot:
    """Return each model's number on all images, on the clean ones and on the others, a panel for each metric."""
    panels = []
    for metric, own in groupby(sorted(parts, key=lambda part: part.metric), key=lambda part: part.metric):
        rows = tuple(DotRow(f"{part.task} {part.model}", "", tuple(_points(part))) for part in own)
        panels.append(panel(metric, rows))
    styles = tuple((name, name, i) for i, name in enumerate((CLEAN, OVERLAPPING, ALL)))
    title = "without and with images of the training data"
    title = f"{parts[0].metric}: {title}" if len(panels) == 1 else title.capitalize()
    return plots.Plot("overlap", title, Dots("overlap", title, tuple(panels), (CLEAN, OVERLAPPING, ALL)), styles)


def _points(part: Part) -> Iterator[Point]:
    for name, found in ((CLEAN, part.clean), (OVERLAPPING, part.overlapping), (ALL, part.whole)):
        if found is not None and (score := score_of(found, part.info)) is not None:
            yield Point(name, score)


def _part(unit: str, rows: Sequence[RecipeRow]) -> ForestPart:
    found = []
    for row in rows:
        assert row.difference, "rows without a difference are not drawn"
        gap = row.difference if row.info.higher_is_better else row.difference.opposite
        label = row.task if row.tasks else f"{row.task} {row.metric}"
        found.append(ForestRow(label, "", bool(row.tasks), (Effect(FIRST, gap),)))
    return ForestPart("Difference", "points" if unit in ("fraction", "score") else unit, _axis(found), tuple(found))


def _axis(rows: Sequence[ForestRow]) -> Axis:
    gaps = [effect.gap for row in rows for effect in row.effects]
    return linear([end for gap in gaps for end in (gap.value, gap.low, gap.high) if end is not None])


def draw(plot: plots.Plot, folder: Path) -> list[Path]:
    """Draw a figure as SVG, PNG and PDF in a folder, and return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    plots.draw(plot, folder)
    return plots.files(folder, plot)
