"""Images per second of ViT-L-14 on a GPU: cocabench from files, clip_benchmark's way, and the bare forward pass.

python -m benchmarks images --device cuda [--json] [--model ViT-L-14] [--images 2048] [--size 400] [--workers 2,4,8]

Run by name only, since it needs a GPU. The images are noise, written as JPEG once per run. theirs is the image half of
clip_benchmark.metrics.zeroshot_retrieval.evaluate under its own autocast, in batches of 64 from a DataLoader with as
many workers. ``of_bare`` in the JSON is our rate by that of the forward pass alone on resident pixels.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.sides import Options, in_words, peak_mib, reset_peak, row
from cocabench.core.helpers import cores

BATCH = 256
WORKERS = max(1, cores() - 1)


def main() -> None:
    """Measure the three in turns, in one process: a GPU is not shared well."""
    options = _options()
    with tempfile.TemporaryDirectory() as folder:
        files = write_images(Path(folder), options.images, options.size)
        if options.workers:
            print(json.dumps(_by_workers(files, options)))
            return
        sides = {"ours": _ours(files, options, WORKERS), "theirs": _theirs(files, options), "bare": _bare(options)}
        runs = {name: [_timed(work) for _ in range(options.repeats)] for name, work in sides.items()}
    found = {name: _summary(seconds, options.images) for name, seconds in runs.items()}
    what = f"{options.images} JPEGs through {options.model}:random, {options.precision}, {options.device}"
    report = row("images", what, "clip_benchmark's loop over the same files", 1, found["ours"], found["theirs"])
    report["bare"] = found["bare"]
    report["of_bare"] = round(found["bare"]["median_s"] / found["ours"]["median_s"], 3)
    if not options.json:
        rates = ", ".join(f"{name} {side['images_per_s']:.0f}" for name, side in found.items())
        print(
            f"{in_words(report)}\n  images/s: {rates}; {report['of_bare']:.0%} of the bare forward pass (wanted: 85 %)"
        )
    print(json.dumps(report))


def _options() -> Options:
    import argparse

    parser = argparse.ArgumentParser(prog="benchmarks images", description=__doc__.split("\n\n")[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--model", default="ViT-L-14")
    parser.add_argument("--precision", default="bf16")
    parser.add_argument("--images", type=int, default=2048)
    parser.add_argument("--size", type=int, default=400)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--workers", help="measure our side alone, with each of these numbers: 2,4,8")
    return parser.parse_args()


def _by_workers(files: list[Path], options: Options) -> dict[str, Any]:
    """Return our images per second by the number of data workers."""
    found = {}
    for n in map(int, options.workers.split(",")):
        work = _ours(files, options, n)
        found[n] = _summary([_timed(work) for _ in range(options.repeats)], options.images)["images_per_s"]
    return {
        "name": "images",
        "what": f"{options.model}:random, {options.precision}, {options.device}",
        "by_workers": found,
    }


def write_images(folder: Path, n: int, size: int) -> list[Path]:
    """Write smooth noise, which decodes about as fast as photographs do."""
    rng, files = np.random.default_rng(0), []
    for i in range(n):
        small = Image.fromarray(rng.integers(0, 255, (size // 8, size // 8, 3), dtype=np.uint8))
        files.append(folder / f"{i}.jpg")
        small.resize((size, size)).save(files[-1], quality=90)
    return files


def _plan(options: Options) -> Any:
    from cocabench.specs.registry import model_sources
    from cocabench.specs.spec import parse_models

    (plan,) = model_sources(parse_models(options.model if "/" in options.model else f"{options.model}:random@0"))
    return plan


def _ours(files: list[Path], options: Options, workers: int) -> Callable[[], Any]:
    from cocabench.data.images import FileImage
    from cocabench.models.hardware import hardware

    chosen = hardware(device=options.device, precision=options.precision, batch_size=BATCH, workers=workers)
    model = _plan(options).load(chosen)
    return lambda: model.encode_images([FileImage(path) for path in files])


def _theirs(files: list[Path], options: Options) -> Callable[[], Any]:
    from cocabench.models.open_clip.build import build_network, build_transform

    net = build_network(_plan(options))
    transform = build_transform(net.visual.preprocess_cfg)
    net = net.to(options.device)

    class Files(torch.utils.data.Dataset[torch.Tensor]):
        def __len__(self) -> int:
            return len(files)

        def __getitem__(self, i: int) -> torch.Tensor:
            return transform(Image.open(files[i]))

    def work() -> None:
        for pixels in torch.utils.data.DataLoader(Files(), batch_size=64, num_workers=WORKERS):
            with torch.no_grad(), torch.autocast(options.device):
                torch.nn.functional.normalize(net.encode_image(pixels.to(options.device)), dim=-1).cpu()

    return work


def _bare(options: Options) -> Callable[[], Any]:
    from cocabench.models.contexts import in_precision
    from cocabench.models.hardware import hardware
    from cocabench.models.open_clip.build import build_network

    net = build_network(_plan(options)).to(options.device)
    size = net.visual.image_size[0] if isinstance(net.visual.image_size, tuple) else net.visual.image_size
    pixels = torch.randn(BATCH, 3, size, size, device=options.device)
    chosen = hardware(device=options.device, precision=options.precision)

    def work() -> None:
        with in_precision(chosen):
            for start in range(0, options.images, BATCH):
                net.encode_image(pixels[: options.images - start])
        if options.device.startswith("cuda"):
            torch.cuda.synchronize()

    return work


def _timed(work: Callable[[], Any]) -> tuple[float, float]:
    reset_peak()
    started = time.perf_counter()
    work()
    return time.perf_counter() - started, peak_mib()


def _summary(runs: list[tuple[float, float]], images: int) -> dict[str, Any]:
    """Leave the first run out, in which kernels are chosen, where there are more."""
    median = statistics.median(seconds for seconds, _ in runs[1:] or runs)
    return {
        "median_s": round(median, 4),
        "peak_mib": max(peak for _, peak in runs),
        "images_per_s": round(images / median, 1),
    }


if __name__ == "__main__":
    main()
