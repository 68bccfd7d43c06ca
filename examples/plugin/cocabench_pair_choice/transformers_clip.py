"""A transformers CLIPModel as a model of cocabench: `--model transformers::FOLDER`, from save_pretrained's files."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from PIL import Image
from torch import Tensor
from transformers import AutoModel, AutoProcessor

from cocabench.core.signature import digest, digest_file
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
    packages: ClassVar = ("pillow", "tokenizers", "torch", "transformers")
    features_version: ClassVar = 1

    def signature(self) -> dict[str, Any]:  # of weights, config, tokenizer and image processor
        return {"id": self.id, "files": digest({p.name: digest_file(p) for p in sorted(self.folder.glob("*.*"))})}

    def load(self, hardware: Hardware) -> "HFClip":
        net = AutoModel.from_pretrained(self.folder, trust_remote_code=False).to(hardware.device).eval()
        return HFClip(self.id, net, AutoProcessor.from_pretrained(self.folder, trust_remote_code=False), hardware)


class HFClip(Model):
    def __init__(self, name: str, net: Any, processor: Any, hardware: Hardware) -> None:
        super().__init__(name, partial(pixels_of, processor.image_processor), hardware)
        for tower, part in (("image_encoder", net.vision_model), ("text_encoder", net.text_model)):
            self.parameters[tower] = sum(parameter.numel() for parameter in part.parameters())
        self.net, self.tokenizer = net, processor.tokenizer

    def pooled_image_batch(self, pixels: Tensor) -> Tensor:
        return self.net.vision_model(pixel_values=pixels).pooler_output

    def encode_image_batch(self, pixels: Tensor) -> Tensor:
        return self.net.visual_projection(self.pooled_image_batch(pixels))

    def encode_text_batch(self, texts: list[str]) -> Tensor:
        length = self.net.config.text_config.max_position_embeddings
        inputs = self.tokenizer(texts, padding="max_length", truncation=True, max_length=length, return_tensors="pt")
        return self.net.text_projection(self.net.text_model(**inputs.to(self.hardware.device)).pooler_output)


def pixels_of(processor: Any, image: Image.Image) -> Tensor:
    return processor(image.convert("RGB"), return_tensors="pt")["pixel_values"][0]


def sources(spec: ModelSpec, *, download: bool = True) -> list[Source]:
    return [Source(f"transformers::{spec.weights}", Path(spec.weights))]
