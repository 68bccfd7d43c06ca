"""The cache's store: features written, and read in another order by another process, against a file for each.

python -m benchmarks cache-store [--json] [--rows 20000] [--width 768]

Reading is timed; the time of writing is printed too. The features must be the same to the bit.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.sides import Options, Row, Work

Write = Callable[[dict[bytes, bytes]], None]
Read = Callable[[list[bytes]], list[bytes]]


def ours(options: Options) -> Work:
    """A space of the cache on disk."""
    from cocabench.core.cache import DiskCache

    folder = Path(tempfile.mkdtemp())

    def read(keys: list[bytes]) -> list[bytes]:
        held = DiskCache(folder, 10**10).get("features", keys)
        return [held[key] for key in keys]

    return _task(options, lambda values: DiskCache(folder, 10**10).put("features", values), read)


def theirs(options: Options) -> Work:
    """A file for each feature."""
    folder = Path(tempfile.mkdtemp())

    def write(values: dict[bytes, bytes]) -> None:
        for key, value in values.items():
            (folder / key.hex()).write_bytes(value)

    return _task(options, write, lambda keys: [(folder / key.hex()).read_bytes() for key in keys])


def _task(options: Options, write: Write, read: Read) -> Work:
    from cocabench.core.cache import key_of

    draw = np.random.default_rng(0)
    rows: NDArray[Any] = draw.standard_normal((options.rows, options.width), np.float32)
    keys = [key_of(str(i)) for i in range(options.rows)]
    began = time.perf_counter()
    write({key: row.tobytes() for key, row in zip(keys, rows, strict=True)})
    print(f"{options.worker}: written in {time.perf_counter() - began:.2f} s", file=sys.stderr)
    wanted = [keys[i] for i in draw.permutation(options.rows)]
    return lambda: np.frombuffer(b"".join(read(wanted)), np.float32).reshape(rows.shape)


ROW = Row(
    name="cache-store",
    what="{rows} features of {width} numbers read from the cache in another order",
    against="a file for each",
    target=1.5,
    ours=ours,
    theirs=theirs,
    tolerance=0,
    arguments={"--rows": 20_000, "--width": 768},
)

if __name__ == "__main__":
    ROW.main()
