"""Image files as open_clip's trainer reads them: a path, or the bytes of a JPEG, PNG or WebP."""

from __future__ import annotations

import io
from pathlib import Path
from typing import NamedTuple

from PIL import Image, UnidentifiedImageError

from cocabench.core.errors import BadImageError, MissingDataError
from cocabench.core.types import Example, ImageSource
from cocabench.data.images import BytesImage, FileImage, TarImage
from cocabench.results.store import slug, write_atomically

_SUFFIX = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp"}
"""The formats that open_clip_train takes from shards; others become PNG, which loses nothing."""


class Encoded(NamedTuple):
    """An encoded image: its bytes and the suffix of its format, without a dot."""

    content: bytes
    suffix: str


def encoded(source: ImageSource) -> Encoded:
    """Return an image's own bytes where they are a JPEG, PNG or WebP file, else a PNG of what the source shows."""
    content = _own_bytes(source)
    try:
        found = _SUFFIX.get(Image.open(io.BytesIO(content)).format or "") if content else None
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError):
        raise BadImageError(str(source), "not an image", fix="remove it from the data set") from None
    if content and found:
        return Encoded(content, found)
    file = io.BytesIO()
    image = source.open()
    (image if image.mode in ("L", "RGB", "RGBA") else image.convert("RGB")).save(file, "PNG")
    return Encoded(file.getvalue(), "png")


def _own_bytes(source: ImageSource) -> bytes | None:
    """Return the bytes as they are stored; None for images that are made (cropped, on white) when they are opened."""
    if isinstance(source, FileImage):
        try:
            return source.path.read_bytes()
        except FileNotFoundError:
            raise MissingDataError(str(source), "no such file") from None
    if isinstance(source, TarImage):
        with source.tar.open("rb") as file:
            file.seek(source.offset)
            return file.read(source.size)
    return source.content if isinstance(source, BytesImage) else None


def extracted(example: Example, folder: Path) -> Path:
    """Return the file of an example's image below folder, written unless it is there already."""
    stem = folder / slug(example.id)
    for suffix in _SUFFIX.values():
        if (path := stem.with_name(f"{stem.name}.{suffix}")).is_file():
            return path
    image = encoded(example.image)
    path = stem.with_name(f"{stem.name}.{image.suffix}")
    write_atomically(path, lambda temporary: temporary.write_bytes(image.content))
    return path
