"""What identifies an input: 16 bytes of the SHA-256 of its content; and in what modes images are.

What files hold is remembered in the cache.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cocabench.core.cache import Cache, get_or_compute
from cocabench.core.errors import DataError
from cocabench.core.types import IdentifiedSource, ImageSource
from cocabench.data.images import ModedSource, identity, mode, stamp

LENGTH = 16
READERS = 16
"""Files that are read at once: hashing needs little of a processor, network disks answer late."""

FILES = "contents of image files 1"
"""The space of file contents by path, inode, size and times."""


MODES = "modes of images 1"
"""The space of a data set's modes by the stamps of all its files."""


class Contents(NamedTuple):
    """Of each image its stamp, as it was before the content was read, and its content.

    A stamp is None where only the content tells what a source holds; a content is None where it cannot be read.
    """

    stamps: Sequence[bytes | None]
    keys: Sequence[bytes | None]


def of_bytes(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()[:LENGTH]


def of_texts(texts: Iterable[str]) -> list[bytes]:
    return [of_bytes(text.encode("utf-8", "surrogatepass")) for text in texts]


def of_images(images: Sequence[ImageSource], cache: Cache) -> Contents:
    """Return what identifies each image. Reads only files that the cache does not know, and tells it of them."""
    stamps = _stamps(images)
    known = cache.get(FILES, list({mark for mark in stamps if mark is not None}))
    keys: list[bytes | None] = [known.get(mark) if mark else None for mark in stamps]
    unread = [i for i, found in enumerate(keys) if found is None]
    for i, found in zip(unread, _of_identified([images[i] for i in unread]), strict=True):
        keys[i] = found
    for i in unread:  # other people's data sets are not asked from several threads
        if not isinstance(images[i], IdentifiedSource):
            keys[i] = _read(images[i])
    fresh = {mark: key for i in unread if (mark := stamps[i]) is not None and (key := keys[i]) is not None}
    cache.put(FILES, fresh, label="contents of image files")
    return Contents(stamps, keys)


def known_images(images: Sequence[ImageSource], cache: Cache) -> list[bytes]:
    """Return the contents of those images of which they are known without decoding or reading a file again."""
    stamps = _stamps(images)
    known = cache.get(FILES, list({mark for mark in stamps if mark is not None}))
    in_memory = _of_identified([source for source, mark in zip(images, stamps, strict=True) if mark is None])
    found = [known.get(mark) for mark in stamps if mark is not None] + in_memory
    return [content for content in found if content is not None]


def modes(images: Sequence[ImageSource], cache: Cache | None) -> Mapping[str, int]:
    """Return in which of Pillow's modes how many images are, by the heads of their files; '' for broken ones.

    Of sources that cannot tell without decoding (other people's data sets) the first, middle and last speak for all.
    """
    tell = [isinstance(source, ModedSource) for source in images]
    silent = [source for source, able in zip(images, tell, strict=True) if not able]
    chosen = [source for source, able in zip(images, tell, strict=True) if able]
    marked = [(source, mark) for source in chosen if (mark := stamp(source))]
    found = Counter(_modes([source for source in chosen if not stamp(source)]))
    if cache is not None and marked:
        key = of_bytes("\n".join(mark for _, mark in marked).encode("utf-8", "surrogateescape"))
        sources = [source for source, _ in marked]
        (text,) = get_or_compute(cache, MODES, [key], lambda _: [json.dumps(_modes(sources)).encode()], label="modes")
        found.update(json.loads(text))
    else:
        found.update(_modes([source for source, _ in marked]))
    found.update(mode(silent[k]) for k in sorted({0, len(silent) // 2, len(silent) - 1}) if silent)
    return found


def _modes(images: Sequence[ImageSource]) -> dict[str, int]:
    with ThreadPoolExecutor(READERS) as readers:
        return Counter(readers.map(mode, images))


def unchanged(images: Sequence[ImageSource], before: Contents) -> NDArray[np.bool_]:
    """Tell which images (n,) are still what they were when their contents were taken.

    One with a stamp is judged by it, a file that was too fresh for one by its content, read again. Sources that cannot
    say their content are taken at their word.
    """
    now = _stamps(images)
    same = np.array([old is None or old == new for old, new in zip(before.stamps, now, strict=True)], np.bool_)
    fresh = [i for i, mark in enumerate(before.stamps) if mark is None and isinstance(images[i], IdentifiedSource)]
    for i, content in zip(fresh, _of_identified([images[i] for i in fresh]), strict=True):
        same[i] = content == before.keys[i]
    return same


def _stamps(images: Iterable[ImageSource]) -> list[bytes | None]:
    """Return a hash of each source's stamp, None where only its content tells what it holds."""
    return [of_bytes(text.encode("utf-8", "surrogateescape")) if text else None for text in map(stamp, images)]


def _of_identified(images: Sequence[ImageSource]) -> list[bytes | None]:
    """Return the content of each source that can say it, None for the others and those that cannot be read."""
    files = [i for i, source in enumerate(images) if isinstance(source, IdentifiedSource)]
    found: list[bytes | None] = [None] * len(images)
    with ThreadPoolExecutor(READERS) as readers:
        for i, content in zip(files, readers.map(_read, (images[i] for i in files)), strict=True):
            found[i] = content
    return found


def _read(source: ImageSource) -> bytes | None:
    try:
        return of_bytes(identity(source))
    except DataError:  # whoever decodes it says so, with the file's name
        return None
