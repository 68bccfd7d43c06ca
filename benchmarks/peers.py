"""What the encoding rows share: a network with seeded random weights, the same for both sides."""

from __future__ import annotations

from typing import Any

import torch

from benchmarks.sides import Options


def random_model(options: Options) -> Any:
    """Return cocabench's model of the architecture --model, whose ``net`` and ``tokenizer`` are open_clip's own."""
    from cocabench.models.hardware import hardware
    from cocabench.registry import model_plans
    from cocabench.spec import parse_models

    torch.set_num_threads(options.threads)
    (plan,) = model_plans(parse_models(f"{options.model}:random@0"))
    return plan.load(hardware(device="cpu", precision="fp32"))


def unit_features(model: Any, texts: list[str]) -> torch.Tensor:
    """Encode texts as ``cocabench run`` does, without its cache."""
    from cocabench.models.text import encode_texts

    with model.hardware.exactly():
        return torch.nn.functional.normalize(encode_texts(model.net, model.tokenizer, texts), dim=-1)
