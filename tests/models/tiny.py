"""Tiny architectures for tests: a model folder or an architecture's JSON, with random weights that are then saved."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from cocabench.models.open_clip.blueprint import blueprint
from cocabench.models.open_clip.build import build_network
from cocabench.specs.spec import parse_model

VISION = {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16}
TEXT = {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
CLIP: dict[str, Any] = {"embed_dim": 16, "vision_cfg": VISION, "text_cfg": TEXT}
COCA: dict[str, Any] = {
    "embed_dim": 32,
    "vision_cfg": {**VISION, "attentional_pool": True, "attn_pooler_heads": 2, "output_tokens": True},
    "text_cfg": {**TEXT, "embed_cls": True, "output_tokens": True},
    "multimodal_cfg": {**TEXT, "attn_pooler_heads": 2},
    "custom_text": True,
}


def write_architecture(path: Path, config: dict[str, Any]) -> Path:
    path.write_text(json.dumps(config))
    return path


def random_network(folder: Path, config: dict[str, Any], seed: int = 0) -> Any:
    path = write_architecture(folder / "arch.json", config)
    return build_network(blueprint(parse_model(f"{path}:random@{seed}")))


def write_folder(folder: Path, config: dict[str, Any], seed: int = 0) -> Path:
    """Write a model folder as open_clip's local-dir: reads it."""
    folder.mkdir(parents=True, exist_ok=True)
    net = random_network(folder, config, seed)
    (folder / "arch.json").rename(folder / "open_clip_config.json")
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {}}))
    save_file({k: v.contiguous() for k, v in net.state_dict().items()}, folder / "open_clip_model.safetensors")
    return folder


def write_training_checkpoint(path: Path, net: torch.nn.Module) -> Path:
    """Write what open_clip_train writes: a module. prefix, an optimizer's state, an epoch."""
    optimizer = torch.optim.AdamW(net.parameters())
    state = {f"module.{k}": v for k, v in net.state_dict().items()}
    torch.save({"epoch": 5, "name": "run", "state_dict": state, "optimizer": optimizer.state_dict()}, path)
    return path
