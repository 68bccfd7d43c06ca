"""Results folders of many models and tasks, made of literal outcomes: what the report's pages are looked at with."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cocabench.results.store import RecordSet, load
from tests.samples import classified

ARCHITECTURES = ("ViT-B-32", "ViT-B-16", "ViT-L-14", "ViT-H-14", "coca_ViT-B-32", "coca_ViT-L-14", "RN50", "EVA02-L-14")


def names(n: int) -> list[str]:
    """Return n model strings of several architectures and tags."""
    return [f"{ARCHITECTURES[i % 8]}:laion2b_s{10 + i}b_b{8 + i % 80}k" for i in range(n)]


def many(
    root: Path, *, models: int = 50, tasks: int = 40, images: int = 60, samples: bool = True, seed: int = 0
) -> RecordSet:
    """Write and load a results folder: the later a model, the better; tasks are between easy and hard."""
    rng = np.random.default_rng(seed)
    for t in range(tasks):
        level, images_of = rng.uniform(0.1, 0.6, 2), rng.uniform(size=images)
        for m, model in enumerate(names(models)):
            skill = level[0] + 0.35 * m / max(1, models - 1)
            hits = np.where(rng.uniform(size=images) < 0.7, images_of, rng.uniform(size=images)) < skill
            parameters = {"image_encoder": 1_000_000 * (20 + 13 * (m % 8) ** 2), "text_encoder": 60_000_000}
            classified(root, model, hits, f"vtab_task_{t:02}", samples=samples, ids=f"{t}-", parameters=parameters)
    return load(root)


def epochs(root: Path, n: int = 4) -> RecordSet:
    """Write and load a run of n checkpoints on two tasks; the last but one is the best."""
    for epoch in range(n):
        right = 20 + 15 * min(epoch, n - 2) - 5 * (epoch == n - 1)
        for task in ("cars", "pets"):
            classified(root, f"ViT-B-32:runs/x/checkpoints/epoch_{epoch}.pt", np.arange(100) < right, task)
    return load(root)
