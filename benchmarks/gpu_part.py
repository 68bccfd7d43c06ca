"""Parts of ``python -m benchmarks gpu`` that no other row measures.

python -m benchmarks gpu-part agreement|tests|training [--device cuda] [--small]

agreement: the demo's features and captions in each precision against the CPU's in fp32. tests: ``pytest -m gpu``.
training: forward, loss, backward and AdamW's step of CoCa and CLIP L/14, bf16, random pixels and tokens on the device;
``coca_over_clip`` is the ratio of their times. --small: the demo's networks and few images, for a CPU.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
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


WORK: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "agreement": agreement,
    "tests": tests,
    "training": training,
}


def main(argv: Sequence[str] | None = None) -> None:
    """Do one part and print it as JSON."""
    parser = argparse.ArgumentParser(prog="benchmarks gpu-part", description=__doc__)
    parser.add_argument("part", choices=WORK)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true")
    options = parser.parse_args(argv)
    print(json.dumps({"name": f"gpu-part {options.part}", **WORK[options.part](options)}))


if __name__ == "__main__":
    main()
