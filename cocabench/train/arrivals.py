"""Checkpoints as they come: each is yielded once, when it is complete."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

from cocabench.core.errors import MissingDataError
from cocabench.train.checkpoints import complete, epochs_in

STOP = "stop"
"""A file of this name in the folder ends the watching after what is there."""


def arrivals(
    folder: Path,
    *,
    timeout: float | None = None,
    interval: float = 5.0,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], object] = time.sleep,
) -> Iterator[Path]:
    """Yield the numbered checkpoints of a folder in order of epoch, those that are there first, then each that comes.

    A file counts when it is complete by its format and did not change between two looks, interval seconds apart. Ends
    timeout seconds after the last arrival, or when a file ``stop`` lies in the folder and nothing complete is left.
    The folder may be made later. MissingDataError where it ends without any checkpoint.
    """
    seen: set[Path] = set()
    before: dict[Path, tuple[int, int]] = {}
    since = clock()
    while True:
        now = {path: _state(path) for path in epochs_in(folder).values() if path not in seen}
        ready = [path for path, state in now.items() if before.get(path) == state and complete(path)]
        for path in ready:
            seen.add(path)
            yield path
            since = clock()
        before = {path: state for path, state in now.items() if path not in seen}
        over = timeout is not None and clock() - since >= timeout
        if not ready and (over or ((folder / STOP).exists() and before == now and not _coming(now))):
            break
        sleep(interval)
    if not seen:
        raise MissingDataError(
            str(folder), "no complete checkpoint came", wanted="epoch_N.pt", fix="is this the folder?"
        )


def _coming(now: dict[Path, tuple[int, int]]) -> bool:
    """Tell whether a file that is there will be complete at the next look."""
    return any(complete(path) for path in now)


def _state(path: Path) -> tuple[int, int]:
    """Return size and time of the last change; what changes is still being written."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return -1, -1
    return found.st_size, found.st_mtime_ns
