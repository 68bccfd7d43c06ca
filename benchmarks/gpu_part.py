"""Parts of ``python -m benchmarks gpu`` that no other row measures.

python -m benchmarks gpu-part agreement|tests|training|feeding|ranks [--device cuda] [--small] [--images N]

agreement: the demo's features and captions in each precision against the CPU's in fp32. tests: ``pytest -m gpu``.
training: forward, loss, backward and AdamW's step of CoCa and CLIP L/14, bf16, random pixels and tokens on the device;
``coca_over_clip`` is the ratio of their times. feeding: what keeps a device busy, seconds with and without: features
read back one batch late, casts of weights kept between batches, channels_last; and whether features are equal to the
bit. ranks: of retrieval both ways, on the device and on the CPU alone: whether they are equal, and the share of
scores that the CPU recomputed (--images: of so many); ``alone_s`` is the device's time at the whole size of 50,000
images and 250,000 texts. --small: the demo's networks and few images, for a CPU.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from benchmarks.sides import ROOT


def agreement(options: argparse.Namespace) -> dict[str, Any]:
    """Return each deviation from the CPU with what is allowed, and whether all are within it."""
    from cocabench.models.smoke import deviations

    few = {"images": 4, "precisions": ("fp32", "bf16")} if options.small else {}
    found = list(deviations(options.device, **few))
    rows = {one.name: {"found": one.found, "allowed": one.allowed} for one in found}
    return {"within": all(one.found <= one.allowed for one in found), "deviations": rows}


def tests(options: argparse.Namespace) -> dict[str, Any]:
    """Run the tests that need a GPU; RuntimeError where one fails."""
    order = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "gpu", "tests/test_gpu.py"]
    more = [] if options.small else ["tests/kinds/test_efficiency.py"]
    done = subprocess.run([*order, *more], cwd=ROOT, check=False, capture_output=True, text=True)
    said = done.stdout.strip().splitlines()[-1:] or [done.stderr[-200:]]
    if done.returncode:
        raise SystemExit(f"pytest -m gpu: {said[0]}")
    counts = {what: int(n) for n, what in re.findall(r"(\d+) (passed|skipped)", said[0])}
    return {"passed": 0, "skipped": 0, **counts}


def training(options: argparse.Namespace) -> dict[str, Any]:
    """Return the seconds of a training step of each, medians, and their ratio."""
    random = ("ViT-L-14:random@0", "coca_ViT-L-14:random@0")
    names, batch, repeats = (("demo/clip", "demo/coca"), 2, 1) if options.small else (random, 64, 5)
    steps = {name: _step(name, batch, repeats, options.device) for name in names}
    clip, coca = steps.values()
    return {"batch": batch, "seconds": steps, "coca_over_clip": round(coca / clip, 2)}


def _step(name: str, batch: int, repeats: int, device: str) -> float:
    import torch

    from benchmarks.captioning_curves import seconds
    from cocabench.models.open_clip.build import build_network
    from cocabench.models.training import batch_for, loss_of, tokens_of, total_loss
    from cocabench.specs.registry import model_sources
    from cocabench.specs.spec import parse_models

    (source,) = model_sources(parse_models(name))
    net = build_network(source).to(device).train()
    images, texts = batch_for(net, batch, device, tokens=tokens_of(net))
    loss, optimiser = loss_of(net), torch.optim.AdamW(net.parameters(), lr=1e-5)

    def step() -> None:
        with torch.autocast(torch.device(device).type, torch.bfloat16):
            total = total_loss(net, images, texts, loss)
        total.backward()
        optimiser.step()
        optimiser.zero_grad()

    step()
    return round(statistics.median(seconds(step, device) for _ in range(repeats)), 4)


def feeding(options: argparse.Namespace) -> dict[str, Any]:
    """Return {what: {without, with: seconds of some batches in bf16, equal: to the bit}}."""
    random = ("ViT-B-32:random@0", "convnext_base:random@0")
    vit, convolutions = ("demo/clip", "demo/clip") if options.small else random
    size = {"batch": 2, "batches": 2, "repeats": 1} if options.small else {"batch": 256, "batches": 8, "repeats": 3}
    return {
        "read_late": _both(vit, options.device, _at_once, _one_late, **size),
        "casts_kept": _both(vit, options.device, _at_once, _with_casts, **size),
        "channels_last": _both(convolutions, options.device, _at_once, _channels_last, **size),
    }


Encode = Callable[[Any], Any]
Way = Callable[[Any, Encode, list[Any]], list[Any]]


def _both(name: str, device: str, *ways: Way, batch: int, batches: int, repeats: int) -> dict[str, Any]:
    """Measure two ways, which get the image tower, a function that asks for a batch's rows, and the batches."""
    import torch

    from benchmarks.captioning_curves import seconds
    from cocabench.models.base import OnTheWay
    from cocabench.models.contexts import in_precision
    from cocabench.models.hardware import hardware
    from cocabench.models.open_clip.build import build_network, build_transform
    from cocabench.models.pixels import split
    from cocabench.specs.registry import one_model

    chosen, net = hardware(device=device, precision="bf16"), build_network(one_model(name)).to(device)
    settings = net.visual.preprocess_cfg
    finish = split(build_transform(settings)).finish
    side = settings["size"] if isinstance(settings["size"], int) else settings["size"][0]
    pixels = [torch.randint(256, (batch, 3, side, side), dtype=torch.uint8) for _ in range(batches)]
    given = [one.pin_memory() if chosen.on_gpu else one for one in pixels]

    def ask(one: Any) -> OnTheWay:
        with in_precision(chosen):
            rows = net.encode_image(finish(one.to(device, non_blocking=True)))
        return OnTheWay(torch.nn.functional.normalize(rows.float(), dim=-1))

    found, times = [], []
    for way in ways:
        work = partial(way, net.visual, ask, given)
        found.append(torch.cat(work()))
        times.append(statistics.median(seconds(work, device) for _ in range(repeats)))
    return {"without": round(times[0], 4), "with": round(times[1], 4), "equal": bool(torch.equal(*found))}


