"""Checkpoint files that may still be written: which are complete, and each as it comes."""

from __future__ import annotations

import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

from cocabench.core.errors import MissingDataError
from cocabench.core.files import open_regular, parse_json
from cocabench.results.epochs import epoch_of


def complete(path: Path) -> bool:
    """Tell whether a checkpoint is all there, by its format: a zip's directory at the end, safetensors' lengths.

    Other files (torch's old format) are taken as they are; who waits for them must see that they no longer grow.
    """
    try:
        if path.suffix == ".safetensors":
            return _safetensors_complete(path)
        with open_regular(path) as file:
            is_zip = file.read(2) == b"PK"
        return zipfile.is_zipfile(path) if is_zip else path.stat().st_size > 0
    except OSError:
        return False


def _safetensors_complete(path: Path) -> bool:
    """safetensors: 8 bytes that tell the header's length, the header, and as many bytes as it says."""
    with open_regular(path) as file:
        length = int.from_bytes(file.read(8), "little")
        head = file.read(length) if length < path.stat().st_size else b""
    if len(head) < length or not head:
        return False
    try:
        ends = [entry["data_offsets"][1] for key, entry in parse_json(head).items() if key != "__metadata__"]
    except (ValueError, KeyError, TypeError):
        return False
    return path.stat().st_size == 8 + length + max(ends, default=0)


def epochs_in(folder: Path) -> dict[int, Path]:
    """Return the .pt checkpoints of a training by epoch, in order."""
    points = {path: epoch_of(str(path)) for path in folder.glob("*.pt")}
    return dict(sorted((point.number, path) for path, point in points.items() if point))


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
