"""The figure of where the measured models stand: each task's published numbers as ticks, theirs as marks."""

from __future__ import annotations

from collections.abc import Sequence

from cocabench.report.charts import DotRow, Dots, Point, panel
from cocabench.report.content import Report, score_of
from cocabench.results.published import plain
from cocabench.results.records import published_by, set_of
from cocabench.results.standing import Standing, pool, standing

MAX_PERCENTILES = 3
"""Of more models the labels give no percentiles."""


def dots(report: Report, shown: Sequence[str]) -> Dots | None:
    """Return the dot plot of the measured models on tasks with published numbers; None where there is none.

    The languages of a set are shown if there are no other tasks.
    """
    found: list[tuple[str, Standing]] = []
    for model in shown:
        records = [r for r in report.records if r.model == model and not published_by(r)]
        one = standing(plain(model), records, pool())
        if one.tasks:
            found.append((model, one))
    placed = [task.record for _, one in found for task in one.tasks]
    tasks = dict.fromkeys(record.task for record in [r for r in placed if not set_of(r)] or placed)
    rows = tuple(_row(report, task, found) for task in tasks)
    if not rows:
        return None
    caption = "Grey ticks: published models"
    return Dots("among_published", caption, (panel("points", rows),), tuple(model for model, _ in found))


def _row(report: Report, name: str, found: Sequence[tuple[str, Standing]]) -> DotRow:
    own = [(model, task) for model, one in found for task in one.tasks if task.record.task == name]
    points = tuple(
        Point(model, score) for model, task in own if (score := score_of(task.estimate, task.info)) is not None
    )
    places = ", ".join(f"{task.place.value:.0f}" for _, task in own) if len(own) <= MAX_PERCENTILES else ""
    others = own[0][1].others
    about = f"above {places} % of {len(others)}" if places else f"{len(others)} published"
    scaled = tuple(100 * value for value in others.values())
    return DotRow(report.labels.get(name, name), about, points, None, scaled, own[0][1].record.primary)
