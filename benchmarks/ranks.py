"""Ranks of both directions over a large gallery, against the matrix product alone.

python -m benchmarks ranks [--json] [--images 50000] [--texts 5]

The ratio is the product's time divided by ours: at 1 ranking would be free. The peer multiplies chunk by chunk and
keeps no score; a full matrix would take 50 GB.
"""

from __future__ import annotations

import numpy as np

from benchmarks.recall import WIDTH, features, unit
from benchmarks.sides import Options, Row, Work

CHUNK = 2048


def lifelike(images: int, texts: int) -> tuple[np.ndarray, np.ndarray]:
    """Return unit rows of images (i, 512) and of their texts (i texts, 512) whose scores lie as CLIP's do.

    Directions of decreasing weight, and a cone for images and one for texts: cosines of pairs are 0.42 ± 0.08, all
    others 0.24 ± 0.09. At 5,000 images recall@1 is 0.24 and 0.54, so that thresholds stand among the others' scores.
    """
    rng = np.random.default_rng(0)
    weights = np.arange(1, WIDTH + 1, dtype=np.float32) ** -0.5
    first = rng.standard_normal((images, WIDTH), dtype=np.float32) * weights
    second = rng.standard_normal((images * texts, WIDTH), dtype=np.float32) * weights * np.float32(2.5)
    second += first.repeat(texts, axis=0)
    cones = unit(rng.standard_normal((2, WIDTH), dtype=np.float32))
    return unit(unit(first) + cones[0]), unit(unit(second) + unit(cones[1:] + cones[0] / 2)[0])


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
