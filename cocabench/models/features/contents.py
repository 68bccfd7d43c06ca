"""What identifies an input: 16 bytes of the SHA-256 of its content."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from cocabench.core.errors import DataError
from cocabench.core.types import IdentifiedSource, ImageSource
from cocabench.data.images import identity, stamp

LENGTH = 16
READERS = 16
"""Files that are read at once: hashing needs little of a processor, network disks answer late."""


def of_bytes(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()[:LENGTH]


def of_texts(texts: Iterable[str]) -> list[bytes]:
    return [of_bytes(text.encode("utf-8", "surrogatepass")) for text in texts]


def stamps_of(sources: Iterable[ImageSource]) -> list[bytes | None]:
    """Return a hash of each source's stamp, None where only its content tells what it holds."""
    return [of_bytes(text.encode("utf-8", "surrogateescape")) if text else None for text in map(stamp, sources)]


def of_identified(sources: Sequence[ImageSource]) -> list[bytes | None]:
    """Return the content of each source that can say it, None for the others and those that cannot be read."""
    files = [i for i, source in enumerate(sources) if isinstance(source, IdentifiedSource)]
    told: list[bytes | None] = [None] * len(sources)
    with ThreadPoolExecutor(READERS) as readers:
        for i, found in zip(files, readers.map(_read, (sources[i] for i in files)), strict=True):
            told[i] = found
    return told


def of_images(
    sources: Sequence[ImageSource], stamps: Sequence[bytes | None], known: Mapping[bytes, bytes]
) -> list[bytes | None]:
    """Return each source's content, read unless its stamp is a known one; None where it cannot be read."""
    told = [known.get(mark) if mark else None for mark in stamps]
    unread = [i for i, found in enumerate(told) if found is None]
    for i, found in zip(unread, of_identified([sources[i] for i in unread]), strict=True):
        told[i] = found
    for i in unread:  # other people's data sets are not asked from several threads
        if not isinstance(sources[i], IdentifiedSource):
            told[i] = _read(sources[i])
    return told


def unchanged(
    sources: Sequence[ImageSource], stamps: Sequence[bytes | None], contents: Sequence[bytes | None]
) -> NDArray[np.bool_]:
    """Tell which sources (n,) are still what they were when stamps and then contents were taken.

    One with a stamp is judged by it, a file that was too fresh for one by its content, read again. Sources that cannot
    say their content are taken at their word.
    """
    now = stamps_of(sources)
    same = np.array([old is None or old == new for old, new in zip(stamps, now, strict=True)], np.bool_)
    fresh = [i for i, stamp in enumerate(stamps) if stamp is None and isinstance(sources[i], IdentifiedSource)]
    for i, content in zip(fresh, of_identified([sources[i] for i in fresh]), strict=True):
        same[i] = content == contents[i]
    return same


def _read(source: ImageSource) -> bytes | None:
    try:
        return of_bytes(identity(source))
    except DataError:  # whoever decodes it says so, with the file's name
        return None
