"""Write a report: index.html, tables, figures and data.json, from Records and published numbers."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from cocabench.core.types import Record
from cocabench.report import costs, grid, page, pivots, tables
from cocabench.report.content import Report, gather
from cocabench.report.grid import Table
from cocabench.report.headline import headline
from cocabench.report.leaderboard import ALL
from cocabench.report.pair import pairs
from cocabench.report.plots import Plot, draw_all, inline, plots
from cocabench.report.samples import Thumbnails, task_galleries
from cocabench.report.series import styles
from cocabench.results.compare import Row
from cocabench.results.store import write_atomically


def write_report(
    results: Iterable[Record],
    output: Path,
    *,
    published: Sequence[str] = (),
    baseline: Collection[str] = (),
    models: Sequence[str] = (),
    title: str = "cocabench report",
    images: bool = True,
) -> list[Path]:
    """Write a report to the folder output and return its files, index.html first.

    published: models NAME:TAG whose published numbers to include. baseline: models to compare the others with.
    models: show only these, in this order; Figure 1 shows the first two. images: include thumbnails of samples.
    """
    report = gather(results, published=published, baseline=baseline, models=models, title=title)
    palette, spent, held = styles(report.models), costs.costs(report), pairs(report)
    found = page.tables_of(report, [*pivots.pivots(report), costs.table(report, spent)])
    figures = plots(report, held[0] if held else None, spent, palette)
    drawn = draw_all(figures, output / "figures")
    shown = {plot.name: (plot, inline(plot, output / "figures")) for plot in figures if plot.inline}
    pictures = Thumbnails() if images else Thumbnails(max_images=0)
    text = page.render(report, found, shown, palette, held, task_galleries(report, pictures), pictures.urls())
    return [
        _write(output / "index.html", text),
        _write(output / "data.json", _data(report, figures)),
        *_write_tables(report, found, output / "tables"),
        *drawn,
    ]


def _write(path: Path, text: str) -> Path:
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
    return path


def _write_tables(report: Report, found: Mapping[str, Table], folder: Path) -> list[Path]:
    """Write every table in three formats, and all numbers in numbers.csv."""
    writers = {".md": grid.to_markdown, ".csv": grid.to_csv, ".tex": grid.to_latex}
    written = [
        _write(folder / f"{name}{suffix}", writer(_printed(table)))
        for name, table in found.items()
        for suffix, writer in writers.items()
    ]
    return [*written, _write(folder / "numbers.csv", tables.to_csv(report.everything))]


def _printed(table: Table) -> Table:
    """Return a table without the rows that the page shows for single groups."""
    return replace(table, lines=tuple(line for line in table.lines if not line.tags or ALL in line.tags))


def _data(report: Report, figures: Sequence[Plot]) -> str:
    """Return the content of the page as JSON: Records, tested differences, and figures."""
    content: dict[str, Any] = {
        "title": report.title,
        "headline": headline(report.comparison)._asdict(),
        "models": report.models,
        "rows": [_row(row) for row in report.comparison.rows],
        "records": [r.model_dump(mode="json") for r in report.by_key.values()],
        "figures": {plot.name: {"title": plot.title, "shows": plot.alt} for plot in figures},
    }
    return json.dumps(content, ensure_ascii=False, indent=1, default=_jsonable) + "\n"


def _row(row: Row) -> dict[str, Any]:
    """Return a row as it is in points; the tests on the metrics' own scales are left out."""
    content = asdict(row)
    for gap in filter(None, content["differences"]):
        del gap["test"]
    return content


def _jsonable(value: Any) -> Any:
    return value.model_dump(mode="json")
