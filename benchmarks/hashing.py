"""Hashing image files and pixels against SHA-256 alone, on the same bytes in turns: processor time of each, in µs.

python -m benchmarks hashing [--json] [--repeats 5]

Files of random bytes, each read once before; pixels as ViT-B-32's preprocessing gives them. The last line is JSON.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

FILES = {"a file of 10 KB": (10_000, 3000), "a file of 100 KB": (100_000, 1000)}
"""Bytes of each file, and how many."""

IMAGES = 200


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="benchmarks hashing", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--json", action="store_true", help="print only the JSON line")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    found = {name: _files(*size, options.repeats) for name, size in FILES.items()}
    found["the pixels of an image"] = _pixels(options.repeats)
    if not options.json:
        for name, (ours, alone) in found.items():
            print(f"{name}: {ours:.0f} µs; SHA-256 alone: {alone:.0f} µs")
    print(json.dumps({"name": "hashing", "us": found}))


def _files(size: int, n: int, repeats: int) -> tuple[float, float]:
    from cocabench.core.cache import MemoryCache
    from cocabench.data.images import FileImage
    from cocabench.models.contents import of_images

    contents = [np.random.default_rng(i).bytes(size) for i in range(n)]
    with tempfile.TemporaryDirectory() as folder:
        images = [FileImage(Path(folder, f"{i}.jpg")) for i in range(n)]
        for image, content in zip(images, contents, strict=True):
            image.path.write_bytes(content)

        def ours() -> None:
            of_images(images, MemoryCache())

        return _per_item(ours, lambda: [hashlib.sha256(content).digest() for content in contents], n, repeats)


def _pixels(repeats: int) -> tuple[float, float]:
    from cocabench.models.hardware import hardware
    from cocabench.models.pixels import split
    from cocabench.specs.registry import one_model

    source: Any = one_model("ViT-B-32:random@0")
    parts = split(source.load(hardware(device="cpu")).transform)
    rng = np.random.default_rng(0)
    images = [torch.from_numpy(rng.integers(0, 256, (3, 224, 224), dtype=np.uint8)) for _ in range(IMAGES)]
    raw = [parts.finish(one[None])[0].numpy().tobytes() for one in images]
    ours, alone = (lambda: [parts.hash(one) for one in images], lambda: [hashlib.sha256(one).digest() for one in raw])
    return _per_item(ours, alone, IMAGES, repeats)


def _per_item(ours: Callable[[], object], alone: Callable[[], object], n: int, repeats: int) -> tuple[float, float]:
    """Return the µs of processor time per item, the least of the repeats, of each."""
    times = [[_seconds(work) for work in (ours, alone)] for _ in range(repeats)]
    return min(one for one, _ in times) * 1e6 / n, min(other for _, other in times) * 1e6 / n


def _seconds(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


if __name__ == "__main__":
    main()
