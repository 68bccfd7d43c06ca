"""What a caption costs as batches and captions grow, where its time goes, and the floor under a step.

python -m benchmarks captioning-curves [--json] [--device cpu] [--precision fp32] [--model coca_ViT-B-32] [--repeats 3]
                                        [--context 256] [--clock processor]

ms_per_image: whole captions of 30 tokens, by batch size. ms_per_token: 8 images, the mean time of a step from one
length of the captions to another; ends are forbidden. Each time is the best of the repeats. The floor of a step is what
it must read (weights; keys and values) over the memory bandwidth of this device, measured by copying. --context:
another context length of the model, with lengths up to it; batches are left out. --clock processor: of all threads
together, which other programs disturb less.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from benchmarks.captioning import random_images, random_model

BATCHES = (8, 16, 32, 64)
LENGTHS = (10, 20, 30, 40, 50, 60, 70)
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
GIB = 2**30
Clock = Callable[[], float]
CLOCKS: dict[str, Clock] = {"wall": time.perf_counter, "processor": time.process_time}


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="benchmarks captioning-curves", description=(__doc__ or "").split("\n\n")[0])
    add_flags(parser, model="coca_ViT-B-32", device="cpu", precision="fp32", repeats=3)
    parser.add_argument("--context", type=int, help="tokens of a caption at most, instead of the model's own")
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    options = parser.parse_args(argv)
    torch.set_num_threads(options.threads)
    what = f"{options.model}:random, {options.precision} on {options.device}, {options.threads} threads"
    report = {"name": "captioning-curves", "what": what, **_measure(options)}
    if not options.json:
        print(what, *(f"{key:>13}: {value}" for key, value in report.items() if key not in ("name", "what")), sep="\n")
    print(json.dumps(report))


def add_flags(parser: argparse.ArgumentParser, *, model: str, device: str, precision: str, repeats: int) -> None:
    """Add the flags that decoding on any device needs."""
    parser.add_argument("--json", action="store_true", help="print only the JSON line")
    parser.add_argument("--model", default=model)
    parser.add_argument("--device", default=device)
    parser.add_argument("--precision", choices=PRECISIONS, default=precision)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=repeats, help="timed runs")


def prepared(options: argparse.Namespace, count: int) -> tuple[Any, torch.Tensor]:
    """Return the model and that many random images, on the device and in the precision."""
    made = random_model(options.model, getattr(options, "context", None))
    model = made.to(options.device, PRECISIONS[options.precision])
    size = model.visual.image_size
    images = random_images(count, size if isinstance(size, int) else size[0])
    return model, images.to(options.device, PRECISIONS[options.precision])


def seconds(work: Callable[[], Any], device: str, clock: Clock = time.perf_counter) -> float:
    """Time one run to its end on the device."""
    _wait(device)
    started = clock()
    work()
    _wait(device)
    return clock() - started


def marks(
    model: Any, image_embs: torch.Tensor, options: Any, device: str, clock: Clock, *, stepping: Any = "cached"
) -> list[float]:
    """Caption encoded images; return the time at which captions had 2, 3, 4 … tokens, up to the last that was fed."""
    from cocabench.models.open_clip.decoding.generate import generate_encoded

    found: list[float] = []

    def mark(_: torch.Tensor) -> None:
        _wait(device)
        found.append(clock())

    generate_encoded(model, image_embs, options=options, watch=mark, stepping=stepping)
    return found


def _wait(device: str) -> None:
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()


def _measure(options: argparse.Namespace) -> dict[str, Any]:
    from cocabench.models.open_clip import generate

    clock = CLOCKS[options.clock]
    model, images = prepared(options, max(BATCHES))
    generate(model, images[:1], seq_len=3, min_seq_len=1)

    def best(work: Callable[[], Any]) -> float:
        return min(seconds(work, options.device, clock) for _ in range(options.repeats))

    def whole(batch: int) -> float:
        return best(lambda: generate(model, images[:batch], seq_len=30, min_seq_len=29))

    with torch.no_grad():
        encoding = best(lambda: model.visual(images[:8]))
        _, image_embs = model.visual(images[:8])
    lengths = [options.context * k // 8 for k in range(1, 9)] if options.context else LENGTHS
    read = step_bytes(model, image_embs, 30)
    return {
        "ms_per_image": {n: round(1e3 * whole(n) / n, 1) for n in (() if options.context else BATCHES)},
        "ms_per_token": per_token(model, image_embs, lengths, options.device, clock, repeats=options.repeats),
        "ms_of_8_images_encoded": round(1e3 * encoding, 1),
        "ms_of_8_images": round(1e3 * whole(8), 1),
        "floor_ms_per_token": round(1e3 * read / bandwidth(options.device), 2),
        "gib_per_token": round(read / GIB, 3),
        "bandwidth_gib_s": round(bandwidth(options.device) / GIB, 1),
    }


def per_token(
    model: Any, image_embs: torch.Tensor, lengths: Sequence[int], device: str, clock: Clock, *, repeats: int
) -> dict[str, float]:
    """Return the milliseconds of a step between each two lengths of captions without an end."""
    from cocabench.models.open_clip.decoding.generate import DecodeOptions

    longest = DecodeOptions(seq_len=lengths[-1] + 1, min_seq_len=lengths[-1])
    runs = [marks(model, image_embs, longest, device, clock) for _ in range(repeats)]
    return {
        f"{a}-{b}": round(1e3 * min(run[b - 2] - run[a - 2] for run in runs) / (b - a), 2)
        for a, b in itertools.pairwise(lengths)
    }


def bandwidth(device: str, size: int = GIB // 4) -> float:
    """Return bytes per second, read and written together, of copying within the device's memory."""
    source, target = (torch.ones(size, dtype=torch.uint8, device=device) for _ in range(2))
    return 2 * size / min(seconds(lambda: target.copy_(source), device) for _ in range(5))


def step_bytes(model: Any, image_embs: torch.Tensor, length: int) -> int:
    """Return the bytes that a step must read at least, captions being up to this long; image_embs: (b, k, width).

    These are all weights but the embeddings and the projections of the image's keys and values; these keys and values;
    and those of half a caption's tokens, as if its beams had all of them in common.
    """
    decoder = model.text_decoder
    layers, looking = [*model.text.transformer.resblocks, *decoder.resblocks], [*decoder.cross_attn]
    weights = sum(p.numel() for layer in (*layers, *looking) for p in layer.parameters())
    weights += decoder.text_projection.numel() - sum(layer.attn.in_proj_weight.numel() * 2 // 3 for layer in looking)
    keys = len(looking) * image_embs.shape[1] + len(layers) * length // 2
    width = decoder.text_projection.shape[0]
    return int((weights + 2 * len(image_embs) * keys * width) * decoder.text_projection.element_size())


if __name__ == "__main__":
    main()
