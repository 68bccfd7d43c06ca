"""The page's closer looks: for every task whose samples are at hand its tables and its galleries, with thumbnails."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from cocabench.compare import Row
from cocabench.report import closer, gallery
from cocabench.report.album import Album
from cocabench.report.answers import SHOWN
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
    records = {(r.model, r.task): r for r in report.records if r.model in models and report.has_samples(r)}
    rows = [(row, [records[m, row.task] for m in models if (m, row.task) in records]) for row in report.comparison.rows]
    rows = [(row, mine) for row, mine in rows if mine]
    most = min(MOST_ITEMS, max(FEWEST, album.most // max(1, len(rows))))
    files = [next((file for r in mine if (file := report.thumbnails(r))), None) for _, mine in rows]
    found = [(_look(report, row, mine, album, most, file), file) for (row, mine), file in zip(rows, files, strict=True)]
    _add_neighbours(found, album)
    return [look for look, _ in found if look.tables or look.galleries]


def _look(report: Report, row: Row, records: Sequence[Record], album: Album, most: int, file: Path | None) -> Look:
    samples = {r.model: report.samples(r) for r in records}
    shown = gallery.galleries(row.evaluator, samples, album.ids(file), most)
    items = [item for found in shown for item in found.examples]
    pictures = {item.picture: key for item in items if (key := album.add(file, item.picture))}
    made = tuple(closer.tables(row.task, row.evaluator, samples))
    return Look(row.task, tuple(samples), made, tuple(shown), pictures)


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
