"""What the encoding rows share: a network with seeded random weights, the same for both sides."""

from __future__ import annotations

from typing import Any

import torch

from benchmarks.sides import Options


def random_model(options: Options) -> Any:
    """Return cocabench's model of the architecture --model."""
    from cocabench.models.hardware import hardware

    return _plan(options).load(hardware(device="cpu", precision="fp32"))


def peer(options: Options) -> tuple[Any, Any]:
    """Return the same network as open_clip builds it, and its tokenizer."""
    from cocabench.models.open_clip.build import build_network, build_tokenizer

    plan = _plan(options)
    return build_network(plan), build_tokenizer(plan)


def _plan(options: Options) -> Any:
    from cocabench.specs.registry import model_sources
    from cocabench.specs.spec import parse_models

    torch.set_num_threads(options.threads)
    (plan,) = model_sources(parse_models(f"{options.model}:random@0"))
    return plan


def unit_features(model: Any, texts: list[str]) -> torch.Tensor:
    """Encode texts as ``cocabench run`` does, without its cache."""
    from cocabench.models.contexts import in_precision
    from cocabench.models.open_clip.text import encode_texts

    with in_precision(model.hardware):
        return torch.nn.functional.normalize(encode_texts(model.net, model.tokenizer, texts), dim=-1)
