"""What captions' Java gives, kept by content in the user's cache: a second model pays only for its own captions."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager

from cocabench.cachedir import folder

__all__ = ["folder", "key", "through"]

TIMEOUT_S = 60.0
CHUNK = 500
"""Keys per query: below SQLite's oldest limit of 999 parameters."""


def key(*parts: str) -> str:
    """Return a short name for a sequence of texts, different for different sequences."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "big"))
        digest.update(data)
    return digest.hexdigest()[:32]


def through(
    kind: str, texts: Sequence[str], compute: Callable[[list[str]], list[str]], *, batch: int = 1_000_000
) -> list[str]:
    """Return compute's answer for every text, asking it only for those never seen, each once, in order.

    kind names the computation and its version. compute maps at most batch texts to as many answers. Every batch is
    kept when it is done, so an interrupted run goes on where it stopped.
    """
    names = {text: key(kind, text) for text in dict.fromkeys(texts)}
    with _database() as database:
        known = _read(database, names.values())
        missing = [text for text, name in names.items() if name not in known]
        for start in range(0, len(missing), batch):
            asked = missing[start : start + batch]
            answers = list(zip((names[text] for text in asked), compute(asked), strict=True))
            database.executemany("INSERT OR REPLACE INTO answers VALUES (?, ?)", answers)
            database.commit()
            known.update(answers)
    return [known[names[text]] for text in texts]


@contextmanager
def _database() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(folder() / "captions.sqlite", timeout=TIMEOUT_S)) as database:
        database.execute("CREATE TABLE IF NOT EXISTS answers (name TEXT PRIMARY KEY, answer TEXT) WITHOUT ROWID")
        yield database


def _read(database: sqlite3.Connection, names: Iterable[str]) -> dict[str, str]:
    wanted = list(names)
    known: dict[str, str] = {}
    for start in range(0, len(wanted), CHUNK):
        chunk = wanted[start : start + CHUNK]
        marks = ",".join("?" * len(chunk))
        known.update(database.execute(f"SELECT name, answer FROM answers WHERE name IN ({marks})", chunk))
    return known
