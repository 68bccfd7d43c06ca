"""The cache on disk: what is written is read bit for bit; what is torn, gone, full or shared costs only hits."""

import resource
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from cocabench.core.errors import ResultsError
from cocabench.models.features import Cache, clear, existing, open_cache
from cocabench.models.features.contents import of_texts

ROWS = np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32)
KEYS = of_texts("abcdef")


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def cache(tmp_path: Path, told: list[str]) -> Iterator[Cache]:
    with open_cache(tmp_path / "c", told.append) as opened:
        yield opened


def read(cache: Cache, keys: list[bytes] = KEYS, collection: str = "x") -> dict[bytes, bytes]:
    """Return {content: its row's bytes}."""
    found = cache.read(collection, keys)
    return {keys[i]: row.tobytes() for part in found for i, row in zip(part.positions, part.rows, strict=True)}


def written(keys: list[bytes] = KEYS, rows: np.ndarray = ROWS) -> dict[bytes, bytes]:
    return {key: row.tobytes() for key, row in zip(keys, rows, strict=True)}


def test_what_is_written_is_read_bit_for_bit_in_any_order_and_later(cache: Cache, told: list[str]) -> None:
    special = ROWS.copy()
    special[0] = [-0.0, np.float32(1e-45), np.nextafter(np.float32(1), np.float32(2)), 3]
    cache.write("x", "m images", KEYS[:4], special[:4])
    cache.write("x", "m images", KEYS[4:], special[4:])
    assert read(cache) == written(rows=special)
    assert read(cache, KEYS[::-1]) == written(rows=special)
    with open_cache(cache.folder, told.append) as later:
        assert read(later) == written(rows=special)
    assert read(cache, of_texts("z")) == {}
    assert read(cache, collection="y") == {}
    assert told == []


def test_collections_of_different_widths_and_many_keys_share_a_folder(cache: Cache) -> None:
    many = of_texts(map(str, range(3000)))
    wide = np.random.default_rng(1).standard_normal((3000, 8)).astype(np.float32)
    cache.write("x", "m images", KEYS, ROWS)
    cache.write("y", "n texts", many, wide)
    assert read(cache) == written()
    assert read(cache, many, "y") == written(many, wide)
    assert {(one.label, one.features, one.size) for one in cache.usage()} == {
        ("m images", 6, 6 * 4 * 4),
        ("n texts", 3000, 3000 * 8 * 4),
    }


def test_a_row_torn_on_disk_is_missing_and_can_be_written_again(cache: Cache) -> None:
    cache.write("x", "m", KEYS, ROWS)
    (shard,) = cache.folder.glob("*.f32")
    content = bytearray(shard.read_bytes())
    content[17] ^= 1
    shard.write_bytes(content[: 5 * 16 + 3])
    expected = written()
    for torn in (KEYS[1], KEYS[5]):
        del expected[torn]
    assert read(cache) == expected
    cache.write("x", "m", [KEYS[1], KEYS[5]], ROWS[[1, 5]])
    assert read(cache) == written()


def test_a_writer_killed_in_the_middle_leaves_what_was_there(cache: Cache, told: list[str]) -> None:
    cache.write("x", "m", KEYS[:3], ROWS[:3])
    code = (
        "import os, sys, numpy as np\n"
        "from cocabench.models.features import index, open_cache\n"
        "index.add = lambda *a: os.kill(os.getpid(), 9)\n"
        "with open_cache(__import__('pathlib').Path(sys.argv[1]), print) as cache:\n"
        "    cache.write('x', 'm', [b'k' * 16], np.ones((1, 4), np.float32))\n"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(cache.folder)], check=False)
    assert killed.returncode == -9
    (shard,) = cache.folder.glob("*.f32")
    assert shard.stat().st_size == 4 * 16  # the torn tail is there …
    assert read(cache, [*KEYS[:3], b"k" * 16]) == written(KEYS[:3], ROWS[:3])  # … and nobody reads it
    cache.write("x", "m", KEYS[3:], ROWS[3:])
    assert read(cache) == written()
    assert told == []


def test_writers_and_readers_at_once_lose_nothing(cache: Cache, told: list[str]) -> None:
    code = (
        "import sys, numpy as np\n"
        "from cocabench.models.features import open_cache\n"
        "from cocabench.models.features.contents import of_texts\n"
        "seed = int(sys.argv[2])\n"
        "with open_cache(__import__('pathlib').Path(sys.argv[1]), print) as cache:\n"
        "    for i in range(12):\n"
        "        key = of_texts([f'{(seed + i) % 20}'])\n"
        "        cache.write('x', 'm', key, np.full((1, 4), (seed + i) % 20, np.float32))\n"
        "        for found in cache.read('x', of_texts(map(str, range(20)))):\n"
        "            assert (found.rows == found.positions[:, None]).all()\n"
    )
    running = [subprocess.Popen([sys.executable, "-c", code, str(cache.folder), str(seed)]) for seed in (0, 6, 10)]
    assert [process.wait() for process in running] == [0, 0, 0]
    found = read(cache, of_texts(map(str, range(20))))
    assert found == {key: np.full(4, i, np.float32).tobytes() for i, key in enumerate(of_texts(map(str, range(20))))}
    assert told == []


