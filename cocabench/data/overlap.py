"""Near-duplicates between training shards and evaluation images, by perceptual hashes of 64 bits."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import numpy as np
from braceexpand import braceexpand
from numpy.typing import NDArray

from cocabench.core.cache import get_or_compute, key_of
from cocabench.core.errors import DataError, UsageError
from cocabench.core.files import expanded
from cocabench.core.types import Cache, ImageSource, Progress, silent
from cocabench.data.images import identity, shown, stamp
from cocabench.data.webdataset import IMAGES, samples_of

Hashes = NDArray[np.uint64]

BITS = 64
HASHED_AT_ONCE = 4096
"""Images whose hashes are stored together, so that an interrupted search resumes there."""

PAIRS_AT_ONCE = 1 << 22
"""Pairs of hashes compared in one step: 32 MiB of numbers."""


def method() -> str:
    """Return what the hashes are: ``phash of 64 bits, imagehash 4.3.2``. UsageError where it is not installed."""
    try:
        return f"phash of {BITS} bits, imagehash {metadata.version('imagehash')}"
    except metadata.PackageNotFoundError:
        fix = "pip install 'cocabench[overlap]'"
        raise UsageError("data overlap", "imagehash is not installed", fix=fix) from None


class Trained(NamedTuple):
    """An image of a training shard. name: ``SHARD:KEY``."""

    name: str
    image: ImageSource


def training_images(shards: Sequence[str]) -> list[Trained]:
    """Return the images of shards: paths, patterns, folders of tars, and open_clip's ``{0000..0123}.tar``.

    UsageError where nothing matches; DataError for a tar that cannot be read.
    """
    files = [file for text in shards for file in _files(text)]
    found = []
    for file in dict.fromkeys(files):
        for sample in samples_of(file):
            image = next((sample.members[ending] for ending in IMAGES if ending in sample.members), None)
            if image is not None:
                found.append(Trained(f"{file}:{sample.key}", image))
    if not found:
        raise UsageError("--train", f"no images in {len(files)} shards", wanted=f"members .{', .'.join(IMAGES)}")
    return found


def _files(text: str) -> Iterator[Path]:
    try:
        patterns = [str(expanded(part)) for part in braceexpand(text)]
    except ValueError:
        raise UsageError("--train", f"got {text!r}", wanted="braces in pairs: shards/{0000..0123}.tar") from None
    for pattern in patterns:
        path = Path(pattern)
        found = sorted(path.glob("*.tar")) if path.is_dir() else [path] if path.exists() else _matches(pattern)
        if not found:
            raise UsageError("--train", f"no shards at {pattern}", wanted="tars, folders of them, or patterns")
        yield from found


def _matches(pattern: str) -> list[Path]:
    return [Path(name) for name in sorted(glob.glob(pattern))]


class Hashed(NamedTuple):
    """Perceptual hashes (k,) of the images that could be read, and their positions (k,)."""

    hashes: Hashes
    kept: NDArray[np.int64]


def hashed(images: Sequence[ImageSource], cache: Cache, progress: Progress = silent) -> Hashed:
    """Return the perceptual hashes of images, which the cache keeps."""
    keys = [key_of(mark) if (mark := stamp(image)) else _key(image) for image in images]
    done = 0

    def compute(positions: list[int]) -> list[bytes]:
        nonlocal done
        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            made = list(pool.map(_hash, [images[i] for i in positions]))
        done += len(made)
        progress("hashes", done, len(images))
        return made

    space = f"perceptual hashes 1: {method()}"
    found = get_or_compute(cache, space, keys, compute, batch=HASHED_AT_ONCE, label="perceptual hashes")
    kept = [i for i, value in enumerate(found) if value]
    return Hashed(np.frombuffer(b"".join(found), ">u8").astype(np.uint64), np.array(kept, np.int64))


def _key(image: ImageSource) -> bytes:
    """Return the key of an image without a stamp, by its content; of a broken one by its name."""
    try:
        return key_of("content", identity(image))
    except DataError:
        return key_of("broken", str(image))


def _hash(image: ImageSource) -> bytes:
    """Return a hash as 8 bytes; none for an image that cannot be read."""
    import imagehash

    try:
        bits = imagehash.phash(shown(image)).hash
    except DataError:
        return b""
    return np.packbits(bits.reshape(-1)).tobytes()


class Near(NamedTuple):
    """The nearest other hash of those that have one: positions (k,) of both, and the differing bits (k,)."""

    own: NDArray[np.int64]
    other: NDArray[np.int64]
    bits: NDArray[np.int64]


def nearest(own: Hashes, others: Hashes, distance: int) -> Near:
    """Return for each of own (n,) the nearest of others (m,), the first of several, if it differs in few enough bits.

    distance: the most bits. All pairs are compared, in blocks: 10^10 of them take half a minute, less than decoding.
    """
    best = np.full(len(own), BITS + 1, np.uint8)
    at = np.zeros(len(own), np.int64)
    size = max(1, PAIRS_AT_ONCE // max(1, len(own)))
    for start in range(0, len(others), size):
        bits = np.bitwise_count(own[:, None] ^ others[None, start : start + size])
        place = bits.argmin(axis=1)
        least = bits[np.arange(len(own)), place]
        nearer = least < best
        best[nearer], at[nearer] = least[nearer], start + place[nearer]
    found = np.flatnonzero(best <= distance)
    return Near(found, at[found], best[found].astype(np.int64))
