"""Reading images with --resize fast against the own resize: processor time of the loader, and which pixels differ.

python -m benchmarks resize [--json] [--folder DIR] [--images 200] [--size 400] [--model ViT-B-32:random@0]

One process, one thread, both sides in turns: decoding, resizing, cropping and hashing in batches, no model. --folder:
photographs of one's own, instead of JPEGs of noise. ``moved`` in the JSON: the share of pixel values by their change.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.images import write_images
from benchmarks.sides import Options, in_words, peak_mib, reset_peak, row

SIDES = {"ours": "fast", "theirs": "own"}
TARGET = 2.0


def main() -> None:
    """Measure both sides in turns and compare their pixels."""
    options = _options()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        made = Path(options.folder) if options.folder else Path(folder)
        files = sorted(made.iterdir()) if options.folder else write_images(made, options.images, options.size)
        runs: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
        pixels: dict[str, Any] = {}
        for _ in range(options.repeats):
            for side, resize in SIDES.items():
                reset_peak()
                started = time.process_time()
                pixels[side] = _read(files, options.model, resize)
                runs[side].append({"cpu_s": time.process_time() - started, "peak_mib": peak_mib()})
    found = {side: _summary(own, len(files)) for side, own in runs.items()}
    what = f"{len(files)} images prepared for {options.model} with --resize fast, processor time"
    report = row("resize", what, "the own resize", TARGET, found["ours"], found["theirs"])
    report["moved"] = _moved(pixels["ours"], pixels["theirs"])
    if not options.json:
        rates = ", ".join(f"{SIDES[side]} {one['images_per_s']:.0f}" for side, one in found.items())
        print(f"{in_words(report)}\n  images/s of a core: {rates}; values that differ, by how much: {report['moved']}")
    print(json.dumps(report))


def _options() -> Options:
    import argparse

    parser = argparse.ArgumentParser(prog="benchmarks resize", description=__doc__.split("\n\n")[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--folder", default="", help="photographs, instead of JPEGs of noise")
    parser.add_argument("--model", default="ViT-B-32:random@0", help="whose preprocessing")
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--size", type=int, default=400)
    parser.add_argument("--repeats", type=int, default=3)
    return parser.parse_args()


def _read(files: list[Path], model: str, resize: str) -> list[Any]:
    from cocabench.data.images import FileImage
    from cocabench.models.loading import batches
    from cocabench.models.open_clip.build import build_transform
    from cocabench.specs.registry import one_model

    transform = build_transform(one_model(model).preprocess, resize)  # type: ignore[attr-defined]
    images = [FileImage(path) for path in files]
    return [batch.pixels for batch in batches(images, transform, batch_size=32, workers=0, skip_bad=False)]


def _moved(fast: list[Any], own: list[Any]) -> dict[str, float]:
    """Return {difference: share of all values}, most frequent first, without those that are equal."""
    counts: Counter[int] = Counter()
    for a, b in zip(fast, own, strict=True):
        values, n = np.unique(np.abs(np.asarray(a, np.int16) - np.asarray(b, np.int16)), return_counts=True)
        counts.update(dict(zip(values.tolist(), n.tolist(), strict=True)))
    total = counts.total()
    return {str(by): float(f"{n / total:.3g}") for by, n in counts.most_common() if by}


def _summary(runs: list[dict[str, float]], images: int) -> dict[str, Any]:
    """Leave the first run out, in which modules are imported, where there are more."""
    median = statistics.median(run["cpu_s"] for run in runs[1:] or runs)
    return {
        "median_s": round(median, 4),
        "peak_mib": max(run["peak_mib"] for run in runs),
        "images_per_s": round(images / median, 1),
    }


if __name__ == "__main__":
    main()
