"""What continuous batching could save at most: how many images each decode step holds, and needs to hold.

python -m benchmarks captioning-batches [--json] [--model coca_ViT-B-32] [--device cpu] [--precision fp32] [--threads 1]
                                         [--repeats 3] [--widths 1,2,4,8,16,32,64]

Captions end at drawn lengths (normal: mean and deviation in tokens). ``computed``: the images of all steps, by how
finished images leave the batch, over those that were not finished, which is the least. Times are estimates: a step of n
images takes what such steps took here, one of more images than were measured in proportion; encoding and the first step
are in both. ``saved`` is what would be left out of a caption's time if every step held as many images as a batch, from
the first image to the last. On a CPU times are processor time.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor

from benchmarks.captioning_curves import add_flags, marks, prepared, seconds
from cocabench.models.open_clip.decoding import search
from cocabench.models.open_clip.decoding.generate import DecodeOptions, decoded, generate_encoded
from cocabench.models.open_clip.decoding.options import SpecialTokens
from cocabench.models.open_clip.decoding.steps import ReplayedSteps

LENGTHS = {"short": (12.5, 2.4), "long": (45.0, 15.0)}
"""Tokens of a caption with start and end token: about COCO's references, and some sentences within a context of 77."""
BATCHES = (32, 64, 256)
IMAGES = 1024
SEARCHES: dict[str, dict[str, Any]] = {"beams": {}, "greedy": {"generation_type": "greedy"}}
TIMED_TOKENS = 12
TOKENS = SpecialTokens(start=0, end=1, pad=2)
VOCABULARY = 32


class DrawnSteps:
    """The steps of a CachedSteps without a network: random logits, and the end token at each image's length (b,).

    widths: how many images each step held.
    """

    def __init__(self, lengths: Tensor) -> None:
        self.images, self.widths = len(lengths), list[int]()
        self._lengths, self._length = lengths, 0
        self._draws = torch.Generator().manual_seed(0)

    def start(self, prefix: Tensor) -> Tensor:
        self._length = prefix.shape[1]
        return self._logits(1)

    def make_room(self, _: int) -> bool:
        return False

    def step(self, tokens: Tensor, _: Tensor) -> Tensor:
        self._length += 1
        self.widths.append(self.images)
        return self._logits(tokens.shape[1])

    extend = step

    def keep(self, images: Tensor) -> None:
        self.images, self._lengths = len(images), self._lengths[images]

    def _logits(self, captions: int) -> Tensor:
        logits = torch.rand(self.images, captions, VOCABULARY, generator=self._draws)
        return ended(logits, self._lengths <= self._length + 1, TOKENS)


def ended(logits: Tensor, due: Tensor, tokens: SpecialTokens) -> Tensor:
    """Return logits (b, n, V), changed in place: the end token comes next where it is due (b,), and nowhere else."""
    logits[..., tokens.pad] = -1e3
    logits[..., tokens.end] = torch.where(due, 1e3, -1e3)[:, None]
    return logits


def drawn_lengths(mean: float, deviation: float, images: int) -> Tensor:
    """Return lengths of captions (images,), of 6 to 76 tokens."""
    noise = torch.randn(images, generator=torch.Generator().manual_seed(1))
    return (mean + deviation * noise).round().clamp(6, 76).long()


def widths(
    lengths: Tensor, options: DecodeOptions, *, graphs: bool = False, fraction: float | None = None
) -> list[int]:
    """Return how many images of a batch each step after the first holds.

    fraction: finished images leave the batch from this fraction on, instead of the search's own.
    """
    drawn: Any = DrawnSteps(lengths)
    steps = ReplayedSteps(drawn, lambda step: step) if graphs else drawn
    least = search.MIN_FINISHED_FRACTION if fraction is None else fraction
    with mock.patch.object(search, "MIN_FINISHED_FRACTION", least):
        decoded(steps, torch.zeros(len(lengths), 1, dtype=torch.long), options, TOKENS)
    return list(drawn.widths)


