"""recall@1,5,10 of both directions from features, against clip_benchmark's zeroshot_retrieval.evaluate.

python -m benchmarks recall [--json] [--images 5000] [--texts 5]

5 texts per image is COCO's size in the variant that keeps the first five captions. clip_benchmark's function is called
unchanged, with a model that returns the given features, in its usual batches of 64 images.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.sides import Options, Row, Work

KS = (1, 5, 10)
WIDTH = 512


def features(options: Options) -> tuple[np.ndarray, np.ndarray]:
    """Return unit rows of images (i, d) and of their texts (5 i, d), right about half of the time."""
    rng = np.random.default_rng(0)
    images = unit(rng.standard_normal((options.images, WIDTH), dtype=np.float32))
    texts = rng.standard_normal((options.images * options.texts, WIDTH), dtype=np.float32)
    texts += images.repeat(options.texts, axis=0) * np.float32(4)
    return images, unit(texts)


def unit(rows: np.ndarray) -> np.ndarray:
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


def ours(options: Options) -> Work:
    """Ranks of both directions, and the recalls that follow."""
    from cocabench.metrics.matching import rank_both_ways
    from cocabench.metrics.ranking import hits_at

    images, texts = features(options)
    owner = np.arange(len(images)).repeat(options.texts)

    def work() -> list[float]:
        found = rank_both_ways(images, texts, owner, np.arange(len(texts)))
        return [hits_at(ranks, k).mean() for k in KS for ranks in (found.t2i, found.i2t)]

    return work


def theirs(options: Options) -> Work:
    """clip_benchmark's evaluate, whole."""
    import torch
    from clip_benchmark.metrics import zeroshot_retrieval

    torch.set_num_threads(options.threads)
    images, texts = (torch.from_numpy(rows) for rows in features(options))

    class Handed:
        encode_image = encode_text = staticmethod(lambda rows: rows)

    batches = [
        (images[start : start + 64], [range(i * options.texts, (i + 1) * options.texts) for i in range(start, end)])
        for start in range(0, len(images), 64)
        for end in [min(start + 64, len(images))]
    ]

    def work() -> list[Any]:
        found = zeroshot_retrieval.evaluate(
            Handed(), batches, lambda ids: texts[ids], "cpu", amp=False, recall_k_list=KS
        )
        return [found[f"{way}_retrieval_recall@{k}"] for k in KS for way in ("image", "text")]

    return work


ROW = Row(
    name="recall",
    what="recall@1,5,10 both ways, {images} images x {texts} texts each, 512-d",
    against="clip_benchmark.metrics.zeroshot_retrieval.evaluate",
    target=20,
    ours=ours,
    theirs=theirs,
    tolerance=2e-4,
    arguments={"--images": 5000, "--texts": 5},
)

if __name__ == "__main__":
    ROW.main()
