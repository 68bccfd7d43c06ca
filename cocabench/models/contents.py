"""Content hashes of inputs (16 bytes of SHA-256), of whole sets of images, and the modes of images. All are cached for
files."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import compress
from types import MappingProxyType
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from cocabench.core.cache import Cache, MemoryCache, get_or_compute
from cocabench.core.errors import DataError
from cocabench.core.signature import digest_lines
from cocabench.core.types import ImageSource
from cocabench.data.images import identity, is_identified, is_moded, mode, stamp

T = TypeVar("T")

HASH_BYTES = 16
MAX_FILES_READ_AT_ONCE = 16
"""Number of reading threads: hashing needs little CPU, but network disks have high latency."""
MAX_FILES_PER_TASK = 16
"""Handing a file to a thread costs as much processor time as hashing 20 KB."""

FILES = "contents of image files 1"
"""The cache space of content hashes by path, inode, size and times."""


MODES = "modes of images 1"
"""The space of a data set's modes by the stamps of all its files."""


PICTURES = "contents of sets of images 1"
"""The space of ``Pictures`` by the hash of all ids and stamps."""


CONTENTS = "contents of the images of sets 1"
"""The space of the content hashes of all images, joined, by the same."""


class Pictures(NamedTuple):
    """What identifies a set of images: the hash of their contents, and that of their ids with their contents.

    Neither depends on the order of the images, nor on where their files are.
    """

    contents: str
    by_id: str


class Contents(NamedTuple):
    """Stamps of images, taken before reading, and their content hashes.

    A stamp is None if only the content identifies a source; a content is None if the source cannot be read.
    """

    stamps: Sequence[bytes | None]
    keys: Sequence[bytes | None]


