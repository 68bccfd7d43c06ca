"""The sample galleries of each task on the page: models, breakdowns, items and thumbnails."""

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

MIN_MODELS_IN_GALLERY, MAX_ANSWERS_ON_PAGE = 8, 3000
"""A gallery holds the answers of eight models, or more while the page stays below this many answers."""


MAX_MODELS_IN_BREAKDOWNS = 4
"""Breakdowns show this many models, the first of the gallery."""


MIN_ITEMS_IN_GALLERY, MAX_ITEMS_IN_GALLERY = 4, 24
"""Items per gallery, depending on how many tasks share the page's thumbnails."""


MAX_MODELS_IN_REPORT_ORDER = 4
"""Up to this many models, galleries show them in the report's order."""

BEST, WORST, DIFFERENT = "best", "worst", "most different from the best"

THUMBNAIL_PIXELS = 160
"""Longer side: sharp at the 80 to 110 CSS pixels of the page on a high-density screen."""

JPEG_QUALITY = 80

MAX_THUMBNAILS, MAX_THUMBNAIL_BYTES = 240, 2_000_000
"""Thumbnails of a whole page, and their bytes before base64."""


class TaskGalleries(NamedTuple):
    """The galleries and breakdowns of a task.

    models: in display order. roles: {model: best, worst …}. pictures: {example: key of its thumbnail}.
    """

    task: str
    models: tuple[str, ...]
    roles: dict[str, str]
    tables: tuple[Table, ...]
    galleries: tuple[Gallery, ...]
    pictures: dict[str, str]


def task_galleries(report: Report, thumbnails: Thumbnails) -> list[TaskGalleries]:
    """Return the galleries of each task that has samples."""
    records = {(r.model, r.task): r for r in report.records if report.has_samples(r)}
    rows = [
        (row, mine)
        for row in report.comparison.rows
        if (mine := {m: records[m, row.task] for m in report.models if (m, row.task) in records})
    ]
    items = min(MAX_ITEMS_IN_GALLERY, max(MIN_ITEMS_IN_GALLERY, thumbnails.max_images // max(1, len(rows))))
    models = max(MIN_MODELS_IN_GALLERY, MAX_ANSWERS_ON_PAGE // (items * max(1, len(rows))))
    found = [_task_galleries(report, row, mine, thumbnails, _Limits(models, items)) for row, mine in rows]
    _add_neighbours(found, thumbnails)
    return [task for task, _ in found if task.tables or task.galleries]


class _Limits(NamedTuple):
    models: int
    items: int


def _task_galleries(
    report: Report, row: Row, records: Mapping[str, Record], thumbnails: Thumbnails, limits: _Limits
) -> tuple[TaskGalleries, Path | None]:
    """Return the galleries of a task, and the file of its thumbnails."""
    file = next((file for r in records.values() if (file := report.thumbnails(r))), None)
    kind, roles = find(row.evaluator), roles_of(report, row, records)
    models = order(report, row, roles, records)[: limits.models]
    whole = {model: report.samples(records[model]) for model in models[:MAX_MODELS_IN_BREAKDOWNS]}
    images = galleries.pool(whole[models[0]], thumbnails.ids(file))
    samples = {model: report.samples(records[model], images=images) for model in models}
    shown = galleries.galleries(kind, samples, thumbnails.ids(file), limits.items)
    items = [item for found in shown for item in found.examples]
    pictures = {item.picture: key for item in items if (key := thumbnails.add(file, item.picture))}
    made = tuple(galleries.breakdowns(kind, row.task, whole))
    return TaskGalleries(row.task, tuple(models), roles, made, tuple(shown), pictures), file


def _add_neighbours(found: Sequence[tuple[TaskGalleries, Path | None]], thumbnails: Thumbnails) -> None:
    """Use the remaining thumbnails for the wrong images that models ranked first."""
    for turn in range(MAX_CHOICES):
        for task, file in found:
            for item in (item for part in task.galleries for item in part.examples):
                for name in _neighbours(item, turn):
                    if name not in task.pictures and (key := thumbnails.add(file, name)):
                        task.pictures[name] = key


def _neighbours(item: Item, turn: int) -> list[str]:
    return [a.choices[turn].picture for a in item.answers if len(a.choices) > turn and a.choices[turn].picture]


def roles_of(report: Report, row: Row, records: Mapping[str, Record]) -> dict[str, str]:
    """Return the roles of models with samples on a task, for three or more models: {model: best}.

    Most different from the best is the model that beats the best one on the most samples.
    """
    ranked = [model for model in _ranked(report, row, records) if _value(report, row, model) > -math.inf]
    if len(ranked) < 3:
        return {}
    kind, (best, *between, worst) = find(row.evaluator), ranked
    samples = report.evidence.samples(records[best])
    better = {model: _better(kind, report.evidence.samples(records[model]), samples) for model in between}
    different = max(between, key=lambda model: better[model])
    return {best: BEST, **({different: DIFFERENT} if better[different] else {}), worst: WORST}


def order(report: Report, row: Row, found: Mapping[str, str], records: Mapping[str, Record]) -> list[str]:
    """Return the models with samples in display order; found: their roles.

    With few models or a baseline, the report's pair comes first.
    """
    few = len(report.models) <= MAX_MODELS_IN_REPORT_ORDER
    first = report.pair if few or report.baseline else ()
    rest = report.models if few else (*found, *report.pair, *_ranked(report, row, records))
    return [model for model in dict.fromkeys((*first, *rest)) if model in records]


def _ranked(report: Report, row: Row, records: Iterable[str]) -> list[str]:
    return sorted(records, key=lambda model: -_value(report, row, model))


def _value(report: Report, row: Row, model: str) -> float:
    """Return a model's number on a task, higher is better; -inf if it has none."""
    estimate = row.cells[report.models.index(model)].estimate
    if estimate is None or estimate.value is None:
        return -math.inf
    return estimate.value if row.info.higher_is_better else -estimate.value


def _better(kind: type[Kind], one: pd.DataFrame, best: pd.DataFrame) -> float:
    """Return the share of samples on which one model beats the best; 0 if the samples differ."""
    if not np.array_equal(one["id"], best["id"]):
        return 0.0
    mine, theirs = galleries.outcomes(kind, one), galleries.outcomes(kind, best)
    return float(np.mean(mine > theirs)) if len(mine) == len(theirs) > 0 else 0.0


class Thumbnails:
    """The page's thumbnails under short keys; equal images are stored once, images beyond the limits are left out.

    max_images: 0 for none.
    """

    def __init__(self, max_images: int = MAX_THUMBNAILS, max_bytes: int = MAX_THUMBNAIL_BYTES) -> None:
        self.max_images, self._left = max_images, max_bytes
        self._keys: dict[str, str] = {}
        self._images: dict[str, bytes] = {}
        self._files: dict[Path, dict[str, bytes]] = {}

    def ids(self, file: Path | None) -> frozenset[str]:
        """Return the example ids in a thumbnails file."""
        return frozenset(self._read(file))

    def add(self, file: Path | None, example: str) -> str:
        """Return the key of an example's image, '' if there is none or a limit is reached."""
        data = self._read(file).get(example)
        if data is None or not self.max_images:
            return ""
        name = hashlib.sha256(data).hexdigest()
        if name not in self._keys and len(self._keys) < self.max_images:
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
        if file is None or not self.max_images:
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
