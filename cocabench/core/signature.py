"""Signatures: how a number was measured, in a form that can be compared and hashed."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue

from cocabench.core.cache import get_or_compute, key_of
from cocabench.core.errors import DataError, unreadable
from cocabench.core.files import open_regular
from cocabench.core.types import Cache, Signature

SETTLED_S = 2.0
"""Coarsest time stamps of file systems (FAT); younger files may change without a new stamp."""

FILES = "hashes of files 1"
"""The cache space of file hashes; keys are from ``file_stamp``."""

_files: ContextVar[Cache | None] = ContextVar("files", default=None)


class UnhashedError(Exception):
    """A file is neither in the cache of hashes nor within the Allowance."""


@dataclass
class Allowance:
    """How many bytes of files may still be hashed; larger files raise UnhashedError."""

    left: int

    def spend(self, path: Path) -> None:
        size = path.stat().st_size if path.is_file() else 0
        if size > self.left:
            raise UnhashedError(str(path))
        self.left -= size


_allowance: ContextVar[Allowance | None] = ContextVar("allowance", default=None)


def digest(*parts: JsonValue) -> str:
    """Return 16 hex digits of the SHA-256 of the parts' canonical JSON, equal on every machine."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def digest_lines(lines: Iterable[str]) -> str:
    """Return 16 hex digits of the SHA-256 of many strings, each followed by a unit separator."""
    text = "\x1f".join([*lines, ""])
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def digest_file(path: Path) -> str:
    """Return 16 hex digits of a file's SHA-256, from the cache of ``remembering_files`` if possible.

    DataError if it cannot be read, UnhashedError if it may not be (see ``remembering_files``).
    """
    cache, stamp = _files.get(), file_stamp(path)
    if cache is None or not stamp:
        return _digest_file(path)
    keys = [key_of(stamp)]
    (found,) = get_or_compute(cache, FILES, keys, lambda _: [_digest_file(path).encode()], label="hashes of files")
    return found.decode()


def _digest_file(path: Path) -> str:
    if (allowance := _allowance.get()) is not None:
        allowance.spend(path)
    try:
        with open_regular(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:16]
    except OSError as error:
        raise DataError(str(path), unreadable(error)) from None


@contextmanager
def remembering_files(cache: Cache | None, allowance: Allowance | None = None) -> Iterator[None]:
    """Let ``digest_file`` cache hashes of files until their path, size, times or inode change.

    allowance: limits what is hashed anew; None: no limit.
    """
    tokens = _files.set(cache), _allowance.set(allowance)
    try:
        yield
    finally:
        _files.reset(tokens[0])
        _allowance.reset(tokens[1])


def file_stamp(path: Path | str) -> str:
    """Return a file's path, inode, size and times; '' for a missing or very recent file.

    A file written within the last seconds can be written again without a change of its times.
    """
    name = os.fspath(path)  # not path.stat() and path.absolute(): planning does this for every image
    try:
        found = os.stat(name)
    except OSError:
        return ""
    if max(found.st_mtime, found.st_ctime) > time.time() - SETTLED_S:
        return ""
    where = name if name.startswith(os.sep) else Path(name).absolute()
    return f"{where} {found.st_ino} {found.st_size} {found.st_mtime_ns} {found.st_ctime_ns}"


def short(signature: Signature) -> str:
    """Return the 12 hex digits that identify a signature in file names and tables."""
    return digest(signature.protocol, signature.model)[:12]


def protocol_differences(a: Signature, b: Signature) -> list[str]:
    """Return a phrase per protocol part that differs: ``data.images: 1000 against 8000``; empty if comparable."""
    left, right = flat(a.protocol), flat(b.protocol)
    return [
        f"{key}: {left.get(key, 'absent')} against {right.get(key, 'absent')}"
        for key in sorted(left.keys() | right.keys())
        if left.get(key, _ABSENT) != right.get(key, _ABSENT)
    ]


def known_differences(a: Signature, b: Signature) -> list[str]:
    """Return a phrase per protocol part that both have and that differs; imported Records have few parts."""
    left, right = flat(a.protocol), flat(b.protocol)
    both = (key for key in left if key in right and key != "imported" and left[key] != right[key])
    return [f"{key}: {left[key]} against {right[key]}" for key in sorted(both)]


_ABSENT = object()


def flat(tree: Mapping[str, JsonValue], prefix: str = "") -> dict[str, JsonValue]:
    """Return the leaves of a nested table by dotted names: ``data.images``."""
    leaves: dict[str, JsonValue] = {}
    for key, value in tree.items():
        leaves |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return leaves
