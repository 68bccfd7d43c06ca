"""What captions' Java gives, kept by content in the user's cache: a second model pays only for its own captions.

captions/answers.sqlite   answers by content, see answers.py
captions/meteor/          the part of METEOR's paraphrase table that a set of references needs
captions/tmp/             Java's temporary files

Each kind takes half of what the cache's limit leaves for caption scores; what was not used for longest goes first.
Trouble, a full or a read-only disk, costs hits and never a run.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from cocabench.captioneval import answers
from cocabench.core import cachedir

TROUBLE = (OSError, sqlite3.Error)


class Usage(NamedTuple):
    """How many caption scores are kept, their size with METEOR's tables in bytes, and the seconds of their last use."""

    scores: int
    size: int
    used: float


def folder() -> Path:
    """Return the folder of the caption scores; nothing is made."""
    return cachedir.location() / "captions"


def share() -> int:
    """Return the bytes that answers, and METEOR's tables, may take."""
    return int(cachedir.limit() * cachedir.SCORES_SHARE / 2)


def key(*parts: str) -> str:
    """Return a short name for a sequence of texts, different for different sequences."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "big"))
        digest.update(data)
    return digest.hexdigest()[:32]


class Kept:
    """What is kept of earlier answers. tell is called with one line when nothing more can be kept."""

    def __init__(self, tell: Callable[[str], None] | None = None) -> None:
        self._tell = tell or logging.getLogger(__name__).warning
        self._writable = True

    def through(
        self, kind: str, texts: Sequence[str], compute: Callable[[list[str]], list[str]], *, batch: int = 1_000_000
    ) -> list[str]:
        """Return compute's answer for every text, asking it only for those never seen, each once, in order.

        kind names the computation and its version. compute maps at most batch texts to as many answers. Every batch
        is kept when it is done, so an interrupted run goes on where it stopped.
        """
        names = {text: key(kind, text) for text in dict.fromkeys(texts)}
        known = self._read(list(names.values()))
        missing = [text for text, name in names.items() if name not in known]
        for start in range(0, len(missing), batch):
            asked = missing[start : start + batch]
            found = dict(zip((names[text] for text in asked), compute(asked), strict=True))
            self._keep(found)
            known.update(found)
        return [known[names[text]] for text in texts]

    def table(self, name: str) -> Path:
        """Return METEOR's file of that name, which may be there and may be written; older ones make room."""
        tables = folder() / "meteor"
        try:
            tables.mkdir(parents=True, exist_ok=True)
            _tidy(tables, share())
            if (tables / name).is_file():
                os.utime(tables / name)
        except OSError as error:
            self.trouble(error)
        return tables / name

    def trouble(self, error: Exception) -> None:
        """Tell once that nothing more is kept, and why."""
        if self._writable:
            self._writable = False
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            self._tell(f"{folder()}: no caption scores are kept from here on ({reason}); the run goes on")

    def _read(self, names: list[str]) -> dict[str, str]:
        path = folder() / answers.NAME
        try:
            known, old = answers.read(path, names) if path.is_file() else ({}, [])
        except sqlite3.OperationalError as error:
            self.trouble(error)
            return {}
        except sqlite3.DatabaseError:  # no database any more: begun anew
            path.unlink(missing_ok=True)
            return {}
        if old and self._writable:
            self._write(lambda: answers.touch(path, old))
        return known

    def _keep(self, found: dict[str, str]) -> None:
        if found and self._writable:
            self._write(lambda: answers.add(folder() / answers.NAME, found, share()))

    def _write(self, action: Callable[[], None]) -> None:
        try:
            folder().mkdir(parents=True, exist_ok=True)
            action()
        except TROUBLE as error:
            self.trouble(error)


def temporary() -> Path:
    """Return a folder for Java's temporary files: the cache's, or the system's where that cannot be written to."""
    path = folder() / "tmp"
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError:
        return Path(tempfile.gettempdir())
    return path if os.access(path, os.W_OK) else Path(tempfile.gettempdir())


def usage() -> Usage:
    """Return how much is kept."""
    path = folder() / answers.NAME
    files = [path, *(folder() / "meteor").glob("*")]
    there = [file.stat() for file in files if file.is_file()]
    size, used = sum(one.st_size for one in there), max((one.st_mtime for one in there), default=0.0)
    return Usage(answers.count(path) if path.is_file() else 0, size, used)


def clear() -> int:
    """Remove all caption scores, and return how many bytes they had. Runs that use them go on without."""
    size = sum(file.stat().st_size for file in folder().rglob("*") if file.is_file())
    if folder().is_dir():
        shutil.rmtree(folder())
    return size


def _tidy(tables: Path, most: int) -> None:
    """Remove the tables that were not used for longest until the rest take at most so many bytes."""
    size = 0
    for path in sorted(tables.iterdir(), key=lambda p: p.stat().st_mtime, reverse=True):
        size += path.stat().st_size
        if size > most:
            path.unlink(missing_ok=True)
