"""Unforeseen exceptions as one line: what the system refuses, a fault of a plugin's, or one of ours."""

from __future__ import annotations

import errno
import logging
import sys
import traceback
from collections.abc import Iterator

from cocabench.core.errors import CocabenchError, UsageError, of_disk
from cocabench.specs.registry import entry_points

_NAMES = (errno.ENAMETOOLONG, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EACCES, errno.ELOOP, errno.EINVAL)
"""What the system says of a path that cannot be used."""


def surprise(where: str, error: Exception, *parts: object) -> CocabenchError:
    """Return an unexpected exception as a CocabenchError; of a bug, log the traceback.

    parts: the task's kind and loader, and the model's source, whichever may come from a plugin.
    """
    if isinstance(error, CocabenchError):
        return error
    if (known := foreseen(error, where)) is not None:
        return known
    logging.getLogger("cocabench").critical("unexpected error in %s", where, exc_info=error)
    plugin = _plugin(error, parts)
    fix = f"this is a bug of the plugin {plugin}; report it there" if plugin else "this is a bug; report the traceback"
    said = " ".join(str(error).split())[:300]
    wrapped = CocabenchError(where, f"{type(error).__name__}: {said}", fix=fix)
    wrapped.__cause__ = error
    return wrapped


def foreseen(error: Exception, where: str) -> CocabenchError | None:
    """Return what a path or this machine cannot hold as a CocabenchError, None for a bug."""
    if (full := of_disk(error)) is not None:
        place = where if full.filename is None else _shown(full.filename)
        return CocabenchError(place, (full.strerror or "not writable").lower(), fix=_FULL)
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        kind = UsageError if error.errno in _NAMES else CocabenchError
        return kind(_shown(error.filename), error.strerror.lower())
    if isinstance(error, FileNotFoundError) and str(error.strerror).startswith("No usable temporary directory"):
        return CocabenchError(where, "no folder for temporary files can be written to", fix=_FULL)
    if isinstance(error, MemoryError) or any(said in str(error) for said in _NO_MEMORY):
        return CocabenchError(where, "not enough memory", fix="use a machine with more, or less data")
    if isinstance(error, ValueError) and str(error).startswith("embedded null "):
        return UsageError(where, "a path with a NUL character")
    if isinstance(error, RuntimeError) and str(error).startswith("Symlink loop from "):
        return UsageError(str(error).partition("'")[2].rstrip("'"), "a link to itself")
    if isinstance(error, UnicodeEncodeError) and "surrogates" in error.reason:
        return UsageError(where, f"a name that is not Unicode: {error.object[:80]!r}")
    return None


_NO_MEMORY = ("can't allocate memory", "failed to map segment from shared object")
"""As torch says it of a CPU's memory, and Python of a library's."""

_FULL = "free space, or choose another --output, --cache or TMPDIR (the folder for temporary files)"


def _shown(name: object) -> str:
    text = name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)
    return text if len(text) <= 200 else f"{text[:100]}…{text[-60:]}"


def _plugin(error: BaseException, parts: tuple[object, ...]) -> str:
    """Return the plugin in whose code an error was raised, or which made one of the parts; '' if neither."""
    plugins = dict(_plugins())
    frames = [frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__)]
    made = [type(part).__module__ for part in parts]
    for module in (*reversed(frames), *made):
        if (root := str(module).partition(".")[0]) in plugins:
            return plugins[root]
    return ""


def _plugins() -> Iterator[tuple[str, str]]:
    """Yield the root package of each plugin's entry points, and the name it is installed under."""
    for group in ("kinds", "datasets", "models"):
        for point in entry_points(group, tuple(sys.path)):
            root = point.module.partition(".")[0]
            if root != "cocabench":
                yield root, point.dist.name if point.dist else root
