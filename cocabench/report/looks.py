"""The page's closer looks: for every task whose samples are at hand its tables and its galleries, with thumbnails."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from cocabench.compare import Row
from cocabench.report import closer, gallery
from cocabench.report.album import Album
from cocabench.report.content import Report
from cocabench.report.gallery import Gallery, Item
from cocabench.report.grid import Table
from cocabench.types import Record

MOST_MODELS = 4
"""Models whose samples are looked at: the pair of the figures first."""

FEWEST, MOST_ITEMS = 4, 24
"""Items of a gallery, however many tasks share the album."""


class Look(NamedTuple):
    """pictures: {example: key in the album}."""

    task: str
    models: tuple[str, ...]
    tables: tuple[Table, ...]
    galleries: tuple[Gallery, ...]
    pictures: dict[str, str]


def looks(report: Report, album: Album) -> list[Look]:
    """Return a look at each task that has samples."""
    models = [*report.pair, *(model for model in report.models if model not in report.pair)][:MOST_MODELS]
    rows = [(row, _records(report, row, models)) for row in report.comparison.rows]
    rows = [(row, records) for row, records in rows if records]
    most = min(MOST_ITEMS, max(FEWEST, album.most // max(1, len(rows))))
    found = [_look(report, row, records, album, most) for row, records in rows]
    _add_neighbours(report, found, album)
    return [look for look in found if look.tables or look.galleries]


def _records(report: Report, row: Row, models: Sequence[str]) -> list[Record]:
    found = {(r.model, r.task): r for r in report.records}
    return [r for model in models if (r := found.get((model, row.task))) and report.has_samples(r)]


def _look(report: Report, row: Row, records: Sequence[Record], album: Album, most: int) -> Look:
    samples = {r.model: report.samples(r) for r in records}
    file = next((file for r in records if (file := report.thumbnails(r))), None)
    shown = gallery.galleries(row.evaluator, samples, album.ids(file), most)
    items = [item for found in shown for item in found.examples]
    pictures = {item.picture: key for item in items if (key := album.add(file, item.picture))}
    made = tuple(closer.tables(row.task, row.evaluator, samples))
    return Look(row.task, tuple(samples), made, tuple(shown), pictures)


def _add_neighbours(report: Report, found: Sequence[Look], album: Album) -> None:
    """Give the places that are left to the images that models took for the right ones, nearest first."""
    records = {r.task: r for r in report.records if report.thumbnails(r)}
    for turn in range(gallery.SHOWN):
        for look in found:
            file = report.thumbnails(records[look.task]) if look.task in records else None
            for item in (item for part in look.galleries for item in part.examples):
                for name in _neighbours(item, turn):
                    if name not in look.pictures and (key := album.add(file, name)):
                        look.pictures[name] = key


def _neighbours(item: Item, turn: int) -> list[str]:
    return [a.choices[turn].picture for a in item.answers if len(a.choices) > turn and a.choices[turn].picture]
