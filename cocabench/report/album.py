"""Thumbnails on the page: each once, small, and not more than a page can carry."""

from __future__ import annotations

import base64
import hashlib
import io
from pathlib import Path

from cocabench.results.store import read_thumbnails

SIDE = 160
"""Pixels of the longer side: sharp at the 80 to 110 that the page shows on a dense screen."""

QUALITY = 80
MOST, BYTES = 240, 2_000_000
"""Images and bytes (before base64) of a whole page."""


class Album:
    """Collects images under short keys; an image that is there costs nothing, one beyond the limits is left out.

    most: how many images; 0 for none.
    """

    def __init__(self, most: int = MOST, most_bytes: int = BYTES) -> None:
        self.most, self._left = most, most_bytes
        self._keys: dict[str, str] = {}
        self._images: dict[str, bytes] = {}
        self._files: dict[Path, dict[str, bytes]] = {}

    def ids(self, file: Path | None) -> frozenset[str]:
        """Return the example ids that a thumbnails file holds."""
        return frozenset(self._read(file))

    def add(self, file: Path | None, example: str) -> str:
        """Return the key of an example's image, '' where there is none or the album is full."""
        data = self._read(file).get(example)
        if data is None or not self.most:
            return ""
        name = hashlib.sha256(data).hexdigest()
        if name not in self._keys and len(self._keys) < self.most:
            small = _small(data)
            if len(small) <= self._left:
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
    from PIL import Image

    image = Image.open(io.BytesIO(data)).convert("RGB")
    image.thumbnail((SIDE, SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=QUALITY, optimize=True)
    return buffer.getvalue()
