"""The index of the cache: which row of which shard holds the feature of which content, and what files last held.

SQLite with its rollback journal and not WAL, which does not work on the network file systems that home folders lie on.
Every call opens the file anew: a forked data-loading worker must not inherit a connection.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

NAME = "index.sqlite"
TIMEOUT_S = 60.0
PER_QUERY = 900
"""Keys per query: below SQLite's oldest limit of 999 parameters."""
USED_S = 60.0
"""A shard's time of last use is kept to the minute, so that reading seldom writes."""

SCHEMA = """
CREATE TABLE IF NOT EXISTS collections (id INTEGER PRIMARY KEY, name TEXT UNIQUE NOT NULL, label TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS shards (
    id INTEGER PRIMARY KEY AUTOINCREMENT, collection INTEGER NOT NULL, width INTEGER NOT NULL,
    rows INTEGER NOT NULL, used REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS features (
    collection INTEGER NOT NULL, content BLOB NOT NULL, shard INTEGER NOT NULL, row INTEGER NOT NULL,
    checksum INTEGER NOT NULL, PRIMARY KEY (collection, content)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS features_of_shard ON features (shard);
CREATE TABLE IF NOT EXISTS files (stamp BLOB PRIMARY KEY, content BLOB NOT NULL) WITHOUT ROWID;
"""


class Place(NamedTuple):
    """Where a feature lies: its shard, the shard's row width, the row, and the row's CRC-32."""

    shard: int
    width: int
    row: int
    checksum: int


class Shard(NamedTuple):
    id: int
    width: int
    rows: int
    used: float


@contextmanager
def opened(path: Path, *, write: bool = False, mode: str = "rw") -> Iterator[sqlite3.Connection]:
    """Open the index; write=True holds its write lock and commits at the end, or leaves all as it was."""
    uri = f"{path.absolute().as_uri()}?mode={mode}"
    with closing(sqlite3.connect(uri, uri=True, timeout=TIMEOUT_S, isolation_level=None)) as database:
        if not write:
            yield database
            return
        database.execute("BEGIN IMMEDIATE")
        try:
            yield database
        except BaseException:
            database.rollback()
            raise
        database.commit()


def make(path: Path) -> None:
    """Make the index unless it is there. sqlite3.DatabaseError where the file is none."""
    with opened(path, mode="rwc") as database:
        database.executescript(SCHEMA)


def contents_of(database: sqlite3.Connection, stamps: Iterable[bytes]) -> dict[bytes, bytes]:
    """Return {stamp: content} of the files whose content is known."""
    query = "SELECT stamp, content FROM files WHERE stamp IN ({})"
    return dict(_select(database, query, stamps))


def remember_contents(database: sqlite3.Connection, contents: Mapping[bytes, bytes]) -> None:
    database.executemany("INSERT OR REPLACE INTO files VALUES (?, ?)", contents.items())


def places_of(database: sqlite3.Connection, collection: str, contents: Iterable[bytes]) -> dict[bytes, Place]:
    """Return {content: its Place} for those that the collection holds."""
    query = (
        "SELECT content, shard, width, row, checksum FROM features JOIN shards ON shards.id = shard "
        "WHERE features.collection = (SELECT id FROM collections WHERE name = ?) AND content IN ({})"
    )
    return {content: Place(*place) for content, *place in _select(database, query, contents, collection)}


def _select(database: sqlite3.Connection, query: str, keys: Iterable[bytes], *first: str) -> Iterator[tuple[Any, ...]]:
    wanted = list(keys)
    for start in range(0, len(wanted), PER_QUERY):
        part = wanted[start : start + PER_QUERY]
        yield from database.execute(query.format(",".join("?" * len(part))), (*first, *part))


def not_used_lately(database: sqlite3.Connection, shards: Iterable[int]) -> Sequence[int]:
    """Return those of the shards whose time of last use is not of this minute."""
    query = f"SELECT id FROM shards WHERE used < ? AND id IN ({','.join(str(int(shard)) for shard in shards)})"
    return [shard for (shard,) in database.execute(query, (time.time() - USED_S,))]


def touch(database: sqlite3.Connection, shards: Iterable[int]) -> None:
    """Note that shards were used just now."""
    now = time.time()
    database.executemany("UPDATE shards SET used = ? WHERE id = ?", [(now, shard) for shard in shards])


def collection_id(database: sqlite3.Connection, name: str, label: str) -> int:
    database.execute("INSERT OR IGNORE INTO collections (name, label) VALUES (?, ?)", (name, label))
    return int(database.execute("SELECT id FROM collections WHERE name = ?", (name,)).fetchone()[0])


def shard_with_room(database: sqlite3.Connection, collection: int, width: int, most_rows: int) -> Shard:
    """Return the collection's newest shard of this width, or a new one where it holds most_rows."""
    query = "SELECT id, width, rows, used FROM shards WHERE collection = ? AND width = ? AND rows < ? ORDER BY id DESC"
    found = database.execute(query, (collection, width, most_rows)).fetchone()
    if found:
        return Shard(*found)
    insert = "INSERT INTO shards (collection, width, rows, used) VALUES (?, ?, 0, ?)"
    return Shard(int(database.execute(insert, (collection, width, time.time())).lastrowid or 0), width, 0, time.time())


def add(
    database: sqlite3.Connection, collection: int, shard: Shard, contents: Sequence[bytes], sums: Sequence[int]
) -> None:
    """Name the rows behind the shard's last one as the features of contents."""
    rows = range(shard.rows, shard.rows + len(contents))
    table = [
        (collection, content, shard.id, row, check) for content, row, check in zip(contents, rows, sums, strict=True)
    ]
    database.executemany("INSERT OR REPLACE INTO features VALUES (?, ?, ?, ?, ?)", table)
    database.execute("UPDATE shards SET rows = ?, used = ? WHERE id = ?", (rows.stop, time.time(), shard.id))


def shrink(database: sqlite3.Connection, cells: int) -> Sequence[int]:
    """Forget the shards that were not used for longest until at most so many numbers are held; return their ids.

    With them go their features, collections without shards, and files whose content has no feature left.
    """
    held = database.execute("SELECT id, rows * width FROM shards ORDER BY used, id").fetchall()
    total, gone = sum(size for _, size in held), []
    for shard, size in held:
        if total <= cells:
            break
        gone.append(shard)
        total -= size
    for shard in gone:
        database.execute("DELETE FROM features WHERE shard = ?", (shard,))
        database.execute("DELETE FROM shards WHERE id = ?", (shard,))
    if gone:
        database.execute("DELETE FROM collections WHERE id NOT IN (SELECT collection FROM shards)")
        database.execute("DELETE FROM files WHERE content NOT IN (SELECT content FROM features)")
    return gone


def shard_ids(database: sqlite3.Connection) -> set[int]:
    return {shard for (shard,) in database.execute("SELECT id FROM shards")}


def usage(database: sqlite3.Connection) -> Sequence[tuple[str, int, int, float]]:
    """Return (label, features, numbers held, last use) per collection, the one used last first."""
    query = (
        "SELECT label, SUM(rows), SUM(rows * width), MAX(used) FROM shards "
        "JOIN collections ON collections.id = collection GROUP BY collection ORDER BY MAX(used) DESC"
    )
    return database.execute(query).fetchall()
