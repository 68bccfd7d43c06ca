"""What a data set was read from: noted while loaders look at files, and stamped to notice later that nothing changed.

Loaders look at files through ``data.files``, which notes here each path and how much of it counts. A stamp of all of it
takes a few microseconds a file, far less than reading the data set again.
"""

from __future__ import annotations

import hashlib
import marshal
import os
import stat as modes
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path

from cocabench.core.signature import SETTLED_S

Row = tuple[str, int, int, int, int]
"""Name, inode, size, and times in ns of the last change of the content and of the inode."""

ABSENT, FOLDER = 0, -1
"""In place of the inode, where only existence counts."""


@dataclass(frozen=True)
class Inputs:
    """What was looked at, by absolute paths.

    files: of which content or existence counts. folders: the names in them. trees: all visible files below. beyond:
    where something was read that is not noted, so that a change can go unnoticed.
    """

    files: set[str] = field(default_factory=set)
    folders: set[str] = field(default_factory=set)
    trees: set[str] = field(default_factory=set)
    beyond: set[str] = field(default_factory=set)

    def covers(self, path: str) -> bool:
        """Return whether a file is one of those whose change is noticed."""
        return path in self.files or any(path.startswith(f"{tree}{os.sep}") for tree in self.trees)


_inputs: ContextVar[Inputs | None] = ContextVar("inputs", default=None)


@contextmanager
def noted() -> Iterator[Inputs]:
    """Yield Inputs that grow by what this body looks at."""
    found = Inputs()
    token = _inputs.set(found)
    try:
        yield found
    finally:
        _inputs.reset(token)


def note_file(path: Path) -> Path:
    """Note that a file's content or existence counts; return its path."""
    if (found := _inputs.get()) is not None:
        found.files.add(os.path.abspath(path))
    return path


def note_folder(path: Path) -> Path:
    """Note that the names in a folder count; return its path."""
    if (found := _inputs.get()) is not None:
        found.folders.add(os.path.abspath(path))
    return path


def note_tree(path: Path) -> Path:
    """Note that all visible files below a folder count; return its path."""
    if (found := _inputs.get()) is not None:
        found.trees.add(os.path.abspath(path))
    return path


def note_beyond(where: object) -> None:
    """Note that something is read which cannot be noted: other people's code opens files that only it knows."""
    if (found := _inputs.get()) is not None:
        found.beyond.add(str(where))


def stamp(inputs: Inputs, *, read_at: float | None = None) -> str:
    """Return 64 hex digits that change with any name, inode, size or time of what was looked at.

    read_at: when reading began, in seconds since the epoch; then '' if anything may have changed since, as
    ``file_stamp`` has it for files that are too recent.
    """
    sha = hashlib.sha256()
    latest = None if read_at is None else int((read_at - SETTLED_S) * 1e9)
    for rows in _rows(inputs):
        sha.update(marshal.dumps(rows, 2))  # up to version 2 equal values have equal bytes; text takes twice as long
        if latest is not None and any(_changed(row) > latest for row in rows):
            return ""
    return sha.hexdigest()


def _changed(row: Row) -> int:
    """Return when a row last changed: of what is absent, the nearest folder that exists."""
    where = row[0]
    if row[1] != ABSENT or not os.path.isabs(where):
        return max(row[3:])
    while not os.path.isdir(where):
        where = os.path.dirname(where)
    found = os.stat(where)
    return max(found.st_mtime_ns, found.st_ctime_ns)


def _rows(inputs: Inputs) -> Iterator[list[Row]]:
    yield [_file(path) for path in sorted(inputs.files)]
    for path in sorted(inputs.folders):
        yield [_folder(path), *((name, FOLDER, 0, 0, 0) for name in _names(path))]
    for path in sorted(inputs.trees):
        yield from _tree(path)


def _file(path: str) -> Row:
    try:
        found = os.stat(path)
    except OSError:
        return path, ABSENT, 0, 0, 0
    if modes.S_ISDIR(found.st_mode):
        return path, FOLDER, 0, 0, 0
    return path, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _folder(path: str) -> Row:
    try:
        found = os.stat(path)
    except OSError:
        return path, ABSENT, 0, 0, 0
    return path, found.st_ino, 0, found.st_mtime_ns, found.st_ctime_ns


def _names(path: str) -> list[str]:
    """Return the names in a folder, with a / behind those of folders: some file systems keep no times of folders."""
    try:
        with os.scandir(path) as entries:
            return sorted(f"{entry.name}/" if entry.is_dir() else entry.name for entry in entries)
    except OSError:
        return []


def _tree(path: str) -> Iterator[list[Row]]:
    """Yield the rows of each folder, its own first, without what a leading dot hides (``files.files_below``)."""
    rows: list[Row] = []
    below: list[str] = []
    try:
        with os.scandir(path) as entries:
            for entry in entries:
                if (name := entry.name)[0] == ".":
                    continue
                if entry.is_dir():
                    below.append(entry.path)
                    continue
                try:
                    found = entry.stat()
                except OSError:  # a link to nothing
                    rows.append((name, FOLDER, 0, 0, 0))
                else:
                    rows.append((name, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns))
    except OSError:
        pass  # not a folder, or not readable: its own row says whether it exists
    rows.sort()
    yield [_folder(path), *rows]
    for folder in sorted(below):
        yield from _tree(folder)
