"""The samples of each task on the page: which models to show, their breakdowns and galleries, with thumbnails."""

from __future__ import annotations

import base64
import hashlib
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from cocabench.core.errors import BadImageError
from cocabench.core.types import Record
from cocabench.data.images import BytesImage
from cocabench.kinds import find
from cocabench.kinds.base import Kind
from cocabench.report import galleries
from cocabench.report.content import Report
from cocabench.report.galleries import MAX_CHOICES, Gallery, Item
from cocabench.report.grid import Table
from cocabench.results.compare import Row
from cocabench.results.store import read_thumbnails

MIN_MODELS, MAX_ANSWERS = 8, 3000
"""Models whose answers a gallery holds: eight, and more where the whole page has no more answers than this."""


MODELS_IN_BREAKDOWNS = 4
"""Models that the tables of a look are about, its first ones."""


MIN_ITEMS, MAX_ITEMS = 4, 24
"""Items of a gallery, however many tasks share the thumbnails."""


MAX_MODELS_IN_REPORT_ORDER = 4
"""Models up to which all are looked at in the report's own order."""

BEST, WORST, UNLIKE = "best", "worst", "most unlike the best"

THUMBNAIL_PIXELS = 160
"""Pixels of the longer side: sharp at the 80 to 110 that the page shows on a dense screen."""

JPEG_QUALITY = 80

MAX_IMAGES, MAX_IMAGE_BYTES = 240, 2_000_000
"""Images and bytes (before base64) of a whole page."""


class Look(NamedTuple):
    """models: those to look at come first. roles: {model: best, worst …}. pictures: {example: its thumbnail's key}."""

    task: str
    models: tuple[str, ...]
    roles: dict[str, str]
    tables: tuple[Table, ...]
    galleries: tuple[Gallery, ...]
    pictures: dict[str, str]


