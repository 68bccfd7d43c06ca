"""Temporary files and folders, locked by their process while it runs; those of killed processes are removed.

Their names end with 16 random digits, which cannot be guessed and distinguish them from other files.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import current_process, util
from pathlib import Path
from typing import NamedTuple

from cocabench.core.errors import UsageError

try:
    import fcntl
except ImportError:  # Windows has no such locks: there, nothing is removed
    fcntl = None  # type: ignore[assignment]

NO_WAITING = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0)
"""What somebody put under such a name may be a pipe, which is opened only when its other end is, or a link."""

MAX_SOCKET_BYTES = 107 if sys.platform == "linux" else 103
"""Of the path of a socket: sun_path, without its final zero."""

SHORT_FOLDERS = tuple(map(Path, ("/tmp", "/var/tmp", "/dev/shm")))
"""Where sockets go if the folder for temporary files has too long a path, as scratch folders of clusters may."""

FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0)


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
        path = beside.with_name(prefix + _random())
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)  # the user's umask says who may read it
        if fcntl is None:
            os.close(handle)
            return Temporary(path, -1)
        _lock(handle, wait=True)
        if os.fstat(handle).st_nlink:
            return Temporary(path, handle)
        os.close(handle)  # another process removed it before it was locked


@contextmanager
def temporary_folder(prefix: str, parent: Path | None = None) -> Iterator[Path]:
    """Yield a folder that only this user may enter, removed at the end; leftovers of dead processes are removed.

    parent: where to create it; by default the system's folder for temporary files.
    """
    parent = parent or Path(tempfile.gettempdir())
    _remove_leftovers(parent, prefix, FOLDER, _remove_folder)
    mine = _locked_folder(parent, prefix)
    try:
        yield mine.path
    finally:
        _remove_folder(mine.path)
        if mine.handle >= 0:
            os.close(mine.handle)


def folder_for_sockets(n_bytes: int) -> Path:
    """Return a folder in which the path of a socket may have n_bytes more: TMPDIR, or a short one.

    Raises UsageError if there is none.
    """
    usual = Path(tempfile.gettempdir())
    for folder in (usual, *SHORT_FOLDERS):
        fits = len(os.fsencode(folder)) + 1 + n_bytes <= MAX_SOCKET_BYTES
        if fits and os.access(folder, os.W_OK | os.X_OK):
            return folder
    got = f"its path has {len(os.fsencode(usual))} bytes, too many for sockets"
    raise UsageError(f"TMPDIR={usual}", got, wanted="a short path to a writable folder", fix="set TMPDIR to one")


def place_sockets() -> None:
    """Give multiprocessing a folder of ours for its sockets, whose path is short; it takes any that TMPDIR names.

    Call it before this process starts others that read or share tensors: they inherit the folder. It is removed at
    the end of this process.
    """
    settings = current_process()._config  # type: ignore[attr-defined]  # where util.get_temp_dir looks first
    there = settings.get("tempdir")
    if there and len(os.fsencode(there)) + SOCKET_NAME_BYTES <= MAX_SOCKET_BYTES and os.path.isdir(there):
        return
    prefix = "multiprocessing-"
    parent = folder_for_sockets(len(prefix) + RANDOM_CHARACTERS + SOCKET_NAME_BYTES)
    _remove_leftovers(parent, prefix, FOLDER, _remove_folder)
    mine = _locked_folder(parent, prefix)
    util.Finalize(None, _remove_folder, (mine.path,), exitpriority=-100)  # after the children; not in forked ones
    settings["tempdir"] = str(mine.path)


SOCKET_NAME_BYTES = len("/listener-xxxxxxxx")
RANDOM_CHARACTERS = 16


def _remove_folder(path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)


def _locked_folder(parent: Path, prefix: str) -> Temporary:
    while True:
        path = parent / (prefix + _random())
        path.mkdir(mode=0o700)
        if fcntl is None:
            return Temporary(path, -1)
        with suppress(FileNotFoundError):  # another process removed it before it was locked
            handle = os.open(path, FOLDER)
            _lock(handle, wait=True)
            if path.is_dir():
                return Temporary(path, handle)
            os.close(handle)


def _random() -> str:
    return secrets.token_hex(8)


def _remove_leftovers(folder: Path, prefix: str, mode: int, remove: Callable[[Path], None]) -> None:
    ours = re.compile(re.escape(prefix) + r"[0-9a-f]{16}")
    for name in [entry.name for entry in os.scandir(folder) if ours.fullmatch(entry.name)]:
        _remove_if_free(folder / name, mode, remove)


def remove_unless_held(path: Path, *, older_s: float) -> None:
    """Remove a file that no living process holds, and that is older than this many seconds."""
    with suppress(OSError):  # removed meanwhile
        if path.stat().st_mtime < time.time() - older_s:
            _remove_if_free(path, os.O_RDONLY, lambda file: file.unlink(missing_ok=True))


def _remove_if_free(path: Path, mode: int, remove: Callable[[Path], None]) -> None:
    """Remove a file that this user created and no living process holds."""
    if fcntl is None:
        return
    try:
        handle = os.open(path, mode | NO_WAITING)
    except OSError:  # removed meanwhile, owned by another user, or not a file
        return
    try:
        if os.fstat(handle).st_uid == os.geteuid() and _lock(handle, wait=False):
            remove(path)
    finally:
        os.close(handle)


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Hold a folder's lock during the body, creating the folder if needed. Without locks nothing is held."""
    folder.mkdir(parents=True, exist_ok=True)
    handle = -1 if fcntl is None else os.open(folder, FOLDER)
    try:
        if handle >= 0:
            _lock(handle, wait=True)
        yield
    finally:
        if handle >= 0:
            os.close(handle)


def _lock(handle: int, *, wait: bool) -> bool:
    """Lock a file; return False if another process holds the lock or the file system has none."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
