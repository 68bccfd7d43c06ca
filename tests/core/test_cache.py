"""The cache: what is written is read to the bit; what is damaged, gone, full, shared or killed costs only hits."""

import os
import resource
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from cocabench.core import cache as module
from cocabench.core.cache import Cache, DiskCache, MemoryCache, get_or_compute, key_of, open_cache
from cocabench.core.types import Note

VALUES = {key_of(str(i)): bytes([i]) * (300 + i) for i in range(6)}
KEYS = list(VALUES)


@pytest.fixture
def notes() -> list[Note]:
    return []


@pytest.fixture
def cache(tmp_path: Path, notes: list[Note]) -> DiskCache:
    return DiskCache(tmp_path / "c", 10**9, notes.append)


def python(code: str, *args: object) -> subprocess.Popen[bytes]:
    """Start a process that uses the cache in args[0]."""
    head = (
        "import os, sys, time\n"
        "from pathlib import Path\n"
        "from cocabench.core import cache as module\n"
        "from cocabench.core.cache import DiskCache, key_of\n"
        "def value(i): return b'%d ' % i * (200 + i % 50)\n"
        "def wrong(found): return [i for i in range(400) if found.get(key_of(str(i)), value(i)) != value(i)]\n"
    )
    return subprocess.Popen([sys.executable, "-c", head + code, *map(str, args)])


@pytest.mark.parametrize("made", [MemoryCache, DiskCache])
def test_put_then_get_returns_the_same_bytes(made: Callable[..., Cache], tmp_path: Path) -> None:
    cache = made(tmp_path / "c", 10**9) if made is DiskCache else made()
    assert cache.get("x", KEYS) == {}
    cache.put("x", {KEYS[0]: b"", KEYS[1]: VALUES[KEYS[1]]}, label="some")
    cache.put("x", {KEYS[1]: b"again\0", KEYS[2]: VALUES[KEYS[2]]})
    assert cache.get("x", KEYS[::-1]) == {KEYS[0]: b"", KEYS[1]: b"again\0", KEYS[2]: VALUES[KEYS[2]]}
    assert cache.has("x", KEYS[1:]) == {KEYS[1], KEYS[2]}
    assert cache.get("y", KEYS) == {}
    assert cache.notes == []


def test_many_keys_in_any_order_outlive_the_process(cache: DiskCache) -> None:
    many = {key_of(str(i)): str(i).encode() for i in range(3000)}
    cache.put("x", many, label="m images")
    later = DiskCache(cache.folder, 10**9)
    assert later.get("x", [*list(many)[::-1], b"other"]) == many
    (held,) = later.usage()
    assert held.label == "m images"
    assert held.entries == 3000
    assert held.size == later.path("x").stat().st_size
    assert abs(held.used - time.time()) < 60


def test_key_of_tells_sequences_apart() -> None:
    keys = [key_of("a", "bc"), key_of("ab", "c"), key_of("abc"), key_of("a\ud800", ""), key_of(b"a", "bc")]
    assert len(set(keys)) == 4
    assert keys[0] == keys[4]
    assert {len(key) for key in keys} == {16}


def test_get_or_compute_asks_for_distinct_missing_keys_once(cache: DiskCache) -> None:
    asked: list[str] = []

    def upper(texts: list[str]) -> list[bytes]:
        def compute(positions: list[int]) -> list[bytes]:
            asked.extend(texts[i] for i in positions)
            return [texts[i].upper().encode() for i in positions]

        return get_or_compute(cache, "upper", [key_of(text) for text in texts], compute)

    assert upper(["a", "b", "a"]) == [b"A", b"B", b"A"]
    assert upper(["b", "c"]) == [b"B", b"C"]
    assert asked == ["a", "b", "c"]


def test_get_or_compute_keeps_each_batch_before_a_failure(cache: DiskCache) -> None:
    def fails_at_2(positions: list[int]) -> list[bytes]:
        if 2 in positions:
            raise KeyboardInterrupt
        return [b"v"] * len(positions)

    with pytest.raises(KeyboardInterrupt):
        get_or_compute(cache, "x", KEYS, fails_at_2, batch=2)
    assert cache.has("x", KEYS) == set(KEYS[:2])


def test_a_damaged_value_is_recomputed(cache: DiskCache, notes: list[Note]) -> None:
    cache.put("x", VALUES)
    path = cache.path("x")
    path.write_bytes(path.read_bytes().replace(VALUES[KEYS[3]], VALUES[KEYS[3]][:-1] + b"?"))
    assert cache.get("x", KEYS) == {k: v for k, v in VALUES.items() if k != KEYS[3]}
    assert [note.code for note in notes] == ["cache"]
    assert "1 damaged values; computing them again" in notes[0].text
    cache.put("x", {KEYS[3]: VALUES[KEYS[3]]})
    assert cache.get("x", KEYS) == VALUES


