"""Two small models with the same preprocessing on the same images: read once, against read by each.

python -m benchmarks shared [--json] [--images 400] [--size 400]

Both sides decode in the process that computes, in batches of 32, with nothing cached; features must be equal to the
bit. Timed are the models' ``encode_images``, not their loading.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from benchmarks import small_set
from benchmarks.images import write_images
from benchmarks.sides import Options, Row, Work


def ours(options: Options) -> Work:
    """The second model takes the first one's pixels."""
    from cocabench.core.cache import MemoryCache
    from cocabench.models.shelf import shelf

    both = _prepared(options)

    def work() -> Any:
        with shelf(MemoryCache()) as pixels:
            return both(pixels.batches)

    return work


def theirs(options: Options) -> Work:
    """Each model reads."""
    from cocabench.models.loading import batches

    both = _prepared(options)
    return lambda: both(batches)


def _prepared(options: Options) -> Callable[[Any], Any]:
    from cocabench.data.images import FileImage
    from cocabench.models.hardware import hardware

    here = hardware(device="cpu", precision="fp32", workers=0)
    models = [source.load(here) for source in _sources()]
    images = [FileImage(path) for path in write_images(small_set.folder(), options.images, options.size)]
    for model in models:
        model.encode_images(images[:32])

    def both(reader: Any) -> Any:
        for model in models:
            model.reader = reader
        return np.concatenate([model.encode_images(images).rows for model in models])

    return both


def _sources() -> Sequence[Any]:
    from cocabench.specs.registry import model_sources
    from cocabench.specs.spec import parse_models

    return model_sources(parse_models("demo/coca,demo/coca-captioner"))


if __name__ == "__main__":
    Row(
        name="shared",
        what="features of {images} JPEGs of {size} x {size} by demo/coca and demo/coca-captioner, fp32",
        against="the same without sharing pixels",
        target=1.7,
        ours=ours,
        theirs=theirs,
        tolerance=0.0,
        arguments={"--images": 400, "--size": 400},
    ).main()
