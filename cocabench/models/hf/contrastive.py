"""CLIP, SigLIP, SigLIP2, ALIGN, AltCLIP and Chinese-CLIP of transformers: features of images and texts."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import partial
from inspect import signature
from typing import Any

import torch
from torch import Tensor

from cocabench.models.base import Model
from cocabench.models.contexts import evaluating
from cocabench.models.hardware import Hardware
from cocabench.models.hf.families import Cleaning, Usage
from cocabench.models.hf.images import patches_of, pixels_of
from cocabench.models.hf.texts import Texts, cleaned, end_read_by
from cocabench.models.tokens import TokenCounts


class HFContrastive(Model):
    """A network with ``get_image_features`` and ``get_text_features`` on its device.

    Features take no logit scale and bias: they move no ranking. The network may be in training mode, and in half
    precision.
    """

    def __init__(
        self,
        id: str,  # noqa: A002
        net: Any,
        image_processor: Any,
        tokenizer: Any,
        use: Usage,
        hardware: Hardware,
    ) -> None:
        transform = partial(patches_of if use.family.patches else pixels_of, image_processor)
        super().__init__(id, transform, hardware, parameters=tower_parameters(net, "text_encoder"))
        self.net, self._dtype = net, next(net.parameters()).dtype
        self._prompt_cleaning: Cleaning = "canonical" if use.cleaning else ""
        self.texts = Texts(
            id,
            tokenizer,
            use,
            frozenset(signature(net.get_text_features).parameters),
            int(net.config.text_config.vocab_size),
            end_read_by(net.config, tokenizer),
        )

    def logit_scale(self) -> float:
        """Return the factor of cosines that the network has learned; ALIGN divides by a temperature."""
        if hasattr(self.net, "temperature"):
            return 1 / float(self.net.temperature.detach())
        return float(self.net.logit_scale.detach().exp())

    def computing(self) -> AbstractContextManager[None]:
        """Compute in evaluation mode."""
        return evaluating(self.net)

    def encode_image_batch(self, pixels: Any) -> Tensor:
        """Return the unnormalized projected features."""
        return features_of(self.net.get_image_features(**self._inputs(pixels)))

    def pooled_image_batch(self, pixels: Any) -> Tensor:
        """Return the features before the projection; a SigLIP and an ALIGN have none behind their pooling."""
        return features_of(self.net.vision_model(**self._inputs(pixels)))

    def encode_text_batch(self, texts: list[str]) -> Tensor:
        """Return the unnormalized projected features."""
        inputs = self.texts(texts)
        self.check_ids(inputs["input_ids"], self.texts.vocabulary)
        return features_of(self.net.get_text_features(**{k: v.to(self.hardware.device) for k, v in inputs.items()}))

    def count_tokens(self, texts: Sequence[str]) -> TokenCounts | None:
        """Return how many tokens texts have before they are cut to the context of the text tower."""
        return self.texts.counts(texts)

    def class_prompt(self, text: str) -> str:
        """Return the canonical form for a SigLIP or SigLIP2, with which their authors evaluate class prompts."""
        return cleaned(text, self._prompt_cleaning)

    def _inputs(self, pixels: Any) -> dict[str, Tensor]:
        """Return the inputs of the image tower: pixels (k, 3, h, w), or a list of k tables of patches and masks."""
        if isinstance(pixels, Tensor):
            return {"pixel_values": pixels.to(self._dtype)}
        stacked = {name: torch.stack([one[name] for one in pixels]) for name in pixels[0]}
        found = {name: tensor.to(self.hardware.device) for name, tensor in stacked.items()}
        return {**found, "pixel_values": found["pixel_values"].to(self._dtype)}


def features_of(output: Any) -> Tensor:
    """Return the features of what a network returns: a tensor in transformers 4, an object that holds it in 5."""
    return torch.as_tensor(output if isinstance(output, Tensor) else output.pooler_output)


def tower_parameters(net: torch.nn.Module, rest: str) -> dict[str, int]:
    """Return the number of parameters of the image tower, its projection included, and of the rest but the logits'."""
    counts = {"image_encoder": 0, rest: 0}
    for name, parameter in net.named_parameters():
        if name not in ("logit_scale", "logit_bias", "temperature"):
            image = any(part.startswith(("vision_", "visual_", "image_")) for part in name.split(".")[:2])
            counts["image_encoder" if image else rest] += parameter.numel()
    return counts
