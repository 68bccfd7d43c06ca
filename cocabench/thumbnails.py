"""Small pictures for reports, which read no data set: at most 256 per data set, the same for every model."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable

from cocabench.errors import BadImageError
from cocabench.types import Example

LARGEST_SIDE = 256
MOST = 256


def chosen(examples: Iterable[Example]) -> list[Example]:
    """Return the examples whose ids hash lowest: a choice that no order, limit or model changes."""
    return sorted(examples, key=lambda e: hashlib.sha256(e.id.encode()).digest())[:MOST]


def jpeg(example: Example) -> bytes | None:
    """Return the image on white, at most 256 px a side, as JPEG; None where it cannot be read."""
    from PIL import Image

    try:
        image = example.image.open().convert("RGBA")
    except BadImageError:
        return None
    image.thumbnail((LARGEST_SIDE, LARGEST_SIDE))
    flat = Image.new("RGBA", image.size, "white")
    flat.alpha_composite(image)
    buffer = io.BytesIO()
    flat.convert("RGB").save(buffer, "JPEG", quality=85)
    return buffer.getvalue()
