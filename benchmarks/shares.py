"""How near towers and decode steps come to the fastest matrix product of this machine, in GFLOP/s.

python -m benchmarks shares [--json] [--model coca_ViT-B-32] [--precision fp32] [--threads 2] [--repeats 5]

Each time is the best of the repeats; the matrix product is 2,048 x 2,048 x 2,048, by torch's BLAS and by oneDNN, of
which the faster counts. Texts have full length and no beginnings in common. A decode step is a part of captions of 30
tokens, with 6 beams an image, the encoding of the images left out; its floor is the longer of two times: its operations
at the speed of that product, and what it must read at the bandwidth of copying. ``packed`` is the time of a step's
linear layers with packed weights against that of ours.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from typing import Any

import torch

from benchmarks.captioning import random_images
from benchmarks.captioning_curves import PRECISIONS, add_flags, bandwidth, seconds, step_bytes

SIDE = 2048
IMAGES = 32
TEXTS = 128
BEAMS = 6
LENGTH = 30
DECODED = (1, 8, 32)
"""Images whose captions are written together: 6, 48 and 192 rows."""


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print, the last line as JSON."""
    parser = argparse.ArgumentParser(prog="benchmarks shares", description=(__doc__ or "").split("\n\n")[0])
    add_flags(parser, model="coca_ViT-B-32", device="cpu", precision="fp32", repeats=5)
    options = parser.parse_args(argv)
    torch.set_num_threads(options.threads)
    report = {"name": "shares", "model": options.model, "precision": options.precision, **_measured(options)}
    if not options.json:
        print(f"{options.model}, {options.precision}, {options.threads} threads")
        print(f"  matrix product: {report['product']:.0f} GFLOP/s")
        for name, (rate, share) in report["towers"].items():
            print(f"  {name}: {rate:.0f} GFLOP/s, {share:.0%}")
        for images, step in report["steps"].items():
            print(f"  decode step of {images} images: {', '.join(f'{key} {value:g}' for key, value in step.items())}")
    print(json.dumps(report))


def _measured(options: argparse.Namespace) -> dict[str, Any]:
    from cocabench.models.contexts import in_precision
    from cocabench.models.hardware import hardware
    from cocabench.models.open_clip import encode_tokens, generate
    from cocabench.models.profiling import gflops
    from cocabench.specs.registry import one_model

    chosen: Any = hardware(device=options.device, precision=options.precision)
    model: Any = one_model(f"{options.model}:random@0").load(chosen)
    net = model.net
    size = net.visual.image_size
    pixels = random_images(max(IMAGES, *DECODED), size if isinstance(size, int) else size[0])
    rng = torch.Generator().manual_seed(0)
    tokens = torch.randint(1, 40_000, (TEXTS, model.tokenizer.context_length), generator=rng)
    tokens[:, -1] = model.tokenizer.eot_token_id
    counted = gflops(net)

    def best(work: Callable[[], Any]) -> float:
        return min(seconds(work, options.device) for _ in range(options.repeats))

    with torch.no_grad(), in_precision(chosen), model.computing():
        product = _product(PRECISIONS[options.precision], options.repeats)
        towers = {
            "image tower": IMAGES * counted["image_gflops"] / best(lambda: model.encode_image_batch(pixels[:IMAGES])),
            "text tower": TEXTS * counted["text_gflops"] / best(lambda: encode_tokens(net, tokens)),
        }
        steps = {}
        for images in DECODED if "decoder_gflops" in counted else ():
            some = pixels[:images]
            encoding = best(lambda some=some: net.visual(some))  # type: ignore[misc]
            whole = best(lambda some=some: generate(net, some, seq_len=LENGTH, min_seq_len=LENGTH - 1))  # type: ignore[misc]
            steps[images] = _step(net, some, (whole - encoding) / (LENGTH - 1), product)
    shares = {name: (round(rate, 1), round(rate / product, 3)) for name, rate in towers.items()}
    return {"product": round(product, 1), "towers": shares, "steps": steps}


def _product(kind: torch.dtype, repeats: int) -> float:
    """Return the GFLOP/s of the faster matrix product."""
    from cocabench.models.open_clip.decoding.towers import linear

    a, b = torch.randn(SIDE, SIDE).to(kind), torch.randn(SIDE, SIDE).to(kind)
    ours = linear(b, None)
    times = [seconds(lambda work=work: work(a), "cpu") for _ in range(repeats) for work in (ours, b.matmul)]  # type: ignore[misc]
    return 2e-9 * SIDE**3 / min(times)


def _step(net: Any, pixels: torch.Tensor, took: float, product: float) -> dict[str, float]:
    """Return a step's milliseconds, its two floors, and the times of its linear layers with packed weights."""
    _, image_embs = net.visual(pixels)
    decoder, rows, length = net.text_decoder, BEAMS * len(pixels), LENGTH // 2
    layers = [*net.text.transformer.resblocks, *decoder.resblocks]
    weights = step_bytes(net, image_embs[:0], 0) / decoder.text_projection.element_size()
    keys = len(layers) * length + len(decoder.cross_attn) * image_embs.shape[1]
    operations = 2e-9 * rows * (weights + 2 * keys * decoder.text_projection.shape[0])
    floors = {
        "arithmetic_ms": 1e3 * operations / product,
        "reading_ms": 1e3 * step_bytes(net, image_embs, length) / bandwidth("cpu"),
    }
    found = {"ms": 1e3 * took, **floors, "times_floor": 1e3 * took / max(floors.values())}
    return {key: round(value, 2) for key, value in {**found, "packed": _packed(net, rows)}.items()}


def _packed(net: Any, rows: int) -> float:
    """Return the time of linear layers of ``rows`` rows with packed weights, as a part of that with plain ones."""
    run: Any = torch.ops.mkldnn._linear_pointwise
    blocks = [*net.text.transformer.resblocks, *net.text_decoder.resblocks]
    plain = [weight.detach().float() for block in blocks for weight in (block.mlp.c_fc.weight, block.mlp.c_proj.weight)]
    packed = [torch.ops.mkldnn._reorder_linear_weight(weight, rows) for weight in plain]
    inputs = {weight.shape[1]: torch.randn(rows, weight.shape[1]) for weight in plain}

    def through(weights: list[torch.Tensor]) -> None:
        for weight, own in zip(weights, plain, strict=True):
            run(inputs[own.shape[1]], weight, None, "none", [], "")

    times = [[seconds(lambda some=some: through(some), "cpu") for some in (packed, plain)] for _ in range(9)]  # type: ignore[misc]
    return min(one for one, _ in times) / min(other for _, other in times)


if __name__ == "__main__":
    main()
