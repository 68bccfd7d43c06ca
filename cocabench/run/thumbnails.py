"""Thumbnails for reports, which do not read data sets: 256 images per data set, the same for every model, and the
nearest wrong images of a few of them."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Collection, Iterable, Sequence

import pandas as pd

from cocabench.core.errors import BadImageError
from cocabench.core.types import Example
from cocabench.data.images import eight_bit
from cocabench.kinds.base import Kind

MAX_SIDE_PIXELS, GAP_PIXELS = 256, 8
MAX_IMAGES = 256

IMAGES_WITH_NEIGHBOURS = 24
"""Of this many images, the wrong images nearest to the first caption are stored too: at most 5 per model."""


def chosen(examples: Iterable[Example]) -> list[Example]:
    """Return the examples whose ids hash lowest, independently of order, limit and model."""
    return sorted(examples, key=lambda e: hashlib.sha256(e.id.encode()).digest())[:MAX_IMAGES]


def wanted(examples: Sequence[Example], samples: pd.DataFrame, kind: type[Kind]) -> list[Example]:
    """Return the chosen examples, then the neighbours in the samples' columns of image ids."""
    first = chosen(examples)
    columns = [column.name for column in kind.samples if column.type == "image_ids" and column.name in samples]
    ids = [example.id for example in first[:IMAGES_WITH_NEIGHBOURS]]
    names = {name for column in columns for name in _neighbours(ids, samples, column)}
    seen = {example.id for example in first}
    return [*first, *(example for example in examples if example.id in names and example.id not in seen)]


def _neighbours(ids: Sequence[str], samples: pd.DataFrame, column: str) -> set[str]:
    queries = samples[samples[column].notna() & samples["image_id"].isin(ids)].drop_duplicates("image_id")
    return {str(name) for names in queries[column] for name in names}


def missing(
    examples: Sequence[Example], samples: pd.DataFrame, kind: type[Kind], known: Collection[str]
) -> dict[str, bytes]:
    """Return the thumbnails that reports want of a scoring, but for known ids."""
    chosen = wanted(examples, samples, kind)
    return {e.id: data for e in chosen if e.id not in known and (data := jpeg(e)) is not None}


def jpeg(example: Example) -> bytes | None:
    """Return the images side by side on white, each at most 256 pixels a side, as JPEG; None if one cannot be read."""
    from PIL import Image

    try:
        images = [eight_bit(image.open()).convert("RGBA") for image in example.images]
    except BadImageError:
        return None
    for image in images:
        image.thumbnail((MAX_SIDE_PIXELS, MAX_SIDE_PIXELS))
    edges = [sum(image.width for image in images[:k]) + k * GAP_PIXELS for k in range(len(images) + 1)]
    flat = Image.new("RGBA", (edges[-1] - GAP_PIXELS, max(image.height for image in images)), "white")
    for image, left in zip(images, edges, strict=False):
        flat.alpha_composite(image, (left, 0))
    buffer = io.BytesIO()
    flat.convert("RGB").save(buffer, "JPEG", quality=85)
    return buffer.getvalue()
