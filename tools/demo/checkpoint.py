"""Model folders: written here, read by open_clip's `local-dir:`."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from tools.demo.configs import PREPROCESS, model_config, new_model

CONFIG_FILE = "open_clip_config.json"
WEIGHTS_FILE = "open_clip_model.safetensors"
"""The first names that open_clip looks for in a model folder."""


def save(folder: Path, name: str, model: nn.Module) -> None:
    """Write config and float16 weights; the merges file is already there."""
    config = {"model_cfg": model_config(name), "preprocess_cfg": PREPROCESS}
    (folder / CONFIG_FILE).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    weights = {key: value.detach().half().contiguous() for key, value in model.state_dict().items()}
    save_file(weights, folder / WEIGHTS_FILE, metadata={"format": "pt"})


def load(folder: Path, name: str) -> nn.Module:
    """Read a model back, as stored, in float32: what a user gets."""
    model = new_model(name)
    model.load_state_dict({key: value.to(torch.float32) for key, value in load_file(folder / WEIGHTS_FILE).items()})
    return model.eval()
