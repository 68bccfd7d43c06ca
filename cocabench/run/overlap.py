"""Find the images of tasks that are near-duplicates of training images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cocabench.core.errors import UsageError
from cocabench.core.types import Cache, Progress, silent
from cocabench.data import overlap as images
from cocabench.data.base import fingerprint
from cocabench.results.overlap import Match, Overlap, TaskOverlap
from cocabench.run.prepare import Settings, prepare
from cocabench.specs.registry import Task


def find(
    train: Sequence[str],
    tasks: Sequence[Task],
    data_root: Path,
    distance: int,
    cache: Cache,
    progress: Progress = silent,
) -> Overlap:
    """Return which images of tasks have a training image within so many bits. train: see ``training_images``.

    Of an example with several images the nearest counts. UsageError for a distance that any two images have.
    """
    method = images.method()
    if distance >= images.BITS // 2:
        wanted = f"fewer than {images.BITS // 2}, in which unrelated images differ"
        raise UsageError("--distance", f"got {distance}", wanted=wanted)
    trained = images.training_images(train)
    others = images.hashed([one.image for one in trained], cache, progress)
    found = {}
    for task in tasks:
        data = prepare(task, Settings(data_root=data_root), modes={})
        examples = data.dataset.examples
        owner = [example.id for example in examples for _ in example.images]
        own = images.hashed([image for example in examples for image in example.images], cache, progress)
        near = images.nearest(own.hashes, others.hashes, distance)
        matches: dict[str, Match] = {}
        for i in np.argsort(near.bits, kind="stable"):
            name = owner[own.kept[near.own[i]]]
            matches.setdefault(name, Match(train=trained[others.kept[near.other[i]]].name, bits=int(near.bits[i])))
        found[task.name] = TaskOverlap(
            images=len(examples),
            data=str(fingerprint(data.dataset)["hash"]),
            rows=data.rows(),
            pictures_by_id=data.pictures(cache).by_id,
            overlap=dict(sorted(matches.items())),
        )
    return Overlap(
        hash=method,
        distance=distance,
        train=tuple(train),
        train_images=len(others.kept),
        unreadable=len(trained) - len(others.kept),
        tasks=found,
    )
