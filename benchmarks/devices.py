"""Several devices: images per second of two workers against one, the overhead of handing out, and a plan of many cells.

python -m benchmarks devices speed [--images 256] [--model ViT-B-32]   two workers of one thread against one
python -m benchmarks devices overhead [--workers 4] [--images 50000]   an encoder that sleeps 1/3,000 s per image
python -m benchmarks devices plan [--models 500] [--tasks 40]          a plan of weights that were never hashed

The last line is JSON. speed: the same Crew and Pool that ``cocabench run --devices`` uses; starting Ray is not timed.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

IMAGES_PER_S = 3000


def speed(options: argparse.Namespace) -> dict[str, Any]:
    """Encode the same images with one worker and with two."""
    from benchmarks import small_set
    from cocabench.specs.registry import find_tasks, model_sources
    from cocabench.specs.spec import parse_models

    root = small_set.write(small_set.folder(), options.images)
    (task,) = find_tasks([str(root / "find.toml")])
    images = [example.image for example in task.loader.build(root, download=False).examples]
    (source,) = model_sources(parse_models(f"{options.model}:random@0"))
    rates = {n: _rate(source, images, n, warm=64)[0] for n in (1, 2)}
    return {"images_per_s": rates, "ratio": rates[2] / rates[1], "cores": os.cpu_count()}


@dataclass(frozen=True)
class Sleeps:
    """A Source of a model that takes 1 / IMAGES_PER_S seconds per image, and computes nothing."""

    id: str = "sleeps"
    abilities: ClassVar[frozenset[str]] = frozenset({"encode"})
    notes: ClassVar[tuple[Any, ...]] = ()
    available: ClassVar[bool] = True
    packages: ClassVar[tuple[str, ...]] = ("torch",)
    features_version: ClassVar[int] = 1

    def signature(self) -> dict[str, Any]:
        return {"id": self.id, "weights": f"sleeps 1/{IMAGES_PER_S} s", "preprocess": "", "vocabulary": ""}

    def load(self, hardware: Any) -> Any:
        return _sleeper(self.id, hardware)


def _sleeper(name: str, hardware: Any) -> Any:
    import torch

    from cocabench.models.base import Model

    class Sleeper(Model):
        def encode_image_batch(self, pixels: Any) -> Any:
            time.sleep(len(pixels) / IMAGES_PER_S)
            return torch.ones(len(pixels), 512)

    return Sleeper(name, _nothing, hardware)


def _nothing(image: Any) -> Any:
    import torch

    return torch.zeros(1)


def overhead(options: argparse.Namespace) -> dict[str, Any]:
    """Return wall time and the driver's and workers' CPU time for a model that only sleeps."""
    from cocabench.data.builtin import Synthetic

    data = Synthetic(images=8, size=8).build(Path(), download=False)
    images = [data.examples[i % 8].image for i in range(options.images)]
    rate, seconds, cpu = _rate(Sleeps(), images, options.workers, warm=512, batch_size=256)
    wanted = 1.03 * options.images / (IMAGES_PER_S * options.workers) + 2
    return {"seconds": seconds, "at_most": wanted, "images_per_s": rate, "cpu_s_per_1000": 1000 * cpu / options.images}


def _rate(
    source: Any, images: Sequence[Any], n: int, *, warm: int, batch_size: int | None = None
) -> tuple[float, float, float]:
    """Return images per second, seconds, and CPU seconds of this process and the workers; nothing is cached."""
    from cocabench.core.cache import MemoryCache
    from cocabench.run.cluster import Chosen, imported_ray, started_here
    from cocabench.run.devices import Crew
    from cocabench.run.prepare import Settings
    from cocabench.run.workers import Pool

    settings = Settings(device="cpu", precision="fp32", workers=0, batch_size=batch_size)
    chosen, ray = Chosen("cpu", n, 1), imported_ray()
    with started_here(ray, chosen):
        crew = Crew(ray, chosen, settings, print)
        while len(crew.alive) < n:
            crew.pump()
        (described,) = crew.map("describe", iter([(source, None)]))
        pool = Pool(source, described, crew.map, chosen.hardware(settings), crew.wait_for_one(), MemoryCache())
        pool.encode_images(list(images[: warm * n]))
        before, start = _cpu(ray, crew), time.perf_counter()
        pool.encode_images(images)
        seconds = time.perf_counter() - start
        return len(images) / seconds, seconds, _cpu(ray, crew) - before


def _cpu(ray: Any, crew: Any) -> float:
    """Return the CPU seconds of this process and its workers so far."""
    return time.process_time() + sum(ray.get([member.actor.cpu_seconds.remote() for member in crew.members]))


def plan(options: argparse.Namespace) -> dict[str, Any]:
    """Plan checkpoints that were never hashed (sparse files) on tasks whose data are known."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tasks = list(_tasks(folder, options.tasks))
        weights = list(_checkpoints(folder, options.models))
        models = ",".join(f"ViT-L-14:{path}" for path in weights)
        words = ["run", "--model", models, "--tasks", ",".join(map(str, tasks))]
        words += ["--data-root", str(folder), "--output", str(folder / "results"), "--dry-run", "--json"]
        env = {**os.environ, "COCABENCH_CACHE": str(folder / "cache")}
        for _ in range(2):  # the first call reads the images
            start = time.perf_counter()
            done = subprocess.run([sys.executable, "-m", "cocabench", *words], env=env, check=True, capture_output=True)
            seconds = time.perf_counter() - start
        table = json.loads(done.stdout)
        steps = [step for cell in table["cells"] for step in cell["steps"]]
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu, peak = (used.ru_utime + used.ru_stime) / 2, used.ru_maxrss / 1024
        return {"seconds": seconds, "cpu_s": cpu, "cells": len(table["cells"]), "steps": len(steps), "peak_mb": peak}


def _tasks(folder: Path, n: int) -> Iterator[Path]:
    from PIL import Image

    (folder / "images").mkdir()
    for i in range(20):
        Image.new("RGB", (8, 8), (i, i, i)).save(folder / "images" / f"{i}.png")
    rows = "\n".join(f"images/{i}.png\tnumber {i}" for i in range(20))
    (folder / "captions.tsv").write_text(f"filepath\ttitle\n{rows}\n")
    for k in range(n):
        path = folder / f"task{k}.toml"
        path.write_text(
            f'name = "task{k}"\nversion = 1\nevaluator = "retrieval"\nsummary = "s"\nprimary = "t2i_recall@1"\n'
            'groups = ["g"]\n[data]\nloader = "tsv"\npath = "captions.tsv"\n[params]\nks = [1]\n'
        )
        yield path


def _checkpoints(folder: Path, n: int) -> Iterator[Path]:
    for i in range(n):
        path = folder / f"epoch_{i}.pt"
        with path.open("wb") as file:
            file.truncate(1_700_000_000)  # sparse: as large as a ViT-L, and no blocks on the disk
        yield path


WORK: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {"speed": speed, "overhead": overhead, "plan": plan}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=WORK)
    parser.add_argument("--images", type=int)
    parser.add_argument("--model", default="ViT-B-32")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--models", type=int, default=500)
    parser.add_argument("--tasks", type=int, default=40)
    options = parser.parse_args()
    options.images = options.images or {"speed": 256, "overhead": 50_000}.get(options.what, 0)
    print(json.dumps({"name": f"devices {options.what}", **WORK[options.what](options)}))


if __name__ == "__main__":
    main()
