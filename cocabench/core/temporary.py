"""Temporary files and folders, locked by their process while it runs; those of killed processes are removed."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

try:
    import fcntl
except ImportError:  # Windows has no such locks: there, nothing is removed
    fcntl = None  # type: ignore[assignment]


class Temporary(NamedTuple):
    """A temporary file, and the handle that holds its lock; -1 without locks."""

    path: Path
    handle: int

    def release(self) -> None:
        """Remove the file if it still exists."""
        self.path.unlink(missing_ok=True)
        if self.handle >= 0:
            os.close(self.handle)


def temporary(beside: Path) -> Temporary:
    """Create a temporary file beside a path to write; leftovers of dead processes are removed."""
    prefix = f".{beside.name}."
    _remove_leftovers(beside.parent, prefix, os.O_RDWR, lambda path: path.unlink(missing_ok=True))
    while True:
        handle, name = tempfile.mkstemp(dir=beside.parent, prefix=prefix)
        if fcntl is None:
            os.close(handle)
            return Temporary(Path(name), -1)
        _lock(handle, wait=True)
        if os.fstat(handle).st_nlink:
            return Temporary(Path(name), handle)
        os.close(handle)  # another process removed it before it was locked


@contextmanager
def temporary_folder(prefix: str) -> Iterator[Path]:
    """Yield a temporary folder, removed at the end of the body; leftovers of dead processes are removed."""
    _remove_leftovers(
        Path(tempfile.gettempdir()), prefix, os.O_RDONLY, lambda path: shutil.rmtree(path, ignore_errors=True)
    )
    mine = Temporary(Path(tempfile.mkdtemp(prefix=prefix)), -1) if fcntl is None else _locked_folder(prefix)
    try:
        yield mine.path
    finally:
        shutil.rmtree(mine.path, ignore_errors=True)
        if mine.handle >= 0:
            os.close(mine.handle)


def _locked_folder(prefix: str) -> Temporary:
    while True:
        path = Path(tempfile.mkdtemp(prefix=prefix))
        with suppress(FileNotFoundError):  # another process removed it before it was locked
            handle = os.open(path, os.O_RDONLY)
            _lock(handle, wait=True)
            if path.is_dir():
                return Temporary(path, handle)
            os.close(handle)


def _remove_leftovers(folder: Path, prefix: str, mode: int, remove: Callable[[Path], None]) -> None:
    if fcntl is None:
        return
    for name in [entry.name for entry in os.scandir(folder) if entry.name.startswith(prefix)]:
        try:
            handle = os.open(folder / name, mode)
        except OSError:  # removed meanwhile, or owned by another user
            continue
        try:
            if _lock(handle, wait=False):
                remove(folder / name)
        finally:
            os.close(handle)


def _lock(handle: int, *, wait: bool) -> bool:
    """Lock a file; return False if another process holds the lock or the file system has none."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
