"""Temporary files and folders whose maker holds a lock on each while it lives. What a killed one left is removed."""

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
except ImportError:  # Windows has no such locks: nothing is swept there
    fcntl = None  # type: ignore[assignment]


class Temporary(NamedTuple):
    """A file of this process, and the handle that holds its lock; -1 where there are no locks."""

    path: Path
    handle: int

    def release(self) -> None:
        """Remove the file, if it is still there."""
        self.path.unlink(missing_ok=True)
        if self.handle >= 0:
            os.close(self.handle)


def temporary(beside: Path) -> Temporary:
    """Make a temporary file beside a path that is to be written. Those that dead processes left beside it go."""
    prefix = f".{beside.name}."
    _sweep(beside.parent, prefix, os.O_RDWR, lambda path: path.unlink(missing_ok=True))
    while True:
        handle, name = tempfile.mkstemp(dir=beside.parent, prefix=prefix)
        if fcntl is None:
            os.close(handle)
            return Temporary(Path(name), -1)
        _lock(handle, wait=True)
        if os.fstat(handle).st_nlink:
            return Temporary(Path(name), handle)
        os.close(handle)  # another process swept it before it was locked


@contextmanager
def temporary_folder(prefix: str) -> Iterator[Path]:
    """Give a folder where the system keeps temporary ones, until the body ends. Those of dead processes go."""
    _sweep(Path(tempfile.gettempdir()), prefix, os.O_RDONLY, lambda path: shutil.rmtree(path, ignore_errors=True))
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
        with suppress(FileNotFoundError):  # another process swept it before it was locked
            handle = os.open(path, os.O_RDONLY)
            _lock(handle, wait=True)
            if path.is_dir():
                return Temporary(path, handle)
            os.close(handle)


def _sweep(folder: Path, prefix: str, mode: int, remove: Callable[[Path], None]) -> None:
    if fcntl is None:
        return
    for name in [entry.name for entry in os.scandir(folder) if entry.name.startswith(prefix)]:
        try:
            handle = os.open(folder / name, mode)
        except OSError:  # it is gone meanwhile, or another user's
            continue
        try:
            if _lock(handle, wait=False):
                remove(folder / name)
        finally:
            os.close(handle)


def _lock(handle: int, *, wait: bool) -> bool:
    """Lock a file if that can be done; False where another process holds it or the file system has no locks."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
