"""Where the cache of features is, and how it is opened: in the user's cache folder, or for one run only."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from cocabench.core import cachedir
from cocabench.core.errors import ResultsError
from cocabench.core.temporary import temporary_folder
from cocabench.models.features import index
from cocabench.models.features.cache import TROUBLE, Cache


def folder() -> Path:
    """Return the folder of the cached features; nothing is made."""
    return cachedir.location() / "features"


def limit() -> int:
    """Return the most bytes that the features may take."""
    return int(cachedir.limit() * (1 - cachedir.SCORES_SHARE))


@contextmanager
def open_cache(where: Path | None, tell: Callable[[str], None]) -> Iterator[Cache]:
    """Open the cache in a folder, made if need be; None: a cache for this run only.

    So is that of a folder that cannot be written to, and tell is told. An index that is broken is begun anew.
    """
    troubles = []
    with ExitStack() as stack:
        if where is not None:
            try:
                _make(where, tell)
            except TROUBLE as error:
                troubles.append(f"{where}: cannot be written to ({error}); features are kept for this run only")
                tell(troubles[0])
                where = None
        if where is None:
            where = stack.enter_context(temporary_folder("cocabench-features-"))
            _make(where, tell)
        yield Cache(where, limit(), tell, troubles=troubles)


def _make(where: Path, tell: Callable[[str], None]) -> None:
    where.mkdir(parents=True, exist_ok=True)
    try:
        index.make(where / index.NAME)
    except sqlite3.OperationalError:
        raise
    except sqlite3.DatabaseError as error:
        tell(f"{where / index.NAME}: broken ({error}); the cache of features is begun anew")
        clear(where)
        index.make(where / index.NAME)
    _sweep(where)


def _sweep(where: Path) -> None:
    """Remove the shards that no index names: a kill left them. Under the lock nobody is about to name one."""
    with index.opened(where / index.NAME, write=True) as database:
        named = index.shard_ids(database)
        for path in where.glob("*.f32"):
            if int(path.stem) not in named:
                path.unlink(missing_ok=True)


def existing(where: Path) -> Cache | None:
    """Return the cache of a folder to look at, None where there is none; ResultsError when it cannot be read."""

    def unreadable(told: str) -> None:
        raise ResultsError(str(where), "not readable as a cache", fix="`cocabench cache clear` removes it")

    return Cache(where, limit(), unreadable) if (where / index.NAME).is_file() else None


def clear(where: Path) -> int:
    """Remove a cache of features and return how many bytes it had. Processes that use it go on without it."""
    files = [path for path in where.glob("*") if path.suffix == ".f32" or path.name.startswith(index.NAME)]
    size = sum(path.stat().st_size for path in files)
    for path in files:
        path.unlink(missing_ok=True)
    return size
