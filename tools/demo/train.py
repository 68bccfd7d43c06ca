"""Train the demo checkpoints: `python -m tools.demo.train --training FILE --out RUNS [--seeds 0 1 2 3 4]`.

Every run gets a folder RUNS/NAME-SEED that open_clip reads, with its `log.json`; runs that have one are left alone, and
an interrupted one resumes from its last 500 steps.
A loop of its own rather than open_clip's trainer, because the pictures stay in memory and are changed a batch at a
time: on one core, reading, decoding and augmenting files one by one would cost more than training.
"""

import argparse
import io
import json
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from cocabench.data.builtin import read_shards
from cocabench.demo import MODELS, data_files
from cocabench.results.store import write_atomically
from tools.demo.model import (
    CONTEXT_LENGTH,
    MERGES_FILE,
    PREPROCESS,
    learn_merges,
    load,
    new_model,
    read_tokenizer,
    save,
    write_merges,
)
from tools.demo.pictures import Batches, TrainingSet, read_training_set, shrunk
from tools.demo.recipes import RECIPES, SEEDS, Settings, optimisers, resolved, schedule
from tools.demo.sources import STYLES

Check = Callable[[nn.Module], dict[str, float]]
"""From a model to its hit rates in 0-1."""


@dataclass(frozen=True)
class Retrieval:
    """pixels: (n, 3, s, s); tokens: (m, context); owner: (m,) row of the image that each text belongs to."""

    pixels: Tensor
    tokens: Tensor
    owner: Tensor
    precision: str = "fp32"

    @torch.no_grad()
    def __call__(self, model: nn.Module) -> dict[str, float]:
        """Return the model's `recall_at_5`; its training mode is as before."""
        towers: Any = model
        training = model.training
        model.eval()
        with computing(self.precision):
            images = torch.cat([towers.encode_image(part, normalize=True) for part in self.pixels.split(256)])
            texts = torch.cat([towers.encode_text(part, normalize=True) for part in self.tokens.split(512)])
        model.train(training)
        return recall_at_5(images.float(), texts.float(), self.owner)


def held_out(tokenizer: Any, data: TrainingSet, styles: Sequence[str]) -> Retrieval:
    """Return the check on the training set's first style that is not among `styles`; on Twemoji if all are."""
    for column, style in enumerate(STYLES):
        if style not in styles:
            rows = data.drawn[:, column].nonzero()[0]
            pictures = [Image.fromarray(data.pictures[row, column]) for row in rows]
            return retrieval(tokenizer, pictures, [data.captions[row] for row in rows])
    return twemoji(tokenizer)


def twemoji(tokenizer: Any) -> Retrieval:
    """Return the check on the shipped drawings. No setting may be chosen by it."""
    records, pngs = zip(*read_shards(data_files()), strict=True)
    return retrieval(tokenizer, (Image.open(io.BytesIO(png)) for png in pngs), [one["captions"] for one in records])


def retrieval(tokenizer: Any, pictures: Iterable[Image.Image], captions: Sequence[Sequence[str]]) -> Retrieval:
    """Lay RGBA pictures on white, apply open_clip's own transform, and tokenise each picture's captions."""
    transform = image_transform_v2(PreprocessCfg(**PREPROCESS), is_train=False)
    pixels = torch.stack([transform(_on_white(picture)) for picture in pictures])
    owner = torch.tensor([row for row, own in enumerate(captions) for _ in own])
    return Retrieval(pixels, tokenizer([text for own in captions for text in own]), owner)


def recall_at_5(images: Tensor, texts: Tensor, owner: Tensor) -> dict[str, float]:
    """Return hit rates in 0-1: any own caption among the five best (i2t), the own image among the five best (t2i).

    images: (n, d); texts: (m, d), both unit; owner: (m,) row of the image that each text belongs to.
    """
    scores = texts @ images.T
    t2i = (scores.topk(5, dim=1).indices == owner[:, None]).any(dim=1).float().mean()
    best = scores.T.topk(5, dim=1).indices
    i2t = (owner[best] == torch.arange(len(images))[:, None]).any(dim=1).float().mean()
    return {"i2t_recall@5": round(i2t.item(), 4), "t2i_recall@5": round(t2i.item(), 4)}


def _on_white(picture: Image.Image) -> Image.Image:
    rgba = picture.convert("RGBA")
    white = Image.new("RGBA", rgba.size, "white")
    return Image.alpha_composite(white, rgba).convert("RGB")


PAD = 0
"""Id of the padding, in captions as in CoCaLoss."""

LINES = 12
"""Of a run's log."""

STEPS_PER_SAVE = 500

Log = list[dict[str, float]]


@contextmanager
def computing(precision: str) -> Iterator[None]:
    """Take matrix products in bf16 if asked to, then with attention written out: torch fuses bf16 attention slowly."""
    if precision != "bf16":
        yield
        return
    with torch.autocast("cpu", torch.bfloat16), sdpa_kernel(SDPBackend.MATH):
        yield


def losses(model: nn.Module, images: Tensor, tokens: Tensor, settings: Settings) -> dict[str, Tensor]:
    """Return the weighted losses of a batch: contrastive, between views if there are several, and CoCa's caption loss.

    images: (views * b, 3, s, s), view after view; tokens: (b, context). The caption loss is the mean over the tokens of
    all views that are not padding: CoCaLoss's, which takes a softmax over the padding too, at half a step's cost.
    """
    with computing(settings.precision):
        output = model(images, tokens.repeat(settings.views, 1))
    views = output["image_features"].float().unflatten(0, (settings.views, -1))
    texts, scale = output["text_features"][: len(tokens)].float(), output["logit_scale"]
    found = {"contrastive_loss": contrastive_loss(views, texts, scale) * settings.contrastive_weight}
    if settings.views > 1:
        pairs = [contrastive_loss(a[None], b, scale) for a, b in combinations(views, 2)]
        found["image_loss"] = torch.stack(pairs).mean() * settings.image_weight
    if "logits" in output:
        said = output["labels"] != PAD
        caption_loss = F.cross_entropy(output["logits"][said].float(), output["labels"][said])
        found["caption_loss"] = caption_loss * settings.caption_weight
    return found