def small(cache: Cache, rows: int) -> Cache:
    """Return the cache with a limit of so many rows of 4 numbers, a shard an eighth of it."""
    return Cache(cache.folder, rows * 16, cache.tell)


def test_the_limit_holds_and_what_was_used_last_stays(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 10**6, 100))
    monkeypatch.setattr("cocabench.models.features.index.time.time", lambda: next(clock))
    keys = of_texts(map(str, range(100)))
    rows = np.arange(400, dtype=np.float32).reshape(100, 4)
    tight = small(cache, 32)
    tight.write("x", "m", keys[:4], rows[:4])
    for i in range(4, 100, 4):
        assert read(tight, keys[:4]) == written(keys[:4], rows[:4])
        tight.write("x", "m", keys[i : i + 4], rows[i : i + 4])
        assert sum(path.stat().st_size for path in cache.folder.glob("*.f32")) <= 32 * 16
    held = read(tight, keys)
    assert keys[0] in held
    assert keys[99] in held
    assert keys[8] not in held
    assert 24 <= len(held) <= 32


def test_a_shard_that_goes_while_it_is_wanted_is_a_miss(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.write("x", "m", KEYS, ROWS)
    places = cache._places("x", KEYS)
    clear(cache.folder)
    monkeypatch.setattr(Cache, "_places", lambda *a: places)
    assert read(cache) == {}


def test_a_full_disk_is_told_once_and_the_cache_goes_out_of_use(cache: Cache, told: list[str]) -> None:
    cache.write("x", "m", KEYS[:1], ROWS[:1])
    with files_of_at_most(64 * 1024):
        big = np.ones((20_000, 4), np.float32)
        cache.write("x", "m", of_texts(map(str, range(20_000))), big)
        cache.write("x", "m", KEYS[1:], ROWS[1:])
    assert len(told) == 1
    assert "out of use" in told[0]
    assert read(cache) == {}
    with open_cache(cache.folder, told.append) as later:
        assert read(later) == written(KEYS[:1], ROWS[:1])


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_folder_that_cannot_be_written_gives_a_cache_for_this_run(tmp_path: Path, told: list[str]) -> None:
    (tmp_path / "file").write_text("")
    with open_cache(tmp_path / "file" / "c", told.append) as cache:
        cache.write("x", "m", KEYS, ROWS)
        assert read(cache) == written()
    assert not cache.folder.exists()
    assert len(told) == 1
    assert "for this run only" in told[0]


def test_a_broken_index_is_begun_anew(cache: Cache, told: list[str]) -> None:
    cache.write("x", "m", KEYS, ROWS)
    (cache.folder / "index.sqlite").write_bytes(b"no database at all" * 100)
    with open_cache(cache.folder, told.append) as again:
        assert read(again) == {}
        again.write("x", "m", KEYS, ROWS)
        assert read(again) == written()
    assert "begun anew" in told[0]


def test_shards_without_an_index_are_swept(cache: Cache, told: list[str]) -> None:
    (cache.folder / "77.f32").write_bytes(b"left by a kill")
    with open_cache(cache.folder, told.append):
        assert not list(cache.folder.glob("*.f32"))


def test_an_index_that_another_process_holds_is_waited_for(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cocabench.models.features.index.TIMEOUT_S", 0.1)
    with sqlite3.connect(cache.folder / "index.sqlite", isolation_level=None) as other:
        other.execute("BEGIN EXCLUSIVE")
        cache.write("x", "m", KEYS, ROWS)
    assert not cache.usable


def test_a_folder_without_a_cache_and_clear(tmp_path: Path, cache: Cache) -> None:
    assert existing(tmp_path / "nowhere") is None
    cache.write("x", "m", KEYS, ROWS)
    there = existing(cache.folder)
    assert there
    assert there.usage()[0].features == 6
    assert clear(cache.folder) > 0
    assert existing(cache.folder) is None


def test_an_unreadable_cache_is_an_error_when_it_is_looked_at(cache: Cache) -> None:
    (cache.folder / "index.sqlite").write_bytes(b"no database at all" * 100)
    there = existing(cache.folder)
    assert there
    with pytest.raises(ResultsError, match="cache clear"):
        there.usage()