def looks(report: Report, thumbnails: Thumbnails) -> list[Look]:
    """Return a look at each task that has samples."""
    records = {(r.model, r.task): r for r in report.records if report.has_samples(r)}
    rows = [
        (row, mine)
        for row in report.comparison.rows
        if (mine := {m: records[m, row.task] for m in report.models if (m, row.task) in records})
    ]
    items = min(MAX_ITEMS, max(MIN_ITEMS, thumbnails.most // max(1, len(rows))))
    models = max(MIN_MODELS, MAX_ANSWERS // (items * max(1, len(rows))))
    found = [_look(report, row, mine, thumbnails, _Most(models, items)) for row, mine in rows]
    _add_neighbours(found, thumbnails)
    return [look for look, _ in found if look.tables or look.galleries]


class _Most(NamedTuple):
    models: int
    items: int


def _look(
    report: Report, row: Row, records: Mapping[str, Record], thumbnails: Thumbnails, most: _Most
) -> tuple[Look, Path | None]:
    """Return a look at a task, and the file of its thumbnails."""
    file = next((file for r in records.values() if (file := report.thumbnails(r))), None)
    kind, roles = find(row.evaluator), roles_of(report, row, records)
    models = order(report, row, roles, records)[: most.models]
    whole = {model: report.samples(records[model]) for model in models[:MODELS_IN_BREAKDOWNS]}
    images = galleries.pool(whole[models[0]], thumbnails.ids(file))
    samples = {model: report.samples(records[model], images=images) for model in models}
    shown = galleries.galleries(kind, samples, thumbnails.ids(file), most.items)
    items = [item for found in shown for item in found.examples]
    pictures = {item.picture: key for item in items if (key := thumbnails.add(file, item.picture))}
    made = tuple(galleries.breakdowns(kind, row.task, whole))
    return Look(row.task, tuple(models), roles, made, tuple(shown), pictures), file


def _add_neighbours(found: Sequence[tuple[Look, Path | None]], thumbnails: Thumbnails) -> None:
    """Give the places that are left to the images that models took for the right ones, nearest first."""
    for turn in range(MAX_CHOICES):
        for look, file in found:
            for item in (item for part in look.galleries for item in part.examples):
                for name in _neighbours(item, turn):
                    if name not in look.pictures and (key := thumbnails.add(file, name)):
                        look.pictures[name] = key


def _neighbours(item: Item, turn: int) -> list[str]:
    return [a.choices[turn].picture for a in item.answers if len(a.choices) > turn and a.choices[turn].picture]


def roles_of(report: Report, row: Row, records: Mapping[str, Record]) -> dict[str, str]:
    """Return what some of the models with samples are on a task, from three models on: {model: best}.

    Most unlike the best is the one that does better than the best on most samples.
    """
    ranked = [model for model in _ranked(report, row, records) if _value(report, row, model) > -math.inf]
    if len(ranked) < 3:
        return {}
    kind, (best, *between, worst) = find(row.evaluator), ranked
    samples = report.evidence.samples(records[best])
    better = {model: _better(kind, report.evidence.samples(records[model]), samples) for model in between}
    unlike = max(between, key=lambda model: better[model])
    return {best: BEST, **({unlike: UNLIKE} if better[unlike] else {}), worst: WORST}


def order(report: Report, row: Row, found: Mapping[str, str], records: Mapping[str, Record]) -> list[str]:
    """Return the models with samples, those to look at first; found: their roles.

    Those of few models, and of a report with a baseline, begin with its pair.
    """
    few = len(report.models) <= MAX_MODELS_IN_REPORT_ORDER
    first = report.pair if few or report.baseline else ()
    rest = report.models if few else (*found, *report.pair, *_ranked(report, row, records))
    return [model for model in dict.fromkeys((*first, *rest)) if model in records]


def _ranked(report: Report, row: Row, records: Iterable[str]) -> list[str]:
    return sorted(records, key=lambda model: -_value(report, row, model))


def _value(report: Report, row: Row, model: str) -> float:
    """Return a model's number on a task, more is better; -inf where it has none."""
    estimate = row.cells[report.models.index(model)].estimate
    if estimate is None or estimate.value is None:
        return -math.inf
    return estimate.value if row.info.higher_is_better else -estimate.value


def _better(kind: type[Kind], one: pd.DataFrame, best: pd.DataFrame) -> float:
    """Return the share of samples on which one does better than the best; 0 where they are not the same samples."""
    if not np.array_equal(one["id"], best["id"]):
        return 0.0
    mine, theirs = galleries.outcomes(kind, one), galleries.outcomes(kind, best)
    return float(np.mean(mine > theirs)) if len(mine) == len(theirs) > 0 else 0.0


class Thumbnails:
    """Collects images under short keys; an image that is there costs nothing, one beyond the limits is left out.

    most: how many images; 0 for none.
    """

    def __init__(self, most: int = MAX_IMAGES, most_bytes: int = MAX_IMAGE_BYTES) -> None:
        self.most, self._left = most, most_bytes
        self._keys: dict[str, str] = {}
        self._images: dict[str, bytes] = {}
        self._files: dict[Path, dict[str, bytes]] = {}

    def ids(self, file: Path | None) -> frozenset[str]:
        """Return the example ids that a thumbnails file holds."""
        return frozenset(self._read(file))

    def add(self, file: Path | None, example: str) -> str:
        """Return the key of an example's image, '' where there is none or the thumbnails is full."""
        data = self._read(file).get(example)
        if data is None or not self.most:
            return ""
        name = hashlib.sha256(data).hexdigest()
        if name not in self._keys and len(self._keys) < self.most:
            small = _small(data)
            if small and len(small) <= self._left:
                self._left -= len(small)
                self._keys[name] = f"i{len(self._keys)}"
                self._images[self._keys[name]] = small
        return self._keys.get(name, "")

    def urls(self) -> dict[str, str]:
        """Return {key: data URL}."""
        return {key: f"data:image/jpeg;base64,{base64.b64encode(data).decode()}" for key, data in self._images.items()}

    def _read(self, file: Path | None) -> dict[str, bytes]:
        if file is None or not self.most:
            return {}
        if file not in self._files:
            self._files[file] = read_thumbnails(file)
        return self._files[file]


def _small(data: bytes) -> bytes:
    """Return a picture as a smaller JPEG; nothing for one that cannot be read."""
    try:
        image = BytesImage(data, "a thumbnail").open().convert("RGB")
    except BadImageError:
        return b""
    image.thumbnail((THUMBNAIL_PIXELS, THUMBNAIL_PIXELS))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=JPEG_QUALITY, optimize=True)
    return buffer.getvalue()
