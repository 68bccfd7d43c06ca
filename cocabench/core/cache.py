"""One content-addressed cache: features, captions, tokenisations, parses, scores, and the hashes of files.

A *space* holds values of one kind that were computed in one way, as bytes under keys of bytes. On disk a space is one
SQLite file, so that damage to a file affects one space only; several processes may use a folder at once. At the size
limit the least recently used files are removed. Errors (a full disk, a read-only folder, a damaged file) cause cache
misses, not failures: they become a Note.

SQLite uses its rollback journal, since WAL does not work on network file systems. Every call opens the file anew: a
forked data-loading worker must not inherit a connection, and another process may have removed the file. A value's
checksum covers its key, so that no wrong value is read from a damaged file.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import sqlite3
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypeVar

import platformdirs

from cocabench.core.errors import UsageError
from cocabench.core.files import expanded
from cocabench.core.temporary import temporary_folder
from cocabench.core.types import Cache as Cache
from cocabench.core.types import Note

LIMIT_GB = 10.0
KEYS_PER_QUERY = 900
"""Below SQLite's oldest limit of 999 parameters."""
BUSY_TIMEOUT_S = 60.0
TOUCH_AFTER_S = 60.0
"""Resolution of the time of last use, so that reading rarely writes."""
FILL_FRACTION = 0.9
"""Eviction shrinks the cache to this fraction of the limit; one space may take at most as much."""
ATTEMPTS = 5
PAGE_BYTES = 16_384
SMALL_PAGE_BYTES = 4_096
SMALL_VALUE_BYTES = 256
"""Spaces of values below it get small pages: keys are random, so that each new one changes a page of the index."""
CHANGED_KIB = 65_536
"""Pages that a write changes are held up to here; each time more are spilled to the disk, it is waited for."""
FORMAT = 0x434F4331
"""SQLite application id of our files; raise it when the schema changes, then older files are recreated."""

SCHEMA = (
    f"PRAGMA application_id = {FORMAT}",
    "CREATE TABLE about (label TEXT NOT NULL)",
    "INSERT INTO about VALUES ('')",
    "CREATE TABLE entries (key BLOB UNIQUE NOT NULL, value BLOB NOT NULL, crc INTEGER NOT NULL)",
)
"""Tables have row ids, since WITHOUT ROWID writes values of a few kilobytes four times slower."""


class Usage(NamedTuple):
    """A space: label, number of entries, size in bytes, time of last use (seconds since the epoch)."""

    label: str
    entries: int
    size: int
    used: float


def key_of(*parts: str | bytes) -> bytes:
    """Return a key (16 bytes) that identifies a sequence of texts or contents."""
    sha = hashlib.sha256()
    for part in parts:
        data = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
        sha.update(len(data).to_bytes(8, "big"))
        sha.update(data)
    return sha.digest()[:16]


def get_or_compute(
    cache: Cache,
    space: str,
    keys: Sequence[bytes],
    compute: Callable[[list[int]], Sequence[bytes]],
    *,
    batch: int = 1 << 20,
    label: str = "",
) -> list[bytes]:
    """Return the value of every key, computing those that are not cached.

    compute gets the positions (at most ``batch``) of distinct missing keys, in order, and returns their values. Each
    batch is stored as soon as it is computed, so that an interrupted run resumes there.
    """
    first: dict[bytes, int] = {}
    for i, key in enumerate(keys):
        first.setdefault(key, i)
    known = cache.get(space, list(first))
    missing = [i for key, i in first.items() if key not in known]
    for start in range(0, len(missing), batch):
        part = missing[start : start + batch]
        made = dict(zip((keys[i] for i in part), compute(part), strict=True))
        cache.put(space, made, label=label)
        known |= made
    return [known[key] for key in keys]


