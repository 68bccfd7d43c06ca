"""Hashes of files: read once while a cache remembers them, and again when the file may have changed."""

import os
from pathlib import Path

import pytest

from cocabench.core import signature
from cocabench.core.cache import DiskCache
from cocabench.core.signature import digest_file, file_stamp, remembering_files


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Return the files that are read, one a time."""
    read: list[Path] = []
    original = signature.open_regular
    monkeypatch.setattr(signature, "open_regular", lambda path: read.append(path) or original(path))
    return read


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(signature, "SETTLED_S", -10.0)
    path = tmp_path / "weights.pt"
    path.write_bytes(b"weights")
    return path


def test_a_file_is_hashed_once_over_processes(weights: Path, tmp_path: Path, reads: list[Path]) -> None:
    plain = digest_file(weights)
    for _ in range(2):
        with remembering_files(DiskCache(tmp_path / "c", 10**9)):
            assert digest_file(weights) == plain
    assert len(reads) == 2
    digest_file(weights)
    assert len(reads) == 3


@pytest.mark.parametrize("change", ["content", "place", "time"])
def test_a_changed_file_is_hashed_again(weights: Path, tmp_path: Path, reads: list[Path], change: str) -> None:
    with remembering_files(DiskCache(tmp_path / "c", 10**9)):
        before = digest_file(weights)
        if change == "content":
            weights.write_bytes(b"others!")
        elif change == "time":
            os.utime(weights, (1, 1))
        else:
            weights = weights.rename(tmp_path / "moved.pt")
        assert (digest_file(weights) == before) == (change != "content")
    assert len(reads) == 2


def test_a_file_that_was_only_just_written_has_no_stamp(tmp_path: Path) -> None:
    path = tmp_path / "fresh"
    assert file_stamp(path) == ""
    path.write_bytes(b"x")
    assert file_stamp(path) == ""
