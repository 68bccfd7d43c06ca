"""open_clip's trainer, with what it has no flag for: `python -m cocabench.train.launch [--architecture FILE] FLAGS…`

- An architecture of one's own, and its pad id in the caption loss (open_clip_train always takes 0).
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
from pathlib import Path
from typing import Any

from cocabench.core.helpers import end_with_starter

if __name__ == "__main__":
    end_with_starter()

import open_clip
import torch
from open_clip_train import main as trainer
from open_clip_train.params import parse_args
from PIL import EpsImagePlugin

from cocabench.core.files import parse_json
from cocabench.core.temporary import place_sockets
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
    config: Config = {}
    if words[:1] == ["--architecture"]:
        config = parse_json(Path(words[1]).read_text(encoding="utf-8"))["model_cfg"]
        words = words[2:]
        _register(config)
    adapt_trainer(config, captions_only=parse_args(words).coca_contrastive_loss_weight == 0)
    return int(trainer.main(words) or 0)


def _register(config: Config) -> None:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / f"{trainer_name(config)}.json").write_text(json.dumps(config), encoding="utf-8")
        open_clip.add_model_config(folder)


def adapt_trainer(config: Config, *, captions_only: bool) -> None:
    """Replace the loss and DistributedDataParallel of open_clip_train by ours."""
    create_loss, parallel = trainer.create_loss, torch.nn.parallel.DistributedDataParallel

    def loss_with_pad_id(args: Any) -> torch.nn.Module:
        loss: torch.nn.Module = create_loss(args)
        if isinstance(loss, open_clip.CoCaLoss):
            loss.caption_loss.ignore_index = config.get("pad_id", 0)
        return loss

    def parallel_anywhere(model: torch.nn.Module, device_ids: list[torch.device], **options: Any) -> torch.nn.Module:
        if captions_only and isinstance(model, open_clip.CoCa):
            freeze_idle(model)
        on_cpu = torch.device(device_ids[0]).type == "cpu"
        return parallel(model, device_ids=None if on_cpu else device_ids, **options)

    trainer.create_loss = loss_with_pad_id
    torch.nn.parallel.DistributedDataParallel = parallel_anywhere  # type: ignore[assignment, misc]


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
