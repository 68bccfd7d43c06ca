"""Random CoCa networks and settings: our captions against open_clip's, token for token.

python -m benchmarks decoding-fuzz [--json] [--networks 50] [--seed 0]

Each network (shapes, special tokens and weights are drawn) captions six images with six drawn settings; open_clip_torch
3.3.0 with transformers 4.49.0 does the same in the same process. Where a caption differs, upstream's own beam scores
must have held a rounding tie: two neighbours among the candidates of some step, or two finished captions, closer than
1e-4. The last line has the counts; the exit code is 1 where a difference is no tie.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest import mock

import numpy as np
import torch

from benchmarks import pinned
from benchmarks.make_decoding_goldens import config, ids, initialise, upstream
from benchmarks.sides import ROOT

TIE = 1e-4
IMAGES = 6
SETTINGS = 6

Random = np.random.RandomState


def main(argv: Sequence[str] | None = None) -> None:
    """Start again with the peers and compare."""
    parser = argparse.ArgumentParser(prog="benchmarks decoding-fuzz", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--json", action="store_true", help="print only the JSON line")
    parser.add_argument("--networks", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    given = list(sys.argv[1:] if argv is None else argv)
    options = parser.parse_args(given)
    if not options.worker:
        command = [sys.executable, "-m", "benchmarks.decoding_fuzz", *given, "--worker"]
        variables = {**os.environ, **pinned.environment()}
        raise SystemExit(subprocess.run(command, cwd=ROOT, env=variables, check=False).returncode)
    report = compare(options.networks, options.seed)
    for difference in report.pop("differences"):
        if not options.json:
            print(json.dumps(difference))
    print(json.dumps(report))
    raise SystemExit(report["wrong"] > 0)


@torch.no_grad()
def compare(networks: int, seed: int) -> dict[str, Any]:
    """Return how many captions there were, how many differ by a tie, how many are wrong, and the differences."""
    torch.set_num_threads(1)
    captions, differences = 0, []
    for number in range(seed, seed + networks):
        random = Random(number)
        spec = draw_network(random)
        model = _build(spec, number)
        size = spec["config"]["vision_cfg"]["image_size"]
        pixels = torch.from_numpy(random.standard_normal((IMAGES, 3, size, size)).astype(np.float32))
        for _ in range(SETTINGS):
            settings = draw_settings(random, spec["config"]["text_cfg"]["context_length"])
            captions += IMAGES
            differences += [
                {"network": number, "settings": settings, **d} for d in _differences(model, pixels, spec, settings)
            ]
    wrong = sum(not difference["gap"] < TIE for difference in differences)
    return {
        "name": "decoding-fuzz",
        "captions": captions,
        "ties": len(differences) - wrong,
        "wrong": wrong,
        "differences": differences,
    }


def draw_network(random: Random) -> dict[str, Any]:
    """Draw shapes and special tokens: {"config": keywords of CoCa, "ids": keywords of generate}."""
    vocabulary, context = int(random.randint(30, 300)), int(random.randint(16, 33))
    start, end, pad, other = (int(i) for i in random.choice(vocabulary, 4, replace=False))
    tower_pad = int(random.choice([0, pad, other]))
    text = {
        "context_length": context,
        "vocab_size": vocabulary,
        "heads": _one_of(random, 2, 4),
        "layers": _one_of(random, 1, 2, 3),
        "pad_id": tower_pad,
        "ls_init_value": _one_of(random, None, 0.7),
        "no_causal_mask": bool(random.rand() < 0.15),
    }
    pooling = _one_of(random, {}, {"attentional_pool": True}, {"attentional_pool": "cascade"})
    vision = {
        "image_size": _one_of(random, 12, 16, 24),
        "layers": _one_of(random, 1, 2),
        **(pooling and {**pooling, "attn_pooler_heads": 2, "attn_pooler_queries": int(random.randint(2, 20))}),
    }
    decoder = {"heads": _one_of(random, 2, 4), "layers": _one_of(random, 1, 2, 3)}
    whole = config(vision, text, decoder, pad_id=_one_of(random, 0, pad), quick_gelu=bool(random.rand() < 0.5))
    return {"config": whole, "ids": ids(start, end, pad)}


def draw_settings(random: Random, context: int) -> dict[str, Any]:
    """Draw keywords of generate whose captions do not depend on random numbers."""
    length = int(random.randint(3, context + 2))
    settings: dict[str, Any] = {
        "seq_len": length,
        "min_seq_len": int(random.randint(0, length)),
        "repetition_penalty": _one_of(random, 1.0, 1.0, 1.4, 0.8),
        "fixed_output_length": bool(random.rand() < 0.3),
    }
    if random.rand() < 0.2:
        return {**settings, "generation_type": "top_k", "max_seq_len": int(random.randint(2, context + 1))}
    groups = _one_of(random, 1, 2, 3)
    settings |= {"num_beams": groups * int(random.randint(1 + (groups == 1), 5)), "num_beam_groups": groups}
    if random.rand() < 0.6:
        return settings
    settings.pop("fixed_output_length")
    diversity = _one_of(random, 0.3, 1.5) if groups > 1 else 0.0
    return {
        **settings,
        "decoding": "logprob",
        "diversity_penalty": diversity,
        "length_penalty": _one_of(random, 0.4, 1.0),
    }


def _one_of(random: Random, *values: Any) -> Any:
    return values[random.randint(len(values))]


def _build(spec: dict[str, Any], seed: int) -> Any:
    """Build the network; ends and pads are likely enough that captions of all lengths come up."""
    from open_clip.coca_model import CoCa

    model = CoCa(**spec["config"])
    initialise(model, seed, gain=2.0)
    often = list(spec["ids"].values())[1:]
    model.text_decoder.text_projection.data[:, often] *= 1.6
    return model.eval()


def _differences(
    model: Any, pixels: torch.Tensor, spec: dict[str, Any], settings: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    """Yield the captions that differ, each with the smallest gap between upstream's candidates for that image."""
    from cocabench.models.open_clip import generate

    with _gaps_between_candidates() as gaps:
        theirs = upstream(model, pixels, **settings, **spec["ids"]).tolist()
    ours = generate(model, pixels, **settings, **spec["ids"]).tolist()
    for image, (one, other) in enumerate(zip(ours, theirs, strict=True)):
        if one != other:
            yield {"image": image, "gap": min(gap[image] for gap in gaps), "ours": one, "theirs": other}


@contextmanager
def _gaps_between_candidates() -> Iterator[list[list[float]]]:
    """Collect, per step and group, the smallest gap between the candidates of each image and the first left out."""
    gaps: list[list[float]] = []
    original = torch.topk

    def watched(scores: torch.Tensor, k: int, **other: Any) -> Any:
        best = original(scores, k + 1, dim=1).values
        gaps.append((best[:, :-1] - best[:, 1:]).min(dim=1).values.tolist())
        return original(scores, k, **other)

    with mock.patch.object(torch, "topk", watched):
        yield gaps


if __name__ == "__main__":
    main()