def of_bytes(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()[:HASH_BYTES]


def of_texts(texts: Iterable[str]) -> list[bytes]:
    return [of_bytes(text.encode("utf-8", "surrogatepass")) for text in texts]


def of_images(images: Sequence[ImageSource], cache: Cache) -> Contents:
    """Return the content hash of each image; reads only files that are not cached, and caches their hashes."""
    stamps = _stamps(images)
    known = cache.get(FILES, list({mark for mark in stamps if mark is not None}))
    keys: list[bytes | None] = [known.get(mark) if mark else None for mark in stamps]
    unread = [i for i, found in enumerate(keys) if found is None]
    for i, found in zip(unread, _of_identified([images[i] for i in unread]), strict=True):
        keys[i] = found
    for i in unread:  # third-party data sets may not be thread-safe
        if not is_identified(images[i]):
            keys[i] = _read(images[i])
    fresh = {mark: key for i in unread if (mark := stamps[i]) is not None and (key := keys[i]) is not None}
    cache.put(FILES, fresh, label="contents of image files")
    return Contents(stamps, keys)


def known_images(images: Sequence[ImageSource], cache: Cache, marks: Sequence[str] | None = None) -> list[bytes]:
    """Return the content hashes that are known without decoding or reading files. marks: of the images, if known."""
    stamps = _stamps(images) if marks is None else [_stamp_key("" if m.startswith(_CONTENT) else m) for m in marks]
    known = cache.get(FILES, list({mark for mark in stamps if mark is not None}))
    in_memory = _of_identified([source for source, mark in zip(images, stamps, strict=True) if mark is None])
    found = [known.get(mark) for mark in stamps if mark is not None] + in_memory
    return [content for content in found if content is not None]


def marks(images: Sequence[ImageSource]) -> list[str]:
    """Return a text per image that changes when it does: its stamp, or of images without one a hash of the content.

    Of sources that are not identified without decoding (other people's data sets) only the first, middle and last are
    read; the others have ''.
    """
    found = list(map(stamp, images))
    rest = [i for i, mark in enumerate(found) if not mark]
    blind = [i for i in rest if not is_identified(images[i])]
    identified = [i for i in rest if is_identified(images[i])]
    for i, content in zip(identified, _of_identified([images[i] for i in identified]), strict=True):
        found[i] = _CONTENT + content.hex() if content else ""
    for i in _ends(blind):
        found[i] = _CONTENT + (_read(images[i]) or b"").hex()
    return found


_CONTENT = "content "


def hash_of_marks(ids: Sequence[str], marks: Sequence[str]) -> str:
    return digest_lines(f"{name} {mark}" for name, mark in zip(ids, marks, strict=True))


def pictures(
    ids: Sequence[str],
    images: Sequence[ImageSource],
    marks: Sequence[str],
    cache: Cache | None,
    keys: Mapping[int, bytes | None] = MappingProxyType({}),
) -> Pictures:
    """Return what identifies images by ids, which are distinct; reads only those whose contents are not known.

    keys: known contents by ``id(source)``. marks: of the images, before they were read.
    """
    cache = MemoryCache() if cache is None else cache
    lasting = all(mark and not mark.startswith(_CONTENT) for mark in marks)

    def compute(_: Sequence[int]) -> list[bytes]:
        known = dict(keys)
        unknown = [image for image in images if id(image) not in known]
        known |= zip(map(id, unknown), of_images(unknown, cache).keys, strict=True)
        read = [(known[id(image)] or b"").hex() for image in images]
        by_id = digest_lines(sorted(f"{name} {key}" for name, key in zip(ids, read, strict=True)))
        return [f"{digest_lines(sorted(read))} {by_id}".encode()]

    if not lasting:
        (found,) = compute([0])
    else:
        key = of_bytes(hash_of_marks(ids, marks).encode())
        (found,) = get_or_compute(cache, PICTURES, [key], compute, label="contents of sets of images")
    return Pictures(*found.decode().split())


def kept_pictures(hash_of_marks: str, cache: Cache) -> Pictures | None:
    """Return what an earlier ``pictures`` found, by the hash of the images' ids and marks; None if it is unknown."""
    found = cache.get(PICTURES, [of_bytes(hash_of_marks.encode())])
    return next((Pictures(*content.decode().split()) for content in found.values()), None)


def known_of_set(hash_of_marks: str, n: int, cache: Cache, find: Callable[[], list[bytes]]) -> list[bytes]:
    """Return the content hashes of a set of n images, which find returns as far as they are known; kept if all are."""
    key = of_bytes(hash_of_marks.encode())
    for joined in cache.get(CONTENTS, [key]).values():
        return [joined[k : k + HASH_BYTES] for k in range(0, len(joined), HASH_BYTES)]
    found = find()
    if len(found) == n:
        cache.put(CONTENTS, {key: b"".join(found)}, label="contents of the images of sets")
    return found


def modes(images: Sequence[ImageSource], marks: Sequence[str], cache: Cache | None) -> Mapping[str, int]:
    """Return in which of Pillow's modes how many images are, by the heads of their files; '' for broken ones.

    marks: of the images. Of sources that cannot tell without decoding (other people's data sets) the first, middle and
    last speak for all.
    """
    tell = [is_moded(source) for source in images]
    silent = [source for source, able in zip(images, tell, strict=True) if not able]
    stamped = [able and bool(mark) and not mark.startswith(_CONTENT) for able, mark in zip(tell, marks, strict=True)]
    marked = list(compress(images, stamped))
    found = Counter(_modes([source for source, able, mark in zip(images, tell, stamped, strict=True) if able > mark]))
    if cache is not None and marked:
        key = of_bytes("\n".join(compress(marks, stamped)).encode("utf-8", "surrogateescape"))
        (text,) = get_or_compute(cache, MODES, [key], lambda _: [json.dumps(_modes(marked)).encode()], label="modes")
        found.update(json.loads(text))
    else:
        found.update(_modes(marked))
    found.update(mode(silent[k]) for k in _ends(range(len(silent))))
    return found


def _ends(positions: Sequence[int]) -> list[int]:
    """Return the first, middle and last of some positions."""
    return [positions[k] for k in sorted({0, len(positions) // 2, len(positions) - 1})] if positions else []


def _modes(images: Sequence[ImageSource]) -> dict[str, int]:
    return Counter(_in_threads(mode, images))


def _in_threads(read: Callable[[ImageSource], T], images: Sequence[ImageSource]) -> Iterator[T]:
    """Yield what reading each image gives."""
    together = min(MAX_FILES_PER_TASK, 1 + len(images) // (4 * MAX_FILES_READ_AT_ONCE))
    parts = [images[k : k + together] for k in range(0, len(images), together)]
    with ThreadPoolExecutor(MAX_FILES_READ_AT_ONCE) as readers:
        for found in readers.map(lambda part: list(map(read, part)), parts):
            yield from found


def unchanged(images: Sequence[ImageSource], before: Contents) -> NDArray[np.bool_]:
    """Return which images (n,) have not changed since their contents were taken.

    Images with a stamp are compared by it; files too recent for a stamp are read again. Sources without an identity are
    assumed to be unchanged.
    """
    now = _stamps(images)
    same = np.array([old is None or old == new for old, new in zip(before.stamps, now, strict=True)], np.bool_)
    fresh = [i for i, mark in enumerate(before.stamps) if mark is None and is_identified(images[i])]
    for i, content in zip(fresh, _of_identified([images[i] for i in fresh]), strict=True):
        same[i] = content == before.keys[i]
    return same


def _stamps(images: Iterable[ImageSource]) -> list[bytes | None]:
    """Return a hash of each source's stamp, None if only its content identifies it."""
    return list(map(_stamp_key, map(stamp, images)))


def _stamp_key(text: str) -> bytes | None:
    return of_bytes(text.encode("utf-8", "surrogateescape")) if text else None


def _of_identified(images: Sequence[ImageSource]) -> list[bytes | None]:
    """Return the content hash of each identified source, None for others and unreadable ones."""
    files = [i for i, source in enumerate(images) if is_identified(source)]
    found: list[bytes | None] = [None] * len(images)
    for i, content in zip(files, _in_threads(_read, [images[i] for i in files]), strict=True):
        found[i] = content
    return found


def _read(source: ImageSource) -> bytes | None:
    try:
        return of_bytes(identity(source))
    except DataError:  # reported with its name when it is decoded
        return None
