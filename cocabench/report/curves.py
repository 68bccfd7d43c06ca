"""Checkpoints of one training run: a curve per task, and the best epoch of each with its interval."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from cocabench.core.formatting import plural
from cocabench.report.colours import Style
from cocabench.report.content import Report
from cocabench.report.grid import Entry, Line, Table, of_estimate
from cocabench.report.pair import score_of
from cocabench.report.series import Series
from cocabench.results.compare import Row
from cocabench.results.epochs import Best, best_epochs, epoch_of, runs


def curves(report: Report, palette: Mapping[str, Style]) -> list[tuple[Row, tuple[Series, ...]]]:
    """Return the tasks that several epochs of a run have a number for, with a line per run."""
    found = [(row, tuple(_lines(report, row, palette))) for row in report.comparison.rows]
    return [(row, lines) for row, lines in found if lines]


def _lines(report: Report, row: Row, palette: Mapping[str, Style]) -> list[Series]:
    cells = dict(zip(report.models, row.cells, strict=True))
    lines = []
    for run, models in runs(report.models).items():
        known = [(point.number, model) for model in models if cells[model].estimate and (point := epoch_of(model))]
        scores = [score for _, model in known if (score := score_of(cells[model].estimate, row.info)) is not None]
        if len(scores) < 2 or len(scores) < len(known):
            continue
        values = [score.value for score in scores]
        best = values.index(max(values) if row.info.higher_is_better else min(values))
        xs = tuple(float(number) for number, _ in known)
        lines.append(Series(run, xs, tuple(scores), palette[known[-1][1]], best))
    return lines


def best(report: Report) -> Table | None:
    """Return the best epoch of each run and task by its primary metric, with that epoch's own interval."""
    primary = {(row.task, row.metric) for row in report.comparison.rows}
    found = [best for best in best_epochs(report.records) if (best.task, best.metric) in primary]
    if not found:
        return None
    return Table(
        name="epochs",
        caption="The best checkpoint of each run",
        columns=("run", "task", "metric", "best", "value", "of"),
        lines=tuple(_line(report, item) for item in found),
        heads=3,
        about="The interval is that checkpoint's own and does not know that it was chosen: the best of several looks "
        "better than it is. A number to publish is measured on other data.",
    )


def _line(report: Report, item: Best) -> Line:
    number = of_estimate(item.estimate, item.info)
    number = replace(number, record=report.keys.get((item.model, item.task), ""), metric=item.metric)
    unit = item.epoch.unit
    return Line(
        (
            Entry(item.epoch.run),
            Entry(item.task),
            Entry(item.metric),
            Entry(f"{unit} {item.epoch.number}", value=item.epoch.number),
            number,
            Entry(plural(item.n_epochs, unit), value=item.n_epochs),
        )
    )
