"""Answers are kept by content, within a limit; a full or read-only disk costs hits and never an answer."""

import errno
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cocabench.captioneval import answers, cache

KEPT = cache.Kept()


def upper(texts: list[str]) -> list[str]:
    return [text.upper() for text in texts]


def never(texts: list[str]) -> list[str]:
    pytest.fail(f"asked again for {texts}")


def test_every_text_is_asked_once(empty_cache: Path) -> None:
    asked: list[str] = []

    def upper(texts: list[str]) -> list[str]:
        asked.extend(texts)
        return [text.upper() for text in texts]

    assert KEPT.through("upper 1", ["a", "b", "a"], upper) == ["A", "B", "A"]
    assert KEPT.through("upper 1", ["b", "c"], upper) == ["B", "C"]
    assert asked == ["a", "b", "c"]
    assert KEPT.through("upper 2", ["a"], upper) == ["A"]
    assert asked == ["a", "b", "c", "a"]


def test_finished_batches_outlive_a_failure(empty_cache: Path) -> None:
    def fails_at_c(texts: list[str]) -> list[str]:
        if "c" in texts:
            raise KeyboardInterrupt
        return texts

    with pytest.raises(KeyboardInterrupt):
        KEPT.through("same", ["a", "b", "c", "d"], fails_at_c, batch=2)
    assert KEPT.through("same", ["a", "b"], never) == ["a", "b"]


def test_different_sequences_have_different_keys() -> None:
    assert len({cache.key("a", "bc"), cache.key("ab", "c"), cache.key("abc"), cache.key("a\ud800", "")}) == 4


def test_what_was_not_used_for_longest_goes_when_the_limit_is_reached(
    empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COCABENCH_CACHE_GB", "0.002")  # 100 kB for answers
    clock = iter(range(0, 10**12, 10**6))
    monkeypatch.setattr(answers.time, "time", lambda: next(clock))
    KEPT.through("x", ["used"], upper)
    for i in range(40):
        KEPT.through("x", [f"{i} {k} {'long' * 20}" for k in range(50)], upper)
        assert KEPT.through("x", ["used"], never) == ["USED"]
        assert cache.usage().size <= 100_000
    last = [f"39 {k} {'long' * 20}" for k in range(50)]
    assert KEPT.through("x", last, never) == upper(last)
    assert 50 <= cache.usage().scores < 1000


def test_tables_that_were_not_used_for_longest_go(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COCABENCH_CACHE_GB", "0.002")
    folder = KEPT.table("a").parent
    for age, name in enumerate("ab"):
        (folder / name).write_bytes(bytes(40_000))
        os.utime(folder / name, (age, age))
    KEPT.table("a")
    for age, name in enumerate("cd", 2):
        (folder / name).write_bytes(bytes(40_000))
        os.utime(folder / name, (age, age))
    KEPT.table("e")
    assert sorted(path.name for path in folder.iterdir()) == ["a", "d"]


def test_a_full_disk_is_told_once_and_every_answer_comes(empty_cache: Path) -> None:
    told: list[str] = []
    kept = cache.Kept(told.append)
    kept.through("x", ["before"], upper)
    many = [f"{i} {'long' * 50}" for i in range(2000)]
    with files_of_at_most(64 * 1024):
        assert kept.through("x", many, upper, batch=500) == upper(many)
        assert kept.through("x", ["before"], never) == ["BEFORE"]
    assert len(told) == 1
    assert f"{empty_cache}/captions: no caption scores are kept from here on" in told[0]
    assert cache.Kept().through("x", ["before"], never) == ["BEFORE"]


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("number", [errno.EROFS, errno.ENOSPC])
def test_a_folder_that_cannot_be_made_is_told_once(
    empty_cache: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refused(self: Path, *args: object, **options: object) -> None:
        raise OSError(number, os.strerror(number), str(self))

    monkeypatch.setattr(Path, "mkdir", refused)
    told: list[str] = []
    kept = cache.Kept(told.append)
    assert kept.through("x", ["a"], upper) == ["A"]
    assert kept.table("t").name == "t"
    assert not cache.temporary().is_relative_to(empty_cache)
    assert [os.strerror(number) in line for line in told] == [True]


def test_a_broken_file_is_begun_anew(empty_cache: Path) -> None:
    KEPT.through("x", ["a"], upper)
    (cache.folder() / answers.NAME).write_bytes(b"no database at all" * 100)
    assert KEPT.through("x", ["a"], upper) == ["A"]
    assert KEPT.through("x", ["a"], never) == ["A"]


def test_clear_removes_all_and_the_next_begins_anew(empty_cache: Path) -> None:
    assert cache.clear() == 0
    KEPT.through("x", ["a"], upper)
    KEPT.table("t").write_bytes(b"123")
    assert cache.usage().scores == 1
    assert cache.clear() > 3
    assert cache.usage() == (0, 0, 0.0)
    assert KEPT.through("x", ["a"], upper) == ["A"]