def contrastive_loss(views: Tensor, others: Tensor, scale: Tensor) -> Tensor:
    """Return CLIP's symmetric loss, averaged over the views; each ranks the others, and is ranked for them.

    views: (v, b, d), others: (b, d), both unit; the k-th of each view belongs to the k-th of the others.
    """
    logits = scale * views @ others.T
    own = torch.arange(len(others)).repeat(len(views))
    return (F.cross_entropy(logits.flatten(0, 1), own) + F.cross_entropy(logits.mT.flatten(0, 1), own)) / 2


def train(model: nn.Module, batches: Batches, settings: Settings, check: Check, state: Path) -> Log:
    """Train a model in place; return twelve lines of mean losses and seconds, every third with what `check` says.

    Every 500 steps the training is saved in the file `state`; if that exists, the training resumes from it.
    """
    logit_scale = model.get_parameter("logit_scale")
    chosen = optimisers(model, settings)
    done, log, since, before = _resumed(state, model, chosen)
    started = time.perf_counter() - before
    model.train()
    for step in range(done + 1, settings.steps + 1):
        found = losses(model, *batches[step - 1], settings)
        sum(found.values(), torch.zeros(())).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimiser in chosen:
            for group in optimiser.param_groups:
                group["lr"] = settings.rate * schedule(step, settings)
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
        if step % STEPS_PER_SAVE == 0 and step < settings.steps:
            weights = {"model": model.state_dict(), "optimisers": [one.state_dict() for one in chosen]}
            progress = {"step": step, "log": log, "since": since, "seconds": time.perf_counter() - started}
            write_atomically(state, partial(torch.save, weights | progress))
    model.eval()
    return log


def _resumed(
    state: Path, model: nn.Module, chosen: Sequence[torch.optim.Optimizer]
) -> tuple[int, Log, list[dict[str, float]], float]:
    """Load a saved training, if there is one; return its steps, log, losses since the last line, and seconds."""
    if not state.is_file():
        return 0, [], [], 0.0
    saved = torch.load(state, weights_only=True)
    model.load_state_dict(saved["model"])
    for optimiser, own in zip(chosen, saved["optimisers"], strict=True):
        optimiser.load_state_dict(own)
    return saved["step"], saved["log"], saved["since"], saved["seconds"]


def _reached(step: int, steps: int) -> int:
    """Return which twelfth of the steps this one completes; 0 for none."""
    before, after = (step - 1) * LINES // steps, step * LINES // steps
    return after if after > before else 0


class Trainer:
    """Trains the demo's models on one data set into the folders RUNS/NAME-SEED."""

    def __init__(self, training: Path, runs: Path) -> None:
        self._data = read_training_set(training)
        self._pictures = shrunk(self._data)
        self._merges = learn_merges(caption for captions in self._data.captions for caption in captions)
        self._runs = runs

    def run(self, name: str, settings: Settings) -> None:
        """Train one model with one seed, unless that is done; coca-captioner continues from RUNS/coca-SEED."""
        settings = resolved(settings)
        folder = self._runs / f"{name}-{settings.seed}"
        if (folder / "log.json").is_file():
            return
        print(folder.name, flush=True)
        write_merges(folder / MERGES_FILE, self._merges)
        tokenizer = read_tokenizer(folder / MERGES_FILE, CONTEXT_LENGTH)
        torch.manual_seed(settings.seed)
        model = load(self._runs / f"coca-{settings.seed}", "coca") if name == "coca-captioner" else new_model(name)
        batches = Batches(self._data, self._pictures, tokenizer, settings)
        check = replace(held_out(tokenizer, self._data, settings.styles), precision=settings.precision)
        state = folder / "state.pt"
        log = train(model, batches, settings, check, state)
        save(folder, name, model)
        text = json.dumps({"settings": asdict(settings), "log": log}, indent=1)
        (folder / "log.json").write_text(text + "\n", encoding="utf-8")
        state.unlink(missing_ok=True)


def main() -> None:
    """Train what is missing, seed by seed."""
    args = _parser().parse_args()
    torch.set_num_threads(args.threads)
    torch.set_flush_denormal(True)
    trainer = Trainer(args.training, args.out)
    changed: dict[str, Any] = {"styles": tuple(args.styles), **dict(map(_setting, args.set))}
    for seed in args.seeds:
        for name in args.models:
            trainer.run(name, replace(RECIPES[name], seed=seed, **changed))


def _setting(text: str) -> tuple[str, int | float | str]:
    """Read KEY=VALUE by the type that the recipe's value has."""
    key, _, value = text.partition("=")
    kind: type = type(getattr(RECIPES["coca"], key))
    return key, kind(value)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tools.demo.train", description=__doc__)
    parser.add_argument("--training", type=Path, required=True, help="what demo.build --training wrote")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run folders")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    parser.add_argument("--seeds", nargs="+", type=int, default=SEEDS)
    parser.add_argument(
        "--set", nargs="+", default=[], metavar="KEY=VALUE", help="instead of the recipe's: views=1 ..."
    )
    parser.add_argument("--styles", nargs="+", choices=STYLES, default=STYLES, help="others are held out, and measured")
    parser.add_argument("--threads", type=int, default=1, help="the weights' bytes depend on it")
    return parser


if __name__ == "__main__":
    main()
