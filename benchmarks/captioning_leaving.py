"""What images cost that leave a batch of captions on a CPU: those that stay move in the same memory, or are copied.

python -m benchmarks captioning-leaving [--json] [--model coca_ViT-B-32] [--threads 1] [--repeats 4]

A caption ends at a length that is drawn: from 5 to 39 tokens of 32 images, to 75 of 64. ``moved`` is how `of_rows`
keeps the keys and values of images that stay, ``copied`` is by indexing, into fresh memory; the two in turns, all runs
in seconds of processor time. ``ratio`` is the shortest of copied over the shortest of moved. Raises AssertionError if
tokens or scores differ in a bit.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from benchmarks.captioning_batches import SEARCHES, TOKENS, ended
from benchmarks.captioning_curves import add_flags, prepared
from cocabench.models.open_clip.decoding import towers
from cocabench.models.open_clip.decoding.generate import decoded
from cocabench.models.open_clip.decoding.options import DecodeOptions
from cocabench.models.open_clip.decoding.steps import Steps, prepare

SHORTEST = 5
LONGEST = {32: 39, 64: 75}
"""By the images of a batch."""


class EndedSteps:
    """Steps whose captions end at given lengths (b,), start and end token included."""

    def __init__(self, steps: Steps, lengths: Tensor) -> None:
        self._steps, self._lengths, self._length = steps, lengths, 0

    def start(self, prefix: Tensor) -> Tensor:
        self._length = prefix.shape[1]
        return self._ended(self._steps.start(prefix))

    def extend(self, tokens: Tensor, parents: Tensor) -> Tensor:
        self._length += 1
        return self._ended(self._steps.extend(tokens, parents))

    def keep(self, images: Tensor) -> None:
        self._steps.keep(images)
        self._lengths = self._lengths[images]

    def _ended(self, logits: Tensor) -> Tensor:
        return ended(logits, self._lengths <= self._length + 1, TOKENS)


def copied(values: Tensor, rows: Tensor) -> Tensor:
    """Return values (2, r, …) of these rows (k,) as `towers.of_rows` does, in fresh memory."""
    return values[:, rows]


WAYS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"moved": towers.of_rows, "copied": copied}


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print, the last line as JSON."""
    parser = argparse.ArgumentParser(prog="benchmarks captioning-leaving", description=(__doc__ or "").split("\n\n")[0])
    add_flags(parser, model="coca_ViT-B-32", device="cpu", precision="fp32", repeats=4)
    parser.set_defaults(threads=1)
    options = parser.parse_args(argv)
    if options.device != "cpu":
        parser.error(f"--device {options.device}: wanted cpu; elsewhere images that stay are copied")
    torch.set_num_threads(options.threads)
    model, images = prepared(options, max(LONGEST))
    with torch.no_grad():
        embs = torch.cat([model.visual(some)[1] for some in images.split(32)])
        rows = [measured(model, embs[:n], kind, options.repeats) for n in LONGEST for kind in SEARCHES]
    if not options.json:
        print(f"{options.model}:random, {options.precision}, {options.threads} threads, seconds of processor time")
        print(*("  ".join(f"{key} {value}" for key, value in row.items()) for row in rows), sep="\n")
    print(json.dumps({"name": "captioning-leaving", "model": options.model, "threads": options.threads, "rows": rows}))


def measured(model: Any, embs: Tensor, kind: str, repeats: int) -> dict[str, Any]:
    """Caption images (b, tokens, width) both ways, in turns, once before the clock runs."""
    longest = LONGEST[len(embs)]
    lengths = torch.randint(SHORTEST, longest + 1, (len(embs),), generator=torch.Generator().manual_seed(0))
    options = DecodeOptions(seq_len=longest + 1, min_seq_len=0, **SEARCHES[kind])
    prompt = torch.full((len(embs), 1), TOKENS.start)

    def run(way: Callable[[Tensor, Tensor], Tensor]) -> tuple[float, Any]:
        steps = EndedSteps(prepare(model, embs, window=longest, stepping="cached"), lengths)
        with mock.patch.object(towers, "of_rows", way):
            started = time.process_time()
            found = decoded(steps, prompt, options, TOKENS)
            return time.process_time() - started, found

    first = {name: run(way)[1] for name, way in WAYS.items()}
    tokens, scores = zip(*first.values(), strict=True)
    assert torch.equal(*tokens), f"{len(embs)} images, {kind}: other tokens"
    assert torch.equal(*scores), f"{len(embs)} images, {kind}: other scores"
    runs: dict[str, list[float]] = {name: [] for name in WAYS}
    for _ in range(repeats):
        for name, way in WAYS.items():
            runs[name].append(round(run(way)[0], 2))
    return {
        "images": len(embs),
        "search": kind,
        "tokens": f"{SHORTEST}-{longest}",
        **runs,
        "ratio": round(min(runs["copied"]) / min(runs["moved"]), 2),
    }


if __name__ == "__main__":
    main()
