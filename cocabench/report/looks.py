"""The page's closer looks: for every task whose samples are at hand its tables and its galleries, with thumbnails."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from cocabench.core.types import Record
from cocabench.report import closer, contrasts, gallery
from cocabench.report.album import Album
from cocabench.report.answers import SHOWN
from cocabench.report.content import Report
from cocabench.report.gallery import Gallery, Item
from cocabench.report.grid import Table
from cocabench.results.compare import Row

FEWEST_MODELS, MOST_ANSWERS = 8, 3000
"""Models whose answers a gallery holds: eight, and more where the whole page has no more answers than this."""

LISTED = 4
"""Models that the tables of a look are about, its first ones."""

FEWEST, MOST_ITEMS = 4, 24
"""Items of a gallery, however many tasks share the album."""


class Look(NamedTuple):
    """models: those to look at come first. roles: {model: best, worst …}. pictures: {example: key in the album}."""

    task: str
    models: tuple[str, ...]
    roles: dict[str, str]
    tables: tuple[Table, ...]
    galleries: tuple[Gallery, ...]
    pictures: dict[str, str]


def looks(report: Report, album: Album) -> list[Look]:
    """Return a look at each task that has samples."""
    records = {(r.model, r.task): r for r in report.records if report.has_samples(r)}
    rows = [
        (row, mine)
        for row in report.comparison.rows
        if (mine := {m: records[m, row.task] for m in report.models if (m, row.task) in records})
    ]
    items = min(MOST_ITEMS, max(FEWEST, album.most // max(1, len(rows))))
    models = max(FEWEST_MODELS, MOST_ANSWERS // (items * max(1, len(rows))))
    found = [_look(report, row, mine, album, _Most(models, items)) for row, mine in rows]
    _add_neighbours(found, album)
    return [look for look, _ in found if look.tables or look.galleries]


class _Most(NamedTuple):
    models: int
    items: int


def _look(
    report: Report, row: Row, records: Mapping[str, Record], album: Album, most: _Most
) -> tuple[Look, Path | None]:
    """Return a look at a task, and the file of its thumbnails."""
    file = next((file for r in records.values() if (file := report.thumbnails(r))), None)
    roles = contrasts.roles(report, row, records)
    models = contrasts.order(report, row, roles, records)[: most.models]
    whole = {model: report.samples(records[model]) for model in models[:LISTED]}
    images = gallery.pool(whole[models[0]], album.ids(file))
    samples = {model: report.samples(records[model], images=images) for model in models}
    shown = gallery.galleries(samples, album.ids(file), most.items)
    items = [item for found in shown for item in found.examples]
    pictures = {item.picture: key for item in items if (key := album.add(file, item.picture))}
    made = tuple(closer.tables(row.task, whole))
    return Look(row.task, tuple(models), roles, made, tuple(shown), pictures), file


def _add_neighbours(found: Sequence[tuple[Look, Path | None]], album: Album) -> None:
    """Give the places that are left to the images that models took for the right ones, nearest first."""
    for turn in range(SHOWN):
        for look, file in found:
            for item in (item for part in look.galleries for item in part.examples):
                for name in _neighbours(item, turn):
                    if name not in look.pictures and (key := album.add(file, name)):
                        look.pictures[name] = key


def _neighbours(item: Item, turn: int) -> list[str]:
    return [a.choices[turn].picture for a in item.answers if len(a.choices) > turn and a.choices[turn].picture]
