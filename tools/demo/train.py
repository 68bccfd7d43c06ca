"""Train the demo checkpoints: `python -m tools.demo.train --training FILE --out RUNS [--seeds 0 1 2 3 4]`.

Every run gets a folder RUNS/NAME-SEED that open_clip reads, with its `log.json`; runs that have one are left alone.
A loop of its own rather than open_clip's trainer, because the pictures stay in memory and are changed a batch at a
time: on one core, reading, decoding and augmenting files one by one would cost more than training.
"""

import argparse
import json
import math
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from open_clip.loss import ClipLoss
from torch import Tensor, nn
from torch.nn import functional as F

from cocabench.demo import MODELS
from tools.demo.batches import Batches, shrunk
from tools.demo.bpe import learn_merges, read_tokenizer, write_merges
from tools.demo.checkpoint import load, save
from tools.demo.configs import CONTEXT_LENGTH, MERGES_FILE, new_model
from tools.demo.measure import Check, held_out, in_bf16
from tools.demo.pictures import STYLES, read_training_set
from tools.demo.recipes import RECIPES, SEEDS, Settings

PAD = 0
"""Id of the padding, in captions as in CoCaLoss."""

LINES = 12
"""Of a run's log."""

Log = list[dict[str, float]]


def losses(model: nn.Module, images: Tensor, tokens: Tensor, settings: Settings) -> dict[str, Tensor]:
    """Return the weighted losses: contrastive and, for CoCa, caption (the mean over the tokens that are not padding).

    The caption loss is CoCaLoss's, which takes a softmax over the padding too, at half a step's cost.
    """
    with in_bf16():
        output = model(images, tokens)
    features = (output["image_features"].float(), output["text_features"].float(), output["logit_scale"])
    found: dict[str, Tensor] = ClipLoss()(*features, output_dict=True)
    if "logits" not in output:
        return found
    said = output["labels"] != PAD
    caption_loss = F.cross_entropy(output["logits"][said].float(), output["labels"][said])
    return {
        "contrastive_loss": found["contrastive_loss"] * settings.contrastive_weight,
        "caption_loss": caption_loss * settings.caption_weight,
    }


def train(model: nn.Module, batches: Batches, settings: Settings, check: Check) -> Log:
    """Train a model in place; return twelve lines of mean losses and seconds, every third with what `check` says."""
    logit_scale = model.get_parameter("logit_scale")
    optimisers = _optimisers(model, settings)
    log: Log = []
    since: list[dict[str, float]] = []
    started = time.perf_counter()
    model.train()
    for step, (images, tokens) in zip(range(1, settings.steps + 1), batches, strict=False):
        found = losses(model, images, tokens, settings)
        sum(found.values(), torch.zeros(())).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimiser in optimisers:
            for group in optimiser.param_groups:
                group["lr"] = settings.rate * _schedule(step, settings)
            optimiser.step()
            optimiser.zero_grad()
        with torch.no_grad():
            logit_scale.clamp_(0, math.log(100))
        since.append({key: value.item() for key, value in found.items()})
        if line := _reached(step, settings.steps):
            means = {key: round(sum(one[key] for one in since) / len(since), 4) for key in found}
            since.clear()
            checked = check(model) if line % 3 == 0 else {}
            log.append({"step": step, **means, **checked, "seconds": round(time.perf_counter() - started, 1)})
            print(json.dumps(log[-1]), flush=True)
    model.eval()
    return log


def _reached(step: int, steps: int) -> int:
    """Return which twelfth of the steps this one completes; 0 for none."""
    before, after = (step - 1) * LINES // steps, step * LINES // steps
    return after if after > before else 0


def _optimisers(model: nn.Module, settings: Settings) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside transformer blocks and pooler, AdamW for the rest; vectors and scalars do not decay.

    Muon (Jordan et al. 2024), scaled to AdamW's step sizes (Liu et al. 2025), learns here in half of AdamW's steps.
    """
    named = dict(model.named_parameters())
    matrices = {key for key, value in named.items() if value.ndim == 2 and ("resblocks" in key or "attn" in key)}
    decaying = [value for key, value in named.items() if key not in matrices and value.ndim >= 2]
    others = [value for value in named.values() if value.ndim < 2]
    groups = [{"params": decaying, "weight_decay": settings.decay}, {"params": others, "weight_decay": 0.0}]
    muon = torch.optim.Muon(
        [named[key] for key in sorted(matrices)],
        lr=settings.rate,
        weight_decay=settings.decay,
        adjust_lr_fn="match_rms_adamw",
    )
    return [muon, torch.optim.AdamW(groups, lr=settings.rate, betas=(0.9, 0.98))]


def _schedule(step: int, settings: Settings) -> float:
    """Linear warm-up, then a cosine to zero; in 0-1."""
    if step < settings.warmup:
        return step / settings.warmup
    done = (step - settings.warmup) / max(1, settings.steps - settings.warmup)
    return 0.5 * (1 + math.cos(math.pi * done))


class Trainer:
    """Trains the demo's models on one data set into the folders RUNS/NAME-SEED."""

    def __init__(self, training: Path, runs: Path) -> None:
        self._data = read_training_set(training)
        self._pictures = shrunk(self._data)
        self._merges = learn_merges(caption for captions in self._data.captions for caption in captions)
        self._runs = runs

    def run(self, name: str, settings: Settings) -> None:
        """Train one model with one seed, unless that is done; coca-captioner goes on from RUNS/coca-SEED."""
        folder = self._runs / f"{name}-{settings.seed}"
        if (folder / "log.json").is_file():
            return
        print(folder.name, flush=True)
        write_merges(folder / MERGES_FILE, self._merges)
        tokenizer = read_tokenizer(folder / MERGES_FILE, CONTEXT_LENGTH)
        torch.manual_seed(settings.seed)
        model = load(self._runs / f"coca-{settings.seed}", "coca") if name == "coca-captioner" else new_model(name)
        batches = Batches(self._data, self._pictures, tokenizer, settings)
        log = train(model, batches, settings, held_out(tokenizer, self._data, settings.styles))
        save(folder, name, model)
        text = json.dumps({"settings": asdict(settings), "log": log}, indent=1)
        (folder / "log.json").write_text(text + "\n", encoding="utf-8")


def main() -> None:
    """Train what is missing, seed by seed."""
    args = _parser().parse_args()
    torch.set_num_threads(args.threads)
    torch.set_flush_denormal(True)
    trainer = Trainer(args.training, args.out)
    changed: dict[str, Any] = {"styles": tuple(args.styles), **({"steps": args.steps} if args.steps else {})}
    for seed in args.seeds:
        for name in args.models:
            trainer.run(name, replace(RECIPES[name], seed=seed, **changed))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tools.demo.train", description=__doc__)
    parser.add_argument("--training", type=Path, required=True, help="what demo.build --training wrote")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run folders")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    parser.add_argument("--seeds", nargs="+", type=int, default=SEEDS)
    parser.add_argument("--steps", type=int, help="instead of the recipe's")
    parser.add_argument("--styles", nargs="+", choices=STYLES, default=STYLES, help="others are held out, and measured")
    parser.add_argument("--threads", type=int, default=1, help="the weights' bytes depend on it")
    return parser


if __name__ == "__main__":
    main()
