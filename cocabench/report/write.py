"""Write a report: index.html, tables, figures and data.json, from Records and published numbers."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from cocabench.core.types import Record
from cocabench.report import (
    costs,
    grid,
    headline,
    languages,
    leaderboard,
    methods,
    mixtures,
    page,
    pivots,
    plots,
    sections,
    skills,
    standing,
)
from cocabench.report.content import Report, gather
from cocabench.report.differences import differences
from cocabench.report.grid import Table
from cocabench.report.page import DEFAULT_TITLE, Content
from cocabench.report.pictures import Thumbnails
from cocabench.results import tables
from cocabench.results.compare import Row
from cocabench.results.store import write_atomically


def write_report(
    results: Iterable[Record],
    output: Path,
    *,
    published: Sequence[str] = (),
    baseline: Collection[str] = (),
    models: Sequence[str] = (),
    title: str = DEFAULT_TITLE,
    images: bool = True,
    figures: bool = True,
    processes: int = 1,
) -> list[Path]:
    """Write a report to the folder output and return its files, index.html first.

    published: models NAME:TAG whose published numbers to include. baseline: models to compare the others with.
    models: show only these, in this order. images: include thumbnails of samples. figures: also draw the figures as
    SVG, PNG and PDF; the page draws its own. processes: as of ``plots.draw_all``.
    """
    report = gather(results, published=published, baseline=baseline, models=models, title=title)
    content = content_of(report, Thumbnails() if images else Thumbnails(max_images=0), figures=figures)
    drawn = plots.draw_all(plots.plots(content), output / "figures", processes=processes) if figures else []
    return [*_write_all(content, output), *drawn]


def write_checkpoints(results: Iterable[Record], output: Path, model: str) -> str:
    """Write a report of a run's checkpoints, without figures to draw, and return one's scores in a line."""
    report = gather(results)
    content = content_of(report, Thumbnails(), figures=False)
    _write_all(content, output)
    return f"{report.names[model]}: {headline.scores_of(report, content.found, model) or 'no score'}"


def _write_all(content: Content, output: Path) -> list[Path]:
    """Write all files but figures, and return them, index.html first."""
    return [
        _write(output / "index.html", page.render(content)),
        _write(output / "data.json", _data(content)),
        *_write_tables(content.report, content.tables, output / "tables"),
    ]


def content_of(report: Report, thumbnails: Thumbnails, *, figures: bool = True) -> Content:
    """Return all that the page shows. figures: whether it links to drawn figures."""
    found, spent = differences(report), costs.costs(report)
    board = leaderboard.leaderboard(report, found, {cost.model: cost.total_params for cost in spent})
    own = [*pivots.pivots(report), costs.table(spent)]
    made = _named(
        [
            leaderboard.standings(report, board),
            leaderboard.tasks(report),
            leaderboard.means(report),
            leaderboard.datacomp(report),
            languages.table(report),
            *own,
            leaderboard.best_checkpoints(report),
            methods.signatures(report),
        ]
    )
    parts = tuple(sections.section(report, found, area, list(made.values()), thumbnails) for area in report.areas)
    sections.add_pictures(parts, thumbnails)
    content = Content(
        report=report,
        found=found,
        board=board,
        heat=leaderboard.heat(report, found),
        languages=languages.heats(report),
        sections=parts,
        skills=tuple(skills.cards(report, found)),
        tables=made,
        cost_charts=tuple(sections.cost_charts(found, spent, report.areas)),
        epoch_charts=tuple(sections.epoch_charts(report, found)),
        mixture_charts=tuple(mixtures.charts(report)),
        standing=standing.dots(report, found.shown),
        thumbnails=thumbnails.images,
        keys=lambda section, task, name: thumbnails.key(section.files.get(task), name),
        figures=frozenset(),
    )
    return plots.with_figures(content) if figures else content


def _named(found: Sequence[Table | None]) -> dict[str, Table]:
    """Return the tables that have rows by name, in page order."""
    return {table.name: table for table in found if table is not None and table.lines}


def _write(path: Path, text: str) -> Path:
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
    return path


def _write_tables(report: Report, found: Mapping[str, Table], folder: Path) -> list[Path]:
    """Write every table in three formats, and all numbers in numbers.csv."""
    writers = {".md": grid.to_markdown, ".csv": grid.to_csv, ".tex": grid.to_latex}
    written = [
        _write(folder / f"{name}{suffix}", writer(table))
        for name, table in found.items()
        for suffix, writer in writers.items()
    ]
    return [*written, _write(folder / "numbers.csv", tables.to_csv(report.everything))]


def _data(content: Content) -> str:
    """Return the content of the page as JSON: what it says, tested differences, Records, and figures."""
    report = content.report
    data: dict[str, Any] = {
        "title": report.title,
        **page.jsonable(content),
        "models": report.comparison.models,
        "rows": [_row(row) for row in report.comparison.rows],
        "records": [r.model_dump(mode="json") for r in report.by_key.values()],
        "figures": {plot.name: plot.title for plot in plots.plots(content)} if content.figures else {},
    }
    return indented(data) + "\n"


def _row(row: Row) -> dict[str, Any]:
    """Return a row as it is in points; the tests on the metrics' own scales are left out."""
    gaps = [None if gap is None else _fields(gap, but="test") for gap in row.differences]
    return _fields(row) | {"cells": [_fields(cell) for cell in row.cells], "differences": gaps}


def _fields(value: Any, but: str = "") -> dict[str, Any]:
    return {field.name: getattr(value, field.name) for field in fields(value) if field.name != but}


def indented(value: Any, margin: str = "\n") -> str:
    """Return JSON indented by one space, pydantic models as objects, as json.dumps does in several times the time.

    The encoder written in C cannot indent, but takes whole objects and arrays without others in them. margin: the line
    break and indentation around value.
    """
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    if not value or not isinstance(value, dict | list | tuple):
        return json.dumps(value, ensure_ascii=False)
    inner = f"{margin} "
    if not any(isinstance(one, NESTED) for one in (value.values() if isinstance(value, dict) else value)):
        text = json.dumps(value, ensure_ascii=False, separators=(f",{inner}", ": "))
        return f"{text[0]}{inner}{text[1:-1]}{margin}{text[-1]}"
    if isinstance(value, dict):
        parts = [f"{json.dumps(key, ensure_ascii=False)}: {indented(one, inner)}" for key, one in value.items()]
        return f"{{{inner}{f',{inner}'.join(parts)}{margin}}}"
    return f"[{inner}{f',{inner}'.join(indented(one, inner) for one in value)}{margin}]"


NESTED = (dict, list, tuple, BaseModel)