def main(argv: Sequence[str] | None = None) -> None:
    """Count, measure and print, the last line as JSON."""
    parser = argparse.ArgumentParser(prog="benchmarks captioning-batches", description=(__doc__ or "").split("\n\n")[0])
    add_flags(parser, model="coca_ViT-B-32", device="cpu", precision="fp32", repeats=3)
    parser.add_argument("--widths", default="1,2,4,8,16,32,64", help="images of the steps that are measured")
    parser.set_defaults(threads=1)
    options = parser.parse_args(argv)
    torch.set_num_threads(options.threads)
    measured = _measured(options, [int(width) for width in options.widths.split(",")])
    rows = [_row(name, kind, batch, measured) for name in LENGTHS for kind in SEARCHES for batch in BATCHES]
    if not options.json:
        print(*(f"{key}: {value}" for key, value in measured.items()), sep="\n")
        print(*("  ".join(f"{key} {value}" for key, value in row.items()) for row in rows), sep="\n")
    print(json.dumps({"name": "captioning-batches", "model": options.model, **measured, "rows": rows}))


def _row(name: str, kind: str, batch: int, measured: dict[str, Any]) -> dict[str, Any]:
    options = DecodeOptions(seq_len=77, min_seq_len=5, **SEARCHES[kind])
    batches = drawn_lengths(*LENGTHS[name], IMAGES).split(batch)
    now, by_graphs, least = (
        [width for lengths in batches for width in widths(lengths, options, **how)]
        for how in ({}, {"graphs": True}, {"fraction": 0})
    )
    needed, steps = sum(least), measured["step_ms"][kind]
    today = measured["first_ms"] + sum(_cost(width, steps) for width in now) / IMAGES
    full = measured["first_ms"] + needed * _cost(batch, steps) / batch / IMAGES
    return {
        "captions": name,
        "search": kind,
        "batch": batch,
        "computed": round(sum(now) / needed, 3),
        "computed_by_graphs": round(sum(by_graphs) / needed, 3),
        "images_per_step": round(sum(now) / len(now), 1),
        "ms_per_image": round(today, 1),
        "saved": round(1 - full / today, 3),
    }


def _cost(width: int, steps: dict[int, float]) -> float:
    """Return the milliseconds of a step of this many images; above the measured ones in proportion."""
    most = max(steps)
    return steps[most] * width / most if width > most else float(np.interp(width, list(steps), list(steps.values())))


@torch.no_grad()
def _measured(options: argparse.Namespace, counts: list[int]) -> dict[str, Any]:
    """Return the milliseconds of encoding and the first step per image, and of a step by search and images."""
    on_cpu = torch.device(options.device).type == "cpu"
    clock = time.process_time if on_cpu else time.perf_counter
    model, images = prepared(options, max(counts))
    embs = torch.cat([model.visual(some)[1] for some in images.split(32)])
    first, some = DecodeOptions(seq_len=2, min_seq_len=0), images[:32]

    def best(work: Callable[[], Any]) -> float:
        return min(seconds(work, options.device, clock) for _ in range(options.repeats))

    def step(count: int, own: dict[str, Any]) -> float:
        settings = DecodeOptions(seq_len=TIMED_TOKENS + 3, min_seq_len=TIMED_TOKENS + 2, **own)
        stepping: Any = "cached" if on_cpu else "cuda_graphs"
        runs = [
            marks(model, embs[:count], settings, options.device, clock, stepping=stepping)
            for _ in range(options.repeats)
        ]
        return min(float(np.median(np.diff(run)[1:])) for run in runs)

    encoding = best(lambda: generate_encoded(model, model.visual(some)[1], options=first))
    steps = {kind: {n: round(1e3 * step(n, own), 2) for n in counts} for kind, own in SEARCHES.items()}
    return {"first_ms": round(1e3 * encoding / len(some), 2), "step_ms": steps}


if __name__ == "__main__":
    main()
