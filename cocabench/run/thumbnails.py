"""Small pictures for reports, which read no data set: 256 per data set, the same for every model, and what models
took for a few of them."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Sequence

import pandas as pd

from cocabench.core.errors import BadImageError
from cocabench.core.types import Example
from cocabench.data.images import eight_bit
from cocabench.kinds.base import Kind

LARGEST_SIDE, GAP = 256, 8
MOST = 256

LOOKED_AT = 24
"""Images of which the wrong images nearest to their first caption are kept too: at most 5 for each model."""


def chosen(examples: Iterable[Example]) -> list[Example]:
    """Return the examples whose ids hash lowest: a choice that no order, limit or model changes."""
    return sorted(examples, key=lambda e: hashlib.sha256(e.id.encode()).digest())[:MOST]


def wanted(examples: Sequence[Example], samples: pd.DataFrame, kind: type[Kind]) -> list[Example]:
    """Return the chosen examples, then the neighbours that samples name in columns of image ids."""
    first = chosen(examples)
    columns = [column.name for column in kind.samples if column.type == "image_ids" and column.name in samples]
    ids = [example.id for example in first[:LOOKED_AT]]
    names = {name for column in columns for name in _neighbours(ids, samples, column)}
    seen = {example.id for example in first}
    return [*first, *(example for example in examples if example.id in names and example.id not in seen)]


def _neighbours(ids: Sequence[str], samples: pd.DataFrame, column: str) -> set[str]:
    queries = samples[samples[column].notna() & samples["image_id"].isin(ids)].drop_duplicates("image_id")
    return {str(name) for names in queries[column] for name in names}


def jpeg(example: Example) -> bytes | None:
    """Return the images on white, side by side, each at most 256 px a side, as JPEG; None where one cannot be read."""
    from PIL import Image

    try:
        images = [eight_bit(image.open()).convert("RGBA") for image in example.images]
    except BadImageError:
        return None
    for image in images:
        image.thumbnail((LARGEST_SIDE, LARGEST_SIDE))
    edges = [sum(image.width for image in images[:k]) + k * GAP for k in range(len(images) + 1)]
    flat = Image.new("RGBA", (edges[-1] - GAP, max(image.height for image in images)), "white")
    for image, left in zip(images, edges, strict=False):
        flat.alpha_composite(image, (left, 0))
    buffer = io.BytesIO()
    flat.convert("RGB").save(buffer, "JPEG", quality=85)
    return buffer.getvalue()
