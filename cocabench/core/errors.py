"""The error tree. Every class has the exit code of the command line.

2: the request cannot be fulfilled: a wrong flag, name, file, data set or checkpoint. 1: something failed while running,
or is missing on this machine. (A run exits with 1 if some tasks failed, with 2 if none could start.)

CocabenchError                1   something went wrong while running
├── UsageError                2   what the user typed: a flag, a name, a combination
│   ├── UnknownNameError      2   a model, tag, task, group or metric that does not exist; names the closest
│   └── SpecError             2   a TOML file, with all its errors at once
├── DataError                 2   a data set that is missing, empty or inconsistent
│   ├── MissingDataError      2   missing files
│   └── BadImageError         2   a file that is not an image, or truncated
├── ModelError                2   a checkpoint or architecture that cannot be used
│   └── NotACaptionerError    2   a captioning task for a model that cannot caption
├── NumericsError             1   NaN or infinity in features, scores or weights
├── MetricUnavailableError    1   a metric that is unavailable on this machine, with the remedy
└── ResultsError              2   a results folder or Record that cannot be read, written or compared
    └── UnpairedError         2   samples that cannot be compared in pairs; tables show the reason
"""

from __future__ import annotations

import difflib
import errno
import json
import os
import re
from collections.abc import Iterable
from typing import NamedTuple


class CocabenchError(Exception):
    """One line: where, what was found, what was wanted, what to do."""

    exit_code = 1

    def __init__(self, where: str, got: str, *, wanted: str = "", fix: str = "") -> None:
        self.where, self.got, self.wanted, self.fix = where, got, wanted, fix
        parts = [f"{where}: {got}" if where else got]
        if wanted:
            parts.append(f"wanted {wanted}")
        if fix:
            parts.append(fix)
        super().__init__(re.sub(r"\n(?!  )\s*", " ", joined(parts)))  # lines of SpecError's list are indented

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.where, self.got, self.wanted, self.fix)


def joined(parts: Iterable[str]) -> str:
    """Join the parts of a message by semicolons; one that asks something has its mark already."""
    return "; ".join(part for part in parts if part).replace("?; ", "? ")


def _rebuild(kind: type[CocabenchError], where: str, got: str, wanted: str, fix: str) -> CocabenchError:
    """Unpickle an error that crossed a process boundary (a data-loading worker's)."""
    error = kind.__new__(kind)
    CocabenchError.__init__(error, where, got, wanted=wanted, fix=fix)
    return error


def named(error: CocabenchError, place: str) -> CocabenchError:
    """Return an error of the same class that also names the machine on which it happened."""
    made = _rebuild(
        type(error), f"{place}: {error.where}" if error.where else place, error.got, error.wanted, error.fix
    )
    made.__cause__ = error.__cause__
    return made


class UsageError(CocabenchError):
    exit_code = 2


_MAX_NAMES_LISTED = 8


class UnknownNameError(UsageError):
    """An unknown name; the message suggests the closest names, or lists all if they are few."""

    def __init__(self, kind: str, name: str, known: Iterable[str], *, fix: str = "") -> None:
        originals = {k.lower(): k for k in known}
        close = difflib.get_close_matches(name.lower(), originals, n=3, cutoff=0.6)
        guess = f"did you mean {' or '.join(originals[c] for c in close)}?" if close else ""
        if not close and len(originals) <= _MAX_NAMES_LISTED:
            guess = f"known: {', '.join(originals.values())}"
        super().__init__(kind, f"unknown {name!r}", fix=joined((guess, fix)))


class SpecError(UsageError):
    """All problems of one file, one per line."""

    def __init__(self, where: str, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__(
            where, ("\n" + " " * 2).join(("", *self.problems)) if len(self.problems) > 1 else self.problems[0]
        )


class DataError(CocabenchError):
    exit_code = 2


class MissingDataError(DataError):
    pass


class BadImageError(DataError):
    pass


class ModelError(CocabenchError):
    exit_code = 2


class NotACaptionerError(ModelError):
    pass


class NumericsError(CocabenchError):
    pass


class MetricUnavailableError(CocabenchError):
    pass


class ResultsError(CocabenchError):
    exit_code = 2


class UnpairedError(ResultsError):
    pass


class WithheldError(ResultsError):
    pass


def unreadable(error: OSError | ValueError) -> str:
    """Return in plain English why a text or JSON file could not be read."""
    if isinstance(error, IsADirectoryError):
        return "a folder, not a file"
    if isinstance(error, OSError):
        return f"not readable: {error.strerror}"
    if isinstance(error, UnicodeDecodeError):
        return f"not UTF-8 text (byte {error.start})"
    if isinstance(error, json.JSONDecodeError):
        if other := stand_in(error.doc[:HEAD].encode(errors="replace")):
            return f"{other.got}; {other.fix}"
        at = f"not JSON: {error.msg} in line {error.lineno}, column {error.colno}"
        return at if error.doc.strip() else "an empty file"
    return str(error)


def first_line(error: object) -> str:
    """Return the first line of another library's error, at most 160 characters; its class's name if it says nothing.

    Of the system's errors the words and the file, without their number.
    """
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower() + (f": {error.filename}" if error.filename is not None else "")
    if isinstance(error, KeyError):
        return f"no {error}"
    lines = re.sub(r"^\[Errno -?\d+\] ", "", str(error).strip()).splitlines()
    return lines[0][:160] if lines else type(error).__name__


_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def of_disk(error: BaseException | None) -> OSError | None:
    """Return what a full or read-only disk raised, if that is why an error came: a library may hide it by its own."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _DISK:
            return error
        if isinstance(error, RuntimeError) and (text := os.strerror(errno.ENOSPC)) in str(error):  # torch's
            return OSError(errno.ENOSPC, text)
        error = error.__cause__ or error.__context__
    return None


HEAD = 512
"""Bytes from which ``stand_in`` tells."""


class StandIn(NamedTuple):
    """What a file is that should be another one, and what to do about it."""

    got: str
    fix: str


def stand_in(head: bytes) -> StandIn | None:
    """Return what stands in a file's place, by its first bytes: a Git LFS pointer or a web page; None for neither."""
    if head.startswith(b"version https://git-lfs"):
        return StandIn("a Git LFS pointer, not the file itself", "run `git lfs pull` where it was cloned")
    if re.match(rb"\s*<(!doctype html|html|\?xml)", head, re.IGNORECASE):
        return StandIn("a web page, not the file itself", "download it again: the link may want a login")
    return None


class IgnoredRecordWarning(UserWarning):
    """Warns that a Record in a results folder is ignored; the command line prints it as a note."""