@dataclass
class MemoryCache:
    """A cache in memory."""

    notes: list[Note] = field(default_factory=list)
    spaces: dict[str, dict[bytes, bytes]] = field(default_factory=dict)

    def get(self, space: str, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        held = self.spaces.get(space, {})
        return {key: held[key] for key in keys if key in held}

    def has(self, space: str, keys: Sequence[bytes]) -> set[bytes]:
        return self.spaces.get(space, {}).keys() & set(keys)

    def put(self, space: str, values: Mapping[bytes, bytes], *, label: str = "") -> None:
        self.spaces.setdefault(space, {}).update(values)


Row = TypeVar("Row")
T = TypeVar("T")
Query = Callable[[sqlite3.Connection, Sequence[bytes]], Iterator[Row]]


class _ForeignFileError(sqlite3.DatabaseError):
    """A database that is not a cocabench cache."""


@dataclass
class DiskCache:
    """A cache in a folder. limit: bytes. tell: called with each new note."""

    folder: Path
    limit: int
    tell: Callable[[Note], None] = lambda note: logging.getLogger(__name__).warning(note.text)
    notes: list[Note] = field(default_factory=list)
    readable: bool = True
    writable: bool = True

    def get(self, space: str, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        found: dict[bytes, bytes] = {}
        n_damaged = 0
        for key, value, crc in self._read(space, _entries, keys):
            if _checksum(key, value) == crc:
                found[key] = value
            else:
                n_damaged += 1
        if n_damaged:
            self._note("cache", f"{self.path(space)}: {n_damaged} damaged values; computing them again")
        return found

    def has(self, space: str, keys: Sequence[bytes]) -> set[bytes]:
        return {key for key, _ in self._read(space, _places, keys)}

    def put(self, space: str, values: Mapping[bytes, bytes], *, label: str = "") -> None:
        if not (values and self.writable):
            return
        path = self.path(space)
        rows = [(key, value, _checksum(key, value)) for key, value in values.items()]
        with self._guarded(path):
            self.folder.mkdir(parents=True, exist_ok=True)
            if path.exists() and not path.is_file():
                self._note("cache", f"{path}: exists and is not a file; nothing of this kind is cached")
                return
            if _size(path) + sum(len(key) + len(value) for key, value, _ in rows) > FILL_FRACTION * self.limit:
                limit = f"{self.limit / 1e9:g} GB"
                self._note("cache", f"{path}: cache limit of {limit} reached; new values are not cached")
                return
            page = SMALL_PAGE_BYTES if max(map(len, values.values())) < SMALL_VALUE_BYTES else PAGE_BYTES
            _attempt(lambda: _write(path, rows, label or space, page))
            self._evict(path)

    def usage(self) -> list[Usage]:
        """Return the spaces, most recently used first. A file that cannot be read is listed by its name."""
        return sorted((_usage_of(path) for path in self._files()), key=lambda one: -one.used)

    def clear(self) -> int:
        """Remove all spaces and return their size in bytes; OSError if that fails. Running evaluations continue."""
        files = self._files()
        size = sum(map(_size, files))
        for path in files:
            _remove(path)
            path.unlink(missing_ok=True)
        return size

    def path(self, space: str) -> Path:
        """Return the file of a space."""
        return self.folder / f"{key_of(space).hex()}.sqlite"

    def _files(self) -> list[Path]:
        """Return the files of spaces; what others keep in the folder is none of them."""
        return [
            path for path in self.folder.glob("*.sqlite") if re.fullmatch(r"[0-9a-f]{32}", path.stem) and path.is_file()
        ]

    def _evict(self, current: Path) -> None:
        held = sorted((found.st_mtime, found.st_size, path) for path in self._files() if (found := _stat(path)))
        total = sum(size for _, size, _ in held)
        if total <= self.limit:
            return
        for _, size, path in held:
            if path != current and total > FILL_FRACTION * self.limit:
                _remove(path)
                total -= size

    def _read(self, space: str, query: Query[Row], keys: Sequence[bytes]) -> list[Row]:
        """Return the query's rows from the file of a space; none if the file is missing or cannot be read."""
        path = self.path(space)
        rows: list[Row] = []
        if self.readable and path.is_file():
            with self._guarded(path, reading=True):
                rows = _attempt(lambda: _rows(path, query, keys))
                _touch(path)
        return rows

    @contextmanager
    def _guarded(self, path: Path, *, reading: bool = False) -> Iterator[None]:
        """Turn file errors into a Note: a damaged or foreign file is removed, other errors disable the cache.

        After errors in writing, the cache can still be read.
        """
        try:
            yield
        except sqlite3.OperationalError as error:  # busy, full, read-only; or removed by another process meanwhile
            if path.is_file() and error.sqlite_errorcode != sqlite3.SQLITE_READONLY_DBMOVED:
                self._disable(f"{path}: {error}", reading)
        except sqlite3.DatabaseError as error:
            self._note("cache", f"{path}: damaged ({error}); recreating the cache of this kind")
            for broken in (path.with_name(f"{path.name}-journal"), path):
                broken.unlink(missing_ok=True)
        except OSError as error:
            self._disable(f"{error.filename or path}: {error.strerror or error}", reading)

    def _disable(self, why: str, reading: bool) -> None:
        self.readable, self.writable = self.readable and not reading, False
        self._note("cache", f"{why}; cache disabled, the run continues")

    def _note(self, code: str, text: str) -> None:
        note = Note(code, text)
        if note not in self.notes:
            self.notes.append(note)
            self.tell(note)


@contextmanager
def open_cache(folder: Path | None, tell: Callable[[Note], None]) -> Iterator[DiskCache]:
    """Open the cache in a folder, creating it if needed; None: a cache for this run only.

    If the folder cannot be written to, tell gets a note, and the cache lasts for this run only.
    """
    notes = []
    if folder is not None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            probe = folder / f".writable-{os.getpid()}"
            probe.touch()
            probe.unlink()
            _remove_old(folder.parent, tell)
        except OSError as error:
            text = f"{folder}: cannot be written to ({error.strerror or error}); the cache lasts for this run only"
            notes.append(Note("cache", text))
            tell(notes[0])
            folder = None
    if folder is not None:
        yield DiskCache(folder, size_limit(), tell, notes)
        return
    with temporary_folder("cocabench-cache-") as own:
        yield DiskCache(own, size_limit(), tell, notes)


OLD_FILES = {
    ("features/index.sqlite", b"CREATE TABLE collections"): ("features/index.sqlite*", "features/[0-9]*.f32"),
    ("captions/answers.sqlite", b"CREATE TABLE answers"): ("captions/answers.sqlite*", "captions/meteor/*.gz"),
}
"""Cache files of version 0.1, which are no longer used, by the file whose schema identifies them."""


def _remove_old(folder: Path, tell: Callable[[Note], None]) -> None:
    found = [pattern for (file, schema), own in OLD_FILES.items() if _holds(folder / file, schema) for pattern in own]
    if files := [path for pattern in found for path in folder.glob(pattern) if path.is_file()]:
        size = sum(map(_size, files))
        for path in files:
            path.unlink(missing_ok=True)
        text = f"{folder}: removed {size / 1e6:.1f} MB cached by version 0.1; features are computed again"
        tell(Note("cache", text))


def _holds(database: Path, schema: bytes) -> bool:
    """Tell whether the first pages of a database hold a schema; False where there is none."""
    if not database.is_file():
        return False
    with database.open("rb") as file:
        return schema in file.read(1 << 16)


def cache_folder() -> Path:
    """Return the path of the cache folder: $COCABENCH_CACHE, or the user's cache folder. Creates nothing."""
    return expanded(os.environ.get("COCABENCH_CACHE") or platformdirs.user_cache_dir("cocabench")).resolve()


def spaces_folder(cache: Path | None = None) -> Path:
    """Return the path of the spaces in a cache folder (None: ``cache_folder``). Creates nothing."""
    return (expanded(cache).resolve() if cache else cache_folder()) / "spaces"


def size_limit() -> int:
    """Return the cache's size limit in bytes: $COCABENCH_CACHE_GB, or 10 GB. CoreNLP's jars do not count."""
    text = os.environ.get("COCABENCH_CACHE_GB", str(LIMIT_GB))
    try:
        size = float(text)
    except ValueError:
        size = -1.0
    if not 0 < size < float("inf"):
        raise UsageError("COCABENCH_CACHE_GB", f"got {text!r}", wanted="a number of gigabytes above 0")
    return int(size * 1e9)


def _write(path: Path, rows: Iterable[tuple[bytes, bytes, int]], label: str, page: int = PAGE_BYTES) -> None:
    """Write rows; page: the size of the pages of a new file."""
    with _opened(path, "rwc") as database:
        database.execute(f"PRAGMA page_size = {page}")
        database.execute(f"PRAGMA cache_size = {-CHANGED_KIB}")
        database.execute("BEGIN IMMEDIATE")
        if not _is_ours(database):
            for line in SCHEMA:
                database.execute(line)
        database.executemany("INSERT OR REPLACE INTO entries VALUES (?, ?, ?)", rows)
        database.execute("UPDATE about SET label = ?", (label,))
        database.commit()


def _rows(path: Path, query: Query[Row], keys: Sequence[bytes]) -> list[Row]:
    with _opened(path, "rw") as database:
        database.execute("BEGIN")  # all queries read one state of the file
        return list(query(database, keys)) if _is_ours(database) else []


def _attempt(action: Callable[[], T]) -> T:
    """Return the action's result, trying again after errors, which another process may have caused.

    Where one process removes the file and another creates it anew, a third that has the removed one open takes the
    journal of the new one for its own: it finds its file damaged, and the writer misses its journal.
    """
    for _ in range(ATTEMPTS - 1):
        try:
            return action()
        except sqlite3.DatabaseError as error:
            if getattr(error, "sqlite_errorcode", None) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_FULL):
                raise
    return action()


def _is_ours(database: sqlite3.Connection) -> bool:
    """Return whether the database has our schema; False if it is empty, DatabaseError if it has another."""
    (found,) = database.execute("PRAGMA application_id").fetchone()
    if found == FORMAT:
        return True
    if found or database.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0]:
        raise _ForeignFileError("a database of another program or version")
    return False


