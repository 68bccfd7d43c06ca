"""Untrusted files: opened only if they are regular, read up to limits whose errors say how to raise them."""

from __future__ import annotations

import errno
import io
import json
import os
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from cocabench.core.errors import DataError, UsageError


class Limit(NamedTuple):
    """variable: the environment's name that sets it. default: the most that is taken. unit: of what, in words."""

    variable: str
    default: int
    unit: str

    @property
    def most(self) -> int:
        """The current limit; UsageError if the variable is not a whole number above 0."""
        text = os.environ.get(self.variable) or str(self.default)
        if not text.isascii() or not text.isdecimal() or not 0 < len(text) < 19 or int(text) == 0:
            raise UsageError(self.variable, f"got {text[:40]!r}", wanted="a whole number above 0")
        return int(text)

    def check(self, n: int, where: object, error: type[DataError] = DataError) -> None:
        """Raise an error if n exceeds the limit."""
        if n > self.most:
            fix = f"if you trust it: {self.variable}={n}"
            raise error(str(where), f"{n:,} {self.unit}", wanted=f"at most {self.most:,}", fix=fix)


PIXELS = Limit("COCABENCH_MAX_PIXELS", 10_000 * 10_000, "pixels in an image")
MEMBER_BYTES = Limit("COCABENCH_MAX_MEMBER_BYTES", 2_000_000_000, "bytes in a member of an archive")
ROWS = Limit("COCABENCH_MAX_ROWS", 5_000_000, "rows in a table")
RATIO = Limit("COCABENCH_MAX_RATIO", 1_000, "times its packed size")


def check_zip(path: Path) -> None:
    """Raise DataError if a member of a zip has an excessive compression ratio; zipfile.BadZipFile if damaged."""
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            RATIO.check(member.file_size // max(1, member.compress_size), f"{path}:{member.filename}")


def open_regular(path: Path) -> io.BufferedReader:
    """Open a file for reading; OSError if it is missing, or a pipe or device, which could hang or never end."""
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    found = os.fstat(handle).st_mode
    if stat.S_ISREG(found):
        return os.fdopen(handle, "rb")
    os.close(handle)
    if stat.S_ISDIR(found):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    raise OSError(errno.EINVAL, "a pipe or device, not a file", str(path))


def read_regular(path: Path) -> bytes:
    """Return a regular file's content; OSError as above."""
    with open_regular(path) as file:
        return file.read()


def read_text(path: Path, encoding: str = "utf-8") -> str:
    """Return a regular file's text, its lines ending with a newline only; OSError as above, UnicodeDecodeError."""
    return read_regular(path).decode(encoding).replace("\r\n", "\n").replace("\r", "\n")


def parse_json(text: str | bytes, pairs: Callable[[list[tuple[str, Any]]], Any] | None = None) -> Any:
    """Return a JSON value; JSONDecodeError for all that is none, too deep or too long a number among it.

    pairs: makes an object of its keys and values; by default a dict.
    """
    try:
        return json.loads(text, object_pairs_hook=pairs)
    except RecursionError:
        raise json.JSONDecodeError("nested too deeply", "[", 0) from None
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise
    except ValueError:
        raise json.JSONDecodeError("a number with thousands of digits", "[", 0) from None


def expanded(path: Path | str) -> Path:
    """Return a path with ~ and ~NAME as folders; UsageError if there is no such user."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise UsageError(str(path), f"no user {str(path).partition('/')[0][1:]!r}", wanted="a path") from None
