"""Captions on a GPU: steps as CUDA graphs and as they are, against open_clip's own generate and against the floor.

python -m benchmarks captioning-cuda [--json] [--model coca_ViT-L-14] [--precision bf16] [--images 64] [--device cuda]

All sides run in turns in one process, on the same model, under the pinned packages of open_clip_torch 3.3.0 and
transformers 4.49.0. Memory is what torch allocated on the device at its peak, weights included. The floor: encoding
the images, as measured, and for each further token what a step must read over the memory's bandwidth, as measured.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch

from benchmarks import pinned
from benchmarks.captioning_curves import add_flags, bandwidth, prepared, seconds, step_bytes
from benchmarks.sides import row, worker

Side = Callable[..., torch.Tensor]


def main(argv: Sequence[str] | None = None) -> None:
    """Start again under the pinned packages; there, measure and print."""
    given = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(prog="benchmarks captioning-cuda", description=(__doc__ or "").split("\n\n")[0])
    add_flags(parser, model="coca_ViT-L-14", device="cuda", precision="bf16", repeats=5)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--length", type=int, default=30)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(given)
    if options.worker:
        print(json.dumps(_compare(options)))
        return
    report = worker("benchmarks.captioning_cuda", [*given, "--worker"], options.threads, pinned.environment())
    if not options.json:
        for key, value in report.items():
            print(f"{key:>12}: {value}")
    print(json.dumps(report))


def _compare(options: argparse.Namespace) -> dict[str, Any]:
    model, images = prepared(options, options.images)
    sides = _sides(model, options.device)
    runs: dict[str, list[dict[str, Any]]] = {side: [] for side in sides}
    for generate in sides.values():
        generate(images, seq_len=min(8, options.length))
    for _ in range(options.repeats):
        for side, generate in sides.items():
            runs[side].append(_measured(partial(generate, images, seq_len=options.length), options.device))
    found = {side: _summary(of_side, options.images) for side, of_side in runs.items()}
    what = f"captions of {options.images} images, {options.length} tokens, {options.model}:random, {options.precision}"
    return row("captioning-cuda", what, "CoCa.generate", 15, found["ours"], found["theirs"]) | {
        "device": torch.cuda.get_device_name() if options.device.startswith("cuda") else options.device,
        "without_graphs": found["cached"],
        "equal_captions": _equal(runs["ours"][0]["tokens"], runs["theirs"][0]["tokens"]),
        "floor_s": round(_floor(model, images, runs["ours"][0]["tokens"].shape[1] - 1, options.device), 4),
    }


def _sides(model: Any, device: str) -> dict[str, Side]:
    from cocabench.models.open_clip.decoding.generate import DecodeOptions, generate_scored

    def ours(stepping: str) -> Side:
        return lambda images, seq_len: (
            generate_scored(model, images, options=DecodeOptions(seq_len=seq_len), stepping=stepping).tokens
        )

    best = "cuda_graphs" if device.startswith("cuda") else "cached"
    return {"ours": ours(best), "cached": ours("cached"), "theirs": model.generate}


def _measured(work: Callable[[], torch.Tensor], device: str) -> dict[str, Any]:
    on_gpu = device.startswith("cuda")
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    kept: list[torch.Tensor] = []
    taken = seconds(lambda: kept.append(work()), device)
    peak = torch.cuda.max_memory_allocated() / 2**20 if on_gpu else 0.0
    return {"seconds": taken, "peak_mib": round(peak, 1), "tokens": kept[0].cpu()}


def _summary(runs: Sequence[dict[str, Any]], images: int) -> dict[str, Any]:
    median = statistics.median(run["seconds"] for run in runs)
    return {
        "median_s": round(median, 4),
        "peak_mib": max(run["peak_mib"] for run in runs),
        "captions_per_s": round(images / median, 1),
        "all_s": [round(run["seconds"], 4) for run in runs],
    }


def _equal(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """Return the share of captions that are equal; in half precision near ties part ways."""
    shortest = min(ours.shape[1], theirs.shape[1])
    return float((ours[:, :shortest] == theirs[:, :shortest]).all(1).float().mean())


@torch.no_grad()
def _floor(model: Any, images: torch.Tensor, steps: int, device: str) -> float:
    _, image_embs = model.visual(images)
    encoding = min(seconds(lambda: model.visual(images), device) for _ in range(3))
    return encoding + steps * step_bytes(model, image_embs, steps) / bandwidth(device)


if __name__ == "__main__":
    main()