def _at_once(_: Any, ask: Encode, batches: list[Any]) -> list[Any]:
    return [ask(one).arrived() for one in batches]


def _one_late(_: Any, ask: Encode, batches: list[Any]) -> list[Any]:
    from cocabench.models.base import one_late

    return [one.arrived() for one in one_late(map(ask, batches))]


def _with_casts(tower: Any, ask: Encode, batches: list[Any]) -> list[Any]:
    import torch

    torch.autocast_increment_nesting()
    try:
        return _at_once(tower, ask, batches)
    finally:
        if torch.autocast_decrement_nesting() == 0:
            torch.clear_autocast_cache()


def _channels_last(tower: Any, ask: Encode, batches: list[Any]) -> list[Any]:
    import torch

    tower.to(memory_format=torch.channels_last)
    return _at_once(tower, ask, batches)


def ranks(options: argparse.Namespace) -> dict[str, Any]:
    """Return the seconds of ranks on the device and on the CPU, the share recomputed, and whether ranks are equal."""
    from cocabench.metrics import matching

    matching.MIN_WORK_ON_DEVICE = 0
    images = options.images or (1000 if options.small else 20_000)
    _ranked(100, options.device)  # starts the libraries
    found, gpu, share = _ranked(images, options.device)
    alone, cpu, _ = _ranked(images, "")
    pairs = zip((*found.t2i, *found.i2t), (*alone.t2i, *alone.i2t), strict=True)
    equal = all((a == b).all() for a, b in pairs)
    whole = {} if options.small or options.images else {"alone_s": round(_ranked(50_000, options.device)[1], 2)}
    seconds = {"device_s": round(gpu, 2), "cpu_s": round(cpu, 2)}
    return {"images": images, "texts": 5 * images, **seconds, **whole, "recomputed": share, "equal": equal}


def _ranked(images: int, device: str) -> tuple[Any, float, float]:
    """Return the ranks of lifelike features, the seconds, and the share of scores recomputed; '': on the CPU alone."""
    import numpy as np

    from benchmarks.ranks import lifelike
    from cocabench.metrics.matching import rank_both_ways
    from cocabench.models.scores import ScoresOnDevice

    near = 0

    class Counted(ScoresOnDevice):
        def __call__(self, *given: Any, **options: Any) -> Any:
            nonlocal near
            found = super().__call__(*given, **options)
            near += len(found.rows.rows) + len(found.columns.rows) if found else 2 * len(given[0]) * images
            return found

    data = *lifelike(images, 5), np.arange(images).repeat(5), np.arange(5 * images)
    started = time.perf_counter()
    found = rank_both_ways(*data, device=partial(Counted, device=device) if device else None)
    return found, time.perf_counter() - started, near / (10 * images**2)


WORK: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "agreement": agreement,
    "tests": tests,
    "training": training,
    "feeding": feeding,
    "ranks": ranks,
}


def main(argv: Sequence[str] | None = None) -> None:
    """Do one part and print it as JSON."""
    parser = argparse.ArgumentParser(prog="benchmarks gpu-part", description=__doc__)
    parser.add_argument("part", choices=WORK)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--images", type=int, help="of ranks")
    options = parser.parse_args(argv)
    print(json.dumps({"name": f"gpu-part {options.part}", **WORK[options.part](options)}))


if __name__ == "__main__":
    main()
