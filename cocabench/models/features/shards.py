"""Shards: files of float32 rows, end to end, that are only ever appended to.

A row counts when the index names it with its checksum; what an interrupted writer left behind the last such row is
written over by the next one. Nothing is synced to the disk: what a power cut tears shows in the checksums.
"""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cocabench.core.types import Features

DTYPE = np.dtype("<f4")


def checksums(rows: Features) -> list[int]:
    """Return the CRC-32 of each row of rows (k, d)."""
    return [zlib.crc32(row) for row in np.ascontiguousarray(rows, DTYPE)]


def append(path: Path, at: int, rows: Features) -> None:
    """Write rows (k, d) as the shard's rows ``at`` to ``at + k``, whatever lies there. Makes the file if need be."""
    path.touch()
    with path.open("r+b") as file:
        file.seek(at * rows.shape[1] * DTYPE.itemsize)
        file.write(np.ascontiguousarray(rows, DTYPE).tobytes())


def read(path: Path, width: int, at: NDArray[np.int64], sums: NDArray[np.int64]) -> tuple[Features, NDArray[np.bool_]]:
    """Return the rows (k, width) at the positions ``at`` (k,), and which of them are whole by their checksums (k,).

    A file that is gone or too short has no whole rows there; the others are read through a memory map.
    """
    rows = np.zeros((len(at), width), DTYPE)
    try:
        whole = path.stat().st_size // (width * DTYPE.itemsize)
        table = np.memmap(path, DTYPE, mode="r", shape=(whole, width)) if whole else rows[:0]
    except FileNotFoundError:
        whole, table = 0, rows[:0]
    there = at < whole
    rows[there] = table[at[there]]
    there &= np.array(checksums(rows), np.int64) == sums
    return rows.astype(np.float32, copy=False), there
