"""Answers by content in an SQLite file, with a limit on its size: those that were not used for longest go.

Every call opens the file anew, and nothing is computed while it is open.
"""

from __future__ import annotations

import math
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

NAME = "answers.sqlite"
TIMEOUT_S = 60.0
CHUNK = 500
"""Keys per query: below SQLite's oldest limit of 999 parameters."""

USED_S = 86_400.0
"""The time of last use is kept to the day, so that reading seldom writes."""

FILLED = 0.75
"""What is left of the limit where it was reached: so that the next answers need no room made."""

SCHEMA = """
CREATE TABLE IF NOT EXISTS answers (name TEXT PRIMARY KEY, answer TEXT NOT NULL, used REAL NOT NULL) WITHOUT ROWID
"""


def read(path: Path, names: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Return {name: answer} of those that are kept, and the names of which it was noted long ago that they are used."""
    known: dict[str, str] = {}
    old: list[str] = []
    before = time.time() - USED_S
    with _opened(path, "ro") as database:
        for start in range(0, len(names), CHUNK):
            chunk = names[start : start + CHUNK]
            query = f"SELECT name, answer, used FROM answers WHERE name IN ({','.join('?' * len(chunk))})"
            for name, answer, used in database.execute(query, chunk):
                known[name] = answer
                if used < before:
                    old.append(name)
    return known, old


def touch(path: Path, names: Sequence[str]) -> None:
    """Note that answers were used just now."""
    now = time.time()
    with _opened(path, "rw") as database, database:
        database.executemany("UPDATE answers SET used = ? WHERE name = ?", [(now, name) for name in names])


def add(path: Path, found: Mapping[str, str], most: int) -> None:
    """Keep answers; then the file takes at most so many bytes. It is made if need be."""
    now = time.time()
    with _opened(path, "rwc") as database:
        database.execute("PRAGMA auto_vacuum = INCREMENTAL")
        database.execute(SCHEMA)
        with database:
            rows = ((name, answer, now) for name, answer in found.items())
            database.executemany("INSERT OR REPLACE INTO answers VALUES (?, ?, ?)", rows)
        while (size := _size(database)) > most:  # again, for a page is free when all of its rows are
            if not _shrink(database, 1 - FILLED * most / size):
                return


def count(path: Path) -> int:
    with _opened(path, "ro") as database:
        return int(database.execute("SELECT COUNT(*) FROM answers").fetchone()[0])


def _shrink(database: sqlite3.Connection, fraction: float) -> int:
    """Remove a fraction of the answers, and return how many these were."""
    n: int = math.ceil(fraction * database.execute("SELECT COUNT(*) FROM answers").fetchone()[0])
    with database:
        database.execute("DELETE FROM answers WHERE name IN (SELECT name FROM answers ORDER BY used LIMIT ?)", (n,))
    database.execute("PRAGMA incremental_vacuum").fetchall()
    return n


def _size(database: sqlite3.Connection) -> int:
    pages, size = (database.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size"))
    return int(pages * size)


@contextmanager
def _opened(path: Path, mode: str) -> Iterator[sqlite3.Connection]:
    uri = f"{path.absolute().as_uri()}?mode={mode}"
    with closing(sqlite3.connect(uri, uri=True, timeout=TIMEOUT_S)) as database:
        yield database