def test_a_value_under_another_key_is_damaged(cache: DiskCache) -> None:
    cache.put("x", VALUES)
    path = cache.path("x")
    path.write_bytes(path.read_bytes().replace(KEYS[3], b"k" * 16))
    assert cache.get("x", [b"k" * 16]) == {}


def other_database(path: Path) -> None:
    path.unlink()
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE entries (a, b)")
    database.close()


DAMAGE: dict[str, Callable[[Path], object]] = {
    "no database": lambda path: path.write_bytes(b"no database at all" * 100),
    "another program's": other_database,
    "cut in the middle of a page": lambda path: os.truncate(path, path.stat().st_size - 20_000),
    "cut to its first page": lambda path: os.truncate(path, module.PAGE_BYTES),
    "pages of zeros": lambda path: path.write_bytes(path.read_bytes()[:20_000] + bytes(path.stat().st_size - 20_000)),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
@pytest.mark.parametrize("first", ["get", "put"])
def test_a_damaged_file_is_recreated_with_a_note(
    cache: DiskCache, notes: list[Note], damage: Callable[[Path], object], first: str
) -> None:
    cache.put("x", VALUES)
    cache.put("y", VALUES)
    damage(cache.path("x"))
    if first == "get":
        assert cache.get("x", KEYS) == {}
    else:
        cache.put("x", VALUES)  # lost, or written: a damaged page may lie elsewhere
    cache.put("x", VALUES)
    assert cache.get("x", KEYS).items() <= VALUES.items()
    cache.put("x", VALUES)
    assert cache.get("x", KEYS) == VALUES
    assert [note.code for note in notes] == ["cache"]
    assert str(cache.path("x")) in notes[0].text
    assert "recreating" in notes[0].text
    assert cache.get("y", KEYS) == VALUES


def test_an_empty_file_is_an_empty_space(cache: DiskCache, notes: list[Note]) -> None:
    cache.folder.mkdir()
    cache.path("x").touch()
    assert cache.get("x", KEYS) == {}
    cache.put("x", VALUES)
    assert cache.get("x", KEYS) == VALUES
    assert notes == []


def test_the_file_used_longest_ago_is_removed_at_the_limit(tmp_path: Path, notes: list[Note]) -> None:
    cache = DiskCache(tmp_path, 1_000_000, notes.append)
    for age, space in enumerate("abcd"):
        cache.put(space, {KEYS[0]: bytes(150_000)})
        os.utime(cache.path(space), (age, age))
    assert len(cache.get("a", KEYS)) == 1  # which makes it the newest
    cache.put("e", {KEYS[0]: bytes(150_000)})
    assert [space for space in "abcde" if cache.get(space, KEYS)] == ["a", "c", "d", "e"]
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 900_000
    assert notes == []


def test_a_space_stops_growing_at_the_limit_and_evicts_no_other(tmp_path: Path, notes: list[Note]) -> None:
    cache = DiskCache(tmp_path, 1_000_000, notes.append)
    cache.put("small", VALUES)
    for key in KEYS:
        cache.put("large", {key: bytes(250_000)})
    assert list(cache.get("large", KEYS)) == KEYS[:3]
    assert cache.get("small", KEYS) == VALUES
    assert [note.text.partition(": ")[2] for note in notes] == [
        "cache limit of 0.001 GB reached; new values are not cached"
    ]


def test_spaces_of_small_values_have_small_pages(cache: DiskCache) -> None:
    cache.put("hashes", {KEYS[0]: b"0" * 16})
    cache.put("features", VALUES)
    sizes = []
    for space in ("hashes", "features"):
        with closing(sqlite3.connect(cache.path(space))) as database:
            sizes += database.execute("PRAGMA page_size").fetchone()
    assert sizes == [module.SMALL_PAGE_BYTES, module.PAGE_BYTES]


def test_clear_removes_every_space_and_returns_its_bytes(cache: DiskCache) -> None:
    assert cache.clear() == 0
    cache.put("x", VALUES, label="some")
    cache.put("y", VALUES, label="others")
    assert sorted(one.label for one in cache.usage()) == ["others", "some"]
    assert cache.clear() > 2 * module.PAGE_BYTES
    assert cache.usage() == []
    assert cache.get("x", KEYS) == {}
    cache.put("x", VALUES)
    assert cache.get("x", KEYS) == VALUES


def test_clear_leaves_no_damaged_file(cache: DiskCache) -> None:
    cache.put("x", VALUES)
    cache.path("x").write_bytes(b"no database at all" * 100)
    assert [(one.label, one.entries) for one in cache.usage()] == [(cache.path("x").name, 0)]
    assert cache.clear() == 1800
    assert list(cache.folder.iterdir()) == []


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_noted_once_and_reading_continues(cache: DiskCache, notes: list[Note]) -> None:
    cache.put("x", VALUES)
    with files_of_at_most(256 * 1024):
        for i in range(3):
            cache.put("x", {KEYS[i]: bytes(300_000)})
        assert cache.get("x", KEYS) == VALUES
    assert [note.code for note in notes] == ["cache"]
    assert "cache disabled, the run continues" in notes[0].text
    assert DiskCache(cache.folder, 10**9).get("x", KEYS) == VALUES


NOBODY = 65534


@contextmanager
def unprivileged(folder: Path) -> Iterator[None]:
    """Make a folder's permissions count for root too, by running as nobody."""
    if os.geteuid() != 0:
        yield
        return
    for path in (folder, *folder.iterdir()):
        os.chown(path, NOBODY, -1)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_read_only_folder_is_noted_once_and_reading_continues(notes: list[Note]) -> None:
    with tempfile.TemporaryDirectory() as folder:  # not in tmp_path, which only its owner can enter
        cache = DiskCache(Path(folder), 10**9, notes.append)
        cache.put("x", VALUES)
        os.utime(cache.path("x"), (1, 1))
        cache.folder.chmod(0o500)
        cache.path("x").chmod(0o400)
        with unprivileged(cache.folder):
            assert cache.get("x", KEYS) == VALUES
            assert notes == []
            cache.put("x", {b"new": b"value"})
            cache.put("y", {b"new": b"value"})
            assert cache.get("x", KEYS) == VALUES
        cache.folder.chmod(0o700)
    assert len(notes) == 1


def test_open_cache_falls_back_to_a_temporary_cache(tmp_path: Path, notes: list[Note]) -> None:
    (tmp_path / "file").touch()
    for folder in (None, tmp_path / "file" / "c"):
        with open_cache(folder, notes.append) as cache:
            cache.put("x", VALUES)
            assert cache.get("x", KEYS) == VALUES
        assert not cache.folder.exists()
    assert cache.notes == notes
    assert [note.text for note in notes] == [
        f"{tmp_path}/file/c: cannot be written to (Not a directory); the cache lasts for this run only"
    ]


def test_a_space_that_stays_locked_disables_the_cache(
    cache: DiskCache, notes: list[Note], monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.put("x", VALUES)
    monkeypatch.setattr(module, "BUSY_TIMEOUT_S", 0.1)
    with sqlite3.connect(cache.path("x"), isolation_level=None) as other:
        other.execute("BEGIN EXCLUSIVE")
        cache.put("x", {b"new": b"value"})
        assert cache.get("x", KEYS) == {}
        assert cache.get("x", KEYS) == {}
    other.close()
    assert ["database is locked" in note.text for note in notes] == [True]


def test_a_file_removed_between_opening_and_writing_is_written_again(
    cache: DiskCache, notes: list[Note], monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.put("x", VALUES)
    original, removals = sqlite3.connect, [True]

    def connect(*args: Any, **kwargs: Any) -> sqlite3.Connection:
        database = original(*args, **kwargs)
        database.set_trace_callback(remove)
        return database

    def remove(statement: str) -> None:
        if statement.startswith("INSERT") and removals and removals.pop():
            cache.path("x").unlink()

    monkeypatch.setattr(sqlite3, "connect", connect)
    cache.put("x", {KEYS[0]: b"new"})
    assert cache.get("x", KEYS) == {KEYS[0]: b"new"}
    assert removals == []
    assert notes == []


def test_a_file_removed_and_created_anew_while_it_is_read_is_read_again(
    cache: DiskCache, notes: list[Note], monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.put("x", {key_of("large"): bytes(200_000)} | VALUES)
    path, original = cache.path("x"), sqlite3.connect
    writers, errors = list[sqlite3.Connection](), list[str]()

    def connect(*args: Any, **kwargs: Any) -> sqlite3.Connection:
        if writers:  # the reader tries again, after the writer has missed its journal
            try:
                writers[0].execute("COMMIT")
            except sqlite3.OperationalError as error:
                errors.append(error.sqlite_errorname)
            writers[0].close()
            monkeypatch.setattr(sqlite3, "connect", original)
        database = original(*args, **kwargs)
        database.set_trace_callback(replace)
        return database

    def replace(statement: str) -> None:  # leaves a writer in the middle of a write
        if statement == "BEGIN" and not writers:
            path.unlink()
            cache.put("x", VALUES)
            writers.append(original(path, isolation_level=None))
            writers[0].executescript("PRAGMA cache_size = 2; BEGIN IMMEDIATE")
            for i in range(20):
                writers[0].execute("INSERT INTO entries VALUES (?, zeroblob(50000), 0)", (b"%d" % i,))
            assert path.with_name(f"{path.name}-journal").stat().st_size > 0

    monkeypatch.setattr(sqlite3, "connect", connect)
    assert cache.get("x", KEYS) == VALUES
    assert errors == ["SQLITE_IOERR_DELETE_NOENT"]
    assert notes == []


def test_a_writer_killed_within_a_write_leaves_what_was_there(cache: DiskCache, notes: list[Note]) -> None:
    cache.put("x", VALUES)
    code = (
        "module.CHANGED_KIB = 512\n"  # of pages that are in memory only
        "def rows():\n"
        "    for i in range(5000): yield key_of(str(i)), value(i), 0\n"
        "    os.kill(os.getpid(), 9)\n"
        "module._write(DiskCache(Path(sys.argv[1]), 10**9).path('x'), rows(), 'x')\n"
    )
    assert python(code, cache.folder).wait() == -9
    assert cache.path("x").with_name(f"{cache.path('x').name}-journal").stat().st_size > 0  # pages were written
    assert cache.get("x", KEYS) == VALUES
    cache.put("x", {b"new": b"value"})
    assert cache.get("x", [b"new"]) == {b"new": b"value"}
    assert notes == []


def test_concurrent_processes_lose_no_value(cache: DiskCache) -> None:
    code = (
        "cache, first = DiskCache(Path(sys.argv[1]), 10**9), int(sys.argv[2])\n"
        "for i in range(first, first + 12):\n"
        "    cache.put('x', {key_of(str(i % 20)): value(i % 20)})\n"
        "    sys.exit(1) if wrong(cache.get('x', [key_of(str(k)) for k in range(20)])) or cache.notes else 0\n"
    )
    assert [process.wait() for process in [python(code, cache.folder, first) for first in (0, 6, 10)]] == [0, 0, 0]
    assert len(cache.has("x", [key_of(str(i)) for i in range(20)])) == 20


KILLS = """
import random, signal
limit, n_kills = int(sys.argv[2]), int(sys.argv[3])
keys = [key_of(str(i)) for i in range(400)]

def write(step):  # and read, until it is killed; leaves with 1 where a value is wrong or the cache is disabled
    cache = DiskCache(Path(sys.argv[1]), limit, print)
    for i in range(10**9):
        space = f"x{i % 3}"
        cache.put(space, {keys[k]: value(k) for k in [(i * step + k) % 400 for k in range(60)]})
        if wrong(cache.get(space, keys)) or cache.notes:
            os._exit(1)

def start(step):
    pid = os.fork()
    return pid or write(step)

def size(path):  # 0 for a space that another process removes now
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0

others, torn, n_removed, sizes = [start(7), start(11)], 0, 0, {}
draw = random.Random(0).random
for _ in range(n_kills):
    victim = start(13)
    time.sleep(0.02 + 0.1 * draw())
    os.kill(victim, signal.SIGKILL)
    torn += len(list(Path(sys.argv[1]).glob("*-journal")))
    before, sizes = sizes, {path.name: size(path) for path in Path(sys.argv[1]).glob("*.sqlite")}
    n_removed += sum(sizes.get(name, 0) < size for name, size in before.items())
    assert os.waitstatus_to_exitcode(os.waitpid(victim, 0)[1]) == -9, "the victim found something wrong"
for pid in others:
    os.kill(pid, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -9, "a writer found something wrong"
cache = DiskCache(Path(sys.argv[1]), 10**9, print)
found = [cache.get(f"x{i}", keys) for i in range(3)]
assert not any(map(wrong, found)) and not cache.notes
assert any(found) or limit < 10**9, "two writers may have removed each other's file"
assert torn, "no kill came in the middle of a write"
assert n_removed or limit == 10**9, "no space was removed"
"""


@pytest.mark.slow
@pytest.mark.parametrize("limit", [10**9, 700_000], ids=["without eviction", "with eviction"])
def test_killed_writers_under_two_others_leave_no_wrong_value(tmp_path: Path, limit: int) -> None:
    assert python(KILLS, tmp_path, limit, 60).wait() == 0
