"""Ranks of both directions over a large gallery, against the matrix product alone.

python -m benchmarks ranks [--json] [--images 50000] [--texts 5]

The ratio is the product's time divided by ours: at 1 ranking would be free. The peer multiplies chunk by chunk and
keeps no score; a full matrix would take 50 GB.
"""

from __future__ import annotations

import numpy as np

from benchmarks.recall import features
from benchmarks.sides import Options, Row, Work

CHUNK = 2048


def ours(options: Options) -> Work:
    """Ranks of both directions, with five wrong neighbours each."""
    from cocabench.metrics.matching import rank_both_ways

    images, texts = features(options)
    owner = np.arange(len(images)).repeat(options.texts)

    def work() -> None:
        rank_both_ways(images, texts, owner, np.arange(len(texts)))

    return work


def theirs(options: Options) -> Work:
    """The product of all features in numpy, as many threads, nothing kept."""
    images, texts = features(options)

    def work() -> None:
        out = np.empty((CHUNK, CHUNK), np.float32)
        for i in range(0, len(texts), CHUNK):
            for j in range(0, len(images), CHUNK):
                rows, columns = texts[i : i + CHUNK], images[j : j + CHUNK]
                np.matmul(rows, columns.T, out=out[: len(rows), : len(columns)])

    return work


ROW = Row(
    name="ranks",
    what="ranks both ways, {images} images x {texts} texts each, 512-d",
    against="the matrix product alone (numpy)",
    target=round(1 / 1.5, 2),
    ours=ours,
    theirs=theirs,
    arguments={"--images": 50_000, "--texts": 5},
)

if __name__ == "__main__":
    ROW.main()
