"""The cache of features: rows by collection and content, on disk, with a size limit. Trouble costs hits, never a run.

index.sqlite    what lies where, see index.py
ID.f32          shards, see shards.py

A collection holds the features of one kind that one model gives, computed in one way. Writers hold the index's lock
while they append, so that two processes never write to the same place, and a kill leaves rows that no index names. The
shards that were not used for longest go when the limit is reached; whoever reads such a shard meanwhile finds its rows
missing and computes them.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from cocabench.core.types import Features, ImageSource
from cocabench.models.features import contents, index, shards
from cocabench.models.features.index import Place

SHARD_BYTES = 64 * 2**20
TROUBLE = (OSError, sqlite3.Error)

T = TypeVar("T")


class Usage(NamedTuple):
    """A collection's size in bytes, and when it was last used, in seconds since the epoch."""

    label: str
    features: int
    size: int
    used: float


class Contents(NamedTuple):
    """Of each image its stamp, as it was before the content was read, and its content; None: see ``contents``."""

    stamps: Sequence[bytes | None]
    keys: Sequence[bytes | None]


class Found(NamedTuple):
    """The features (k, d) of the contents at positions (k,) among those asked for."""

    positions: NDArray[np.int64]
    rows: Features


@dataclass
class Cache:
    """A cache folder; open_cache makes it. limit: bytes. tell is called with one line when it goes out of use."""

    folder: Path
    limit: int
    tell: Callable[[str], None]
    usable: bool = True
    troubles: list[str] = field(default_factory=list)
    """What a Record should tell: that nothing was kept, and why."""

    def contents(self, images: Sequence[ImageSource]) -> Contents:
        """Return what identifies each image, None for those that cannot be read. Reads only files not seen before."""
        stamps = contents.stamps_of(images)
        known = self._known(stamps)
        told = contents.of_images(images, stamps, known)
        fresh = {s: c for s, c in zip(stamps, told, strict=True) if s is not None and c is not None and s not in known}
        if fresh:
            self._do(partial(index.remember_contents, contents=fresh), write=True)
        return Contents(stamps, told)

    def count(self, collection: str, images: Sequence[ImageSource]) -> int:
        """Return how many of the images have a feature, as far as that can be told without decoding or rereading."""
        stamps = contents.stamps_of(images)
        known = self._known(stamps)
        unstamped = [source for source, stamp in zip(images, stamps, strict=True) if stamp is None]
        told = [known.get(stamp) for stamp in stamps if stamp is not None] + contents.of_identified(unstamped)
        held = self._places(collection, {content for content in told if content is not None})
        return sum(content in held for content in told)

    def read(self, collection: str, wanted: Sequence[bytes]) -> list[Found]:
        """Return the features that there are of wanted contents. A torn row counts as missing."""
        places = self._places(collection, wanted)
        by_shard: dict[int, list[tuple[int, Place]]] = defaultdict(list)
        for position, content in enumerate(wanted):
            if place := places.get(content):
                by_shard[place.shard].append((position, place))
        if old := self._do(partial(index.not_used_lately, shards=by_shard)):
            self._do(partial(index.touch, shards=old), write=True)
        return [self._from_shard(shard, held) for shard, held in by_shard.items()]

    def write(self, collection: str, label: str, keys: Sequence[bytes], rows: Features) -> None:
        """Keep rows (k, d) as the features of the contents keys; what was not used for longest makes room."""
        if not len(keys):  # then rows may lack their width
            return
        most = max(1, min(SHARD_BYTES, self.limit // 8) // (rows.shape[1] * shards.DTYPE.itemsize))
        while len(keys) and self.usable:
            done = self._do(partial(self._append, collection, label, keys, rows, most), write=True) or 0
            keys, rows = keys[done:], rows[done:]
        cells = self.limit // shards.DTYPE.itemsize
        for shard in self._do(partial(index.shrink, cells=cells), write=True) or ():
            self.shard(shard).unlink(missing_ok=True)

    def usage(self) -> list[Usage]:
        """Return the collections, the one used last first."""
        rows = self._do(index.usage) or ()
        return [Usage(label, n, cells * shards.DTYPE.itemsize, used) for label, n, cells, used in rows]

    def shard(self, number: int) -> Path:
        return self.folder / f"{number}.f32"

    def _known(self, stamps: Sequence[bytes | None]) -> dict[bytes, bytes]:
        asked = {stamp for stamp in stamps if stamp is not None}
        return self._do(partial(index.contents_of, stamps=asked)) or {}

    def _places(self, collection: str, wanted: Iterable[bytes]) -> dict[bytes, Place]:
        return self._do(partial(index.places_of, collection=collection, contents=wanted)) or {}

    def _from_shard(self, shard: int, held: list[tuple[int, Place]]) -> Found:
        positions = np.array([position for position, _ in held], np.int64)
        at, sums = (np.array(column, np.int64) for column in zip(*((p.row, p.checksum) for _, p in held), strict=True))
        try:
            rows, whole = shards.read(self.shard(shard), held[0][1].width, at, sums)
        except OSError as error:
            self._give_up(error)
            return Found(positions[:0], np.empty((0, held[0][1].width), np.float32))
        return Found(positions[whole], rows[whole])

    def _append(
        self,
        collection: str,
        label: str,
        keys: Sequence[bytes],
        rows: Features,
        most: int,
        database: sqlite3.Connection,
    ) -> int:
        """Append what a shard has room for and return how much that was."""
        number = index.collection_id(database, collection, label)
        shard = index.shard_with_room(database, number, rows.shape[1], most)
        keys, rows = keys[: most - shard.rows], rows[: most - shard.rows]
        shards.append(self.shard(shard.id), shard.rows, rows)
        index.add(database, number, shard, keys, shards.checksums(rows))
        return len(keys)

    def _do(self, action: Callable[[sqlite3.Connection], T], *, write: bool = False) -> T | None:
        """Return what the action on the index gives, None where the index is out of use."""
        if not self.usable:
            return None
        try:
            with index.opened(self.folder / index.NAME, write=write) as database:
                return action(database)
        except TROUBLE as error:
            self._give_up(error)
            return None

    def _give_up(self, error: Exception) -> None:
        if self.usable:
            self.usable = False
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            said = f"{self.folder}: the cache of features is out of use from here on ({reason}); the run goes on"
            self.troubles.append(said)
            self.tell(said)
