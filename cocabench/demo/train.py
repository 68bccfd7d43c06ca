"""Train the demo checkpoints: `python -m cocabench.demo.train --training FILE [--models coca clip] [--steps N]`."""

import argparse
import json
import math
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from open_clip.loss import ClipLoss, CoCaLoss
from torch import Tensor, nn

from cocabench.demo import MODELS
from cocabench.demo.batches import Batches, Settings
from cocabench.demo.bpe import learn_merges, read_tokenizer, write_merges
from cocabench.demo.checkpoint import load, save
from cocabench.demo.configs import CONTEXT_LENGTH, MERGES_FILE, new_model
from cocabench.demo.measure import seen_concepts, twemoji
from cocabench.demo.pictures import STYLES, TrainingSet, read_training_set

STEPS = 800
"""Steps of the shipped checkpoints."""


def losses(model: nn.Module, images: Tensor, tokens: Tensor) -> dict[str, Tensor]:
    """Return the model's losses: contrastive (weight 1) and, for CoCa, caption (weight 2); pad is id 0."""
    output = model(images, tokens)
    loss = CoCaLoss(caption_loss_weight=2, clip_loss_weight=1) if "logits" in output else ClipLoss()
    found: dict[str, Tensor] = loss(**output, output_dict=True)
    return found


def train(name: str, data: TrainingSet, tokenizer: Any, settings: Settings) -> tuple[nn.Module, list[dict[str, float]]]:
    """Train one model from scratch; return it with a log line for every 100 steps."""
    torch.manual_seed(settings.seed)
    model = new_model(name).train()
    logit_scale = model.get_parameter("logit_scale")
    optimiser = _optimiser(model, settings)
    log: list[dict[str, float]] = []
    started = time.perf_counter()
    for step, (images, tokens) in enumerate(Batches(data, tokenizer, settings), start=1):
        for group in optimiser.param_groups:
            group["lr"] = settings.rate * _schedule(step, settings)
        found = losses(model, images, tokens)
        optimiser.zero_grad()
        sum(found.values(), torch.zeros(())).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        with torch.no_grad():
            logit_scale.clamp_(0, math.log(100))
        if step % 100 == 0 or step == settings.steps:
            values = {key: round(value.item(), 4) for key, value in found.items()}
            log.append({"step": step, **values, "seconds": round(time.perf_counter() - started, 1)})
            print(name, json.dumps(log[-1]), flush=True)
        if step == settings.steps:
            break
    return model.eval(), log


def _optimiser(model: nn.Module, settings: Settings) -> torch.optim.Optimizer:
    """AdamW; gains, biases and the logit scale do not decay."""
    decaying = [value for value in model.parameters() if value.ndim >= 2]
    others = [value for value in model.parameters() if value.ndim < 2]
    groups = [{"params": decaying, "weight_decay": settings.decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=settings.rate, betas=(0.9, 0.98))


def _schedule(step: int, settings: Settings) -> float:
    """Linear warm-up, then a cosine to zero; in 0-1."""
    if step < settings.warmup:
        return step / settings.warmup
    done = (step - settings.warmup) / max(1, settings.steps - settings.warmup)
    return 0.5 * (1 + math.cos(math.pi * done))


def main() -> None:
    """Train, save, read back and measure."""
    args = _parser().parse_args()
    torch.set_num_threads(args.threads)
    torch.set_flush_denormal(True)
    data = read_training_set(args.training)
    merges = learn_merges(caption for captions in data.captions for caption in captions)
    settings = Settings(steps=args.steps, styles=tuple(args.styles))
    for name in args.models:
        folder = args.out / name
        write_merges(folder / MERGES_FILE, merges)
        tokenizer = read_tokenizer(folder / MERGES_FILE, CONTEXT_LENGTH)
        model, steps = train(name, data, tokenizer, settings)
        save(folder, name, model)
        stored = load(folder, name)
        log = {"settings": asdict(settings), "steps": steps, "styles": seen_concepts(stored, tokenizer, data)}
        if args.final:
            log["twemoji"] = twemoji(stored, tokenizer)
        _add_to_log(args.out / "training_log.json", name, log)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m cocabench.demo.train", description=__doc__)
    parser.add_argument("--training", type=Path, required=True, help="what demo.build --training wrote")
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent / "models", help="folder of the model folders"
    )
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--styles", nargs="+", choices=STYLES, default=STYLES, help="others are held out")
    parser.add_argument("--threads", type=int, default=1, help="the weights' bytes depend on it")
    parser.add_argument("--final", action="store_true", help="also measure on Twemoji; choose no setting by that")
    return parser


def _add_to_log(path: Path, name: str, log: dict[str, Any]) -> None:
    """Set one model's entry of the JSON log, keeping the others."""
    entries = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    ordered = dict(sorted({**entries, name: log}.items()))
    path.write_text(json.dumps(ordered, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