def _places(database: sqlite3.Connection, keys: Sequence[bytes]) -> Iterator[tuple[bytes, int]]:
    """Yield (key, row id) of the keys that exist."""
    for start in range(0, len(keys), KEYS_PER_QUERY):
        part = keys[start : start + KEYS_PER_QUERY]
        yield from database.execute(f"SELECT key, rowid FROM entries WHERE key IN ({','.join('?' * len(part))})", part)


def _entries(database: sqlite3.Connection, keys: Sequence[bytes]) -> Iterator[tuple[bytes, bytes, int]]:
    """Yield (key, value, checksum) of the keys that exist, in file order, which halves the time."""
    rows = sorted(row for _, row in _places(database, keys))
    for start in range(0, len(rows), KEYS_PER_QUERY):
        part = rows[start : start + KEYS_PER_QUERY]
        query = f"SELECT key, value, crc FROM entries WHERE rowid IN ({','.join('?' * len(part))})"
        yield from database.execute(query, part)


def _checksum(key: bytes, value: bytes) -> int:
    return zlib.crc32(value, zlib.crc32(key))


def _remove(path: Path) -> None:
    """Remove the file of a space while holding its lock, so that no journal is left behind.

    A process that has it open gets an error when it writes, and creates a new file.
    """
    with suppress(sqlite3.Error), _opened(path, "rw") as database:  # busy: it is in use; damaged: it is recreated
        database.execute("BEGIN EXCLUSIVE")
        path.unlink(missing_ok=True)


@contextmanager
def _opened(path: Path, mode: str) -> Iterator[sqlite3.Connection]:
    uri = f"{path.absolute().as_uri()}?mode={mode}"
    with closing(sqlite3.connect(uri, uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None)) as database:
        yield database


def _touch(path: Path) -> None:
    with suppress(OSError):  # removed meanwhile, or read-only: then its time of use is not updated
        if path.stat().st_mtime < time.time() - TOUCH_AFTER_S:
            os.utime(path)


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:  # removed meanwhile
        return None


def _size(path: Path) -> int:
    found = _stat(path)
    return found.st_size if found else 0


def _usage_of(path: Path) -> Usage:
    label, n = path.name, 0
    with suppress(sqlite3.Error), _opened(path, "ro") as database:
        (label,) = database.execute("SELECT label FROM about").fetchone()
        (n,) = database.execute("SELECT COUNT(*) FROM entries").fetchone()
    found = _stat(path)
    return Usage(label, n, found.st_size if found else 0, found.st_mtime if found else 0.0)
