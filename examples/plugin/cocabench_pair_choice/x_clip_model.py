"""lucidrains' x-clip as a model of cocabench: `--model x_clip::FOLDER`, of config.json and weights.safetensors."""

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from PIL import Image
from safetensors.torch import load_file
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor
from x_clip import CLIP
from x_clip.tokenizer import tokenizer

from cocabench.core.errors import ModelError
from cocabench.core.signature import digest_file
from cocabench.models.base import Model
from cocabench.models.hardware import Hardware
from cocabench.specs.spec import ModelSpec


@dataclass(frozen=True)
class Source:
    id: str
    folder: Path
    notes: tuple[()] = ()
    abilities: ClassVar = frozenset({"encode"})
    available: ClassVar = True
    packages: ClassVar = ("cocabench-pair-choice", "pillow", "torch", "torchvision", "x-clip")
    features_version: ClassVar = 1

    def signature(self) -> dict[str, Any]:
        config, weights = (digest_file(self.folder / name) for name in ("config.json", "weights.safetensors"))
        own = {"preprocess": "square, 0 to 1", "vocabulary": "x-clip's"}
        return {"id": self.id, "weights": weights, "config": config, **own}

    def load(self, hardware: Hardware) -> "XClip":
        config = json.loads((self.folder / "config.json").read_text(encoding="utf-8"))
        net = CLIP(**config)
        net.load_state_dict(load_file(self.folder / "weights.safetensors"))
        return XClip(self.id, net.to(hardware.device).eval(), config.get("text_seq_len", 256), hardware)


class XClip(Model):
    def __init__(self, name: str, net: Any, length: int, hardware: Hardware) -> None:
        super().__init__(name, partial(pixels_of, net.image_size), hardware)
        if net.use_all_token_embeds or net.extra_latent_projection or net.text_causal_mask:
            raise ModelError(name, "an x-clip of several rows per item", wanted="one that compares CLS tokens")
        self.net, self.tokens = net, partial(tokenizer.tokenize, context_length=length, truncate_text=True)

    def encode_image_batch(self, pixels: Tensor) -> Tensor:  # of any scale: the base class makes unit rows
        return self.net.to_visual_latent(self.net.visual_transformer(pixels)[:, 0])

    def encode_text_batch(self, texts: list[str]) -> Tensor:
        ids = self.tokens(texts, pad_to_context_length=True).to(self.hardware.device)
        return self.net.to_text_latent(self.net.text_transformer(ids, ids != self.net.text_pad_id)[:, 0])


def pixels_of(size: int, image: Image.Image) -> Tensor:  # at module level: it is pickled to the workers
    return pil_to_tensor(image.convert("RGB").resize((size, size), Image.Resampling.BICUBIC)).float() / 255


def sources(spec: ModelSpec, *, download: bool = True) -> list[Source]:
    if not (Path(spec.weights) / "config.json").is_file():
        raise ModelError(spec.text, "no config.json there", wanted="a folder with config.json and weights.safetensors")
    return [Source(f"x_clip::{spec.weights}", Path(spec.weights))]
