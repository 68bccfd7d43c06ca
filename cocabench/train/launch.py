"""open_clip's trainer, with what it has no flag for.

`python -m cocabench.train.launch [--architecture FILE] [--answers-after TEXT] FLAGS…`

- An architecture of one's own, and its pad id in the caption loss (open_clip_train always takes 0).
- A caption loss of the answers alone, in captions that begin with a question.
- Several processes on a CPU (it hands DistributedDataParallel a device index, which is for GPUs).
- No Ghostscript: it opens images with Pillow, which starts that program for an EPS by any name.
- Data workers whose sockets need another folder than TMPDIR, where its path is too long.
- Several processes without the contrastive loss: the parameters that the caption loss does not reach are frozen, as
  they are in a single process, where they get no gradient; DistributedDataParallel would wait for them forever.
"""

from __future__ import annotations

import json
import logging
import sys
import tempfile
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from cocabench.core.helpers import end_with_starter

if __name__ == "__main__":
    end_with_starter()

import open_clip
import torch
from open_clip_train import main as trainer
from open_clip_train.params import parse_args
from PIL import EpsImagePlugin

from cocabench.core.errors import DataError
from cocabench.core.files import parse_json
from cocabench.core.temporary import place_sockets
from cocabench.models.open_clip.captions import inner_words, special_ids
from cocabench.models.training import batch_for, tokens_of

Config = dict[str, Any]


def trainer_name(config: Config) -> str:
    """Return a name from which open_clip_train draws the right conclusions.

    It chooses the loss by "coca" in the name and AdamW's betas by "vit", so an architecture's own name may mislead it.
    """
    tower = "RN" if isinstance(config["vision_cfg"].get("layers"), list) else "ViT"
    return f"{'coca' if 'multimodal_cfg' in config else 'clip'}_{tower}-own"


def main(words: list[str]) -> int:
    """Train; return the exit code."""
    place_sockets()
    logging.raiseExceptions = False  # on a full disk each line of the log would print a traceback
    own: dict[str, str] = {}
    while words[:1] in (["--architecture"], ["--answers-after"]):
        own[words[0]], words = words[1], words[2:]
    config: Config = {}
    if path := own.get("--architecture"):
        config = parse_json(Path(path).read_text(encoding="utf-8"))["model_cfg"]
        _register(config)
    args = parse_args(words)
    marker = marker_of(args.model, own.get("--answers-after", ""), config.get("pad_id", 0))
    adapt_trainer(config, captions_only=args.coca_contrastive_loss_weight == 0, marker=marker)
    return int(trainer.main(words) or 0)


def _register(config: Config) -> None:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / f"{trainer_name(config)}.json").write_text(json.dumps(config), encoding="utf-8")
        open_clip.add_model_config(folder)


def marker_of(model: str, text: str, pad_id: int) -> list[int]:
    """Return the tokens of the text after which answers begin, by the tokenizer of one of open_clip's names."""
    if not text:
        return []
    tokenizer = open_clip.get_tokenizer(model)
    return inner_words(tokenizer([text])[0].tolist(), special_ids(tokenizer, SimpleNamespace(pad_id=pad_id)))


def only_answers(labels: torch.Tensor, marker: list[int], ignored: int) -> torch.Tensor:
    """Return labels (b, n) with the id ignored in the place of all up to the first marker, and of rows without one.

    A caption lacks the marker where its question fills the context. DataError if none of the rows has it.
    """
    found = (labels.unfold(1, len(marker), 1) == torch.tensor(marker, device=labels.device)).all(-1)
    if not found.any():
        got = f"none of {len(labels)} captions of a batch has the tokens {marker} of answers_after"
        raise DataError("train_data", got, wanted="captions as the template makes them, shorter than the context")
    first = torch.where(found.any(1), found.long().argmax(1) + len(marker), labels.shape[1])
    return labels.masked_fill(torch.arange(labels.shape[1], device=labels.device) < first[:, None], ignored)


def adapt_trainer(config: Config, *, captions_only: bool, marker: list[int]) -> None:
    """Replace the loss and DistributedDataParallel of open_clip_train by ours."""
    create_loss, parallel = trainer.create_loss, torch.nn.parallel.DistributedDataParallel

    def loss_with_pad_id(args: Any) -> torch.nn.Module:
        loss: torch.nn.Module = create_loss(args)
        if isinstance(loss, open_clip.CoCaLoss):
            ignored = loss.caption_loss.ignore_index = config.get("pad_id", 0)
            if marker:
                loss.register_forward_pre_hook(partial(_hide_questions, marker, ignored), with_kwargs=True)
        return loss

    def parallel_anywhere(model: torch.nn.Module, device_ids: list[torch.device], **options: Any) -> torch.nn.Module:
        if captions_only and isinstance(model, open_clip.CoCa):
            freeze_idle(model)
        on_cpu = torch.device(device_ids[0]).type == "cpu"
        return parallel(model, device_ids=None if on_cpu else device_ids, **options)

    trainer.create_loss = loss_with_pad_id
    torch.nn.parallel.DistributedDataParallel = parallel_anywhere  # type: ignore[assignment, misc]


def _hide_questions(
    marker: list[int], ignored: int, loss: torch.nn.Module, args: tuple[Any, ...], given: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Hide the questions from a loss that is called with labels."""
    return args, {**given, "labels": only_answers(given["labels"], marker, ignored)}


def freeze_idle(model: Any) -> None:
    """Freeze the parameters to which no gradient flows from the captions' logits."""
    first = next(model.visual.parameters())
    images, texts = batch_for(model, 2, first.device, tokens=tokens_of(model))
    output = model(images.to(first.dtype), texts)
    wanted = [p for p in model.parameters() if p.requires_grad]
    found = torch.autograd.grad(output["logits"].float().sum(), wanted, allow_unused=True)
    for parameter, gradient in zip(wanted, found, strict=True):
        parameter.requires_grad_(gradient is not None)


if __name__ in ("__main__", "__mp_main__"):  # the second in its data workers, where they do not inherit it
    EpsImagePlugin.gs_binary = False

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
