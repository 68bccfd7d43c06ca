"""Build a Blueprint's open_clip network, tokenizer and image transform."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from functools import cache
from typing import Any, Protocol, cast

import open_clip
import torch
from open_clip import hf_model
from open_clip.coca_model import CoCa
from open_clip.tokenizer import DEFAULT_CONTEXT_LENGTH, HFTokenizer, SimpleTokenizer
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image

from cocabench.core.errors import ModelError, first_line
from cocabench.core.temporary import temporary_folder
from cocabench.core.types import Note, unnoted
from cocabench.models.open_clip.blueprint import Blueprint
from cocabench.models.open_clip.checkpoint import load
from cocabench.models.open_clip.config import Config
from cocabench.models.open_clip.languages import LanguageTokenizer, takes_language
from cocabench.models.open_clip.weights import OPEN_CLIP_LOCK, quiet
from cocabench.models.pixels import Transform, with_resize
from cocabench.models.remote_code import refuse_code


class Tokenizer(Protocol):
    """open_clip's tokenizers: texts -> (n, context_length) int64."""

    context_length: int

    def __call__(self, texts: list[str]) -> torch.Tensor: ...


def build_network(plan: Blueprint, *, note: Callable[[Note], None] = unnoted) -> Any:
    """Return the network in eval mode, on the CPU, float32, with its weights or with reproducible random ones.

    note: called with notes on the weights.
    """
    if plan.parts:
        return _mixed(plan, note)
    with OPEN_CLIP_LOCK, torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan.seed or 0)
        net = _architecture(plan)
        if plan.weights is None:
            _initialise_the_rest(net)
    if plan.weights is not None:
        for said in load(net, plan.weights, plan.inside):
            note(said)
    return net.eval()


@torch.no_grad()
def _mixed(plan: Blueprint, note: Callable[[Note], None]) -> Any:
    """Return the network whose weights are the sum of each part's times its share, in float32, part by part.

    That is what the authors of model soups and of WiSE-FT compute. Counts (integers) are the first part's.
    """
    total: dict[str, torch.Tensor] = {}
    for part, share in zip(plan.parts, plan.shares, strict=True):
        net = build_network(part, note=note)
        for name, value in net.state_dict().items():
            if not value.is_floating_point():
                total.setdefault(name, value)
            else:
                total[name] = total[name] + share * value if name in total else share * value
    if any(name.endswith("running_var") for name in total):
        said = "the statistics of batch normalisation are mixed like weights; those of the mixed network would differ"
        note(Note("model", said))
    net.load_state_dict(total)
    return net


BAD_CONFIG = (OSError, RuntimeError, ValueError, TypeError, AssertionError, KeyError, AttributeError, ArithmeticError)
"""What open_clip raises for a config that it cannot build."""


def meta_network(plan: Blueprint) -> Any:
    """Return the network on torch's meta device: shapes without memory."""
    with torch.device("meta"):
        return _architecture(plan, device="meta")


def _architecture(plan: Blueprint, *, device: str = "cpu") -> Any:
    """Let open_clip build from a folder's config, which works for any architecture without registering it."""
    with temporary_folder("cocabench-model-") as folder, quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        config = {"model_cfg": plan.config, "preprocess_cfg": plan.preprocess}
        (folder / "open_clip_config.json").write_text(json.dumps(config), encoding="utf-8")
        try:
            _check_text_tower(plan)
            net = open_clip.create_model(
                f"local-dir:{folder}", device=device, load_weights=False, pretrained_text=False
            )
        except BAD_CONFIG as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            fix = "check its config; a Hugging Face text tower needs its config from the hub or in the model's folder"
            raise ModelError(f"--model {plan.id}", f"open_clip cannot build it ({reason[:200]})", fix=fix) from error
    return net


def _check_text_tower(plan: Blueprint) -> None:
    """Raise ModelError where the config of a text tower on the hub names code; open_clip asks at the terminal."""
    name = plan.config["text_cfg"].get("hf_model_name")
    if name and hf_model.transformers is not None:
        found = hf_model.AutoConfig.from_pretrained(name, trust_remote_code=False)
        refuse_code(found.to_dict(), f"--model {plan.id}: {name}")


def _initialise_the_rest(net: torch.nn.Module) -> None:
    """Fill the one parameter that open_clip leaves uninitialised: CoCa's output projection (3.3.0, ``torch.empty``)."""
    if isinstance(net, CoCa) and net.text_decoder.text_projection is not None:
        torch.nn.init.normal_(net.text_decoder.text_projection, std=net.text_decoder.text_projection.shape[0] ** -0.5)


def build_tokenizer(plan: Blueprint) -> Tokenizer:
    """Return the tokenizer with the context length of the text tower (76 for CoCa, which appends a CLS token)."""
    try:
        with quiet():
            made = _tokenizer(plan.tokenizer, plan.config)
    except BAD_CONFIG as error:
        reason = (str(error) or type(error).__name__).splitlines()[0][:160]
        fix = "it must be on the hub, or in the model's folder"
        raise ModelError(f"--model {plan.id}", f"no tokenizer ({reason})", fix=fix) from error
    return LanguageTokenizer(plan.id, made) if takes_language(plan.config) else cast(Tokenizer, made)


def _tokenizer(architecture: str, config: Config) -> Any:
    """Return the tokenizer of one of open_clip's architectures, else the one that the (checked) config describes."""
    text: dict[str, Any] = config["text_cfg"]
    from_hub = text.get("hf_tokenizer_name")
    safe = {"trust_remote_code": False} if from_hub else {}
    if architecture and ":" not in architecture:
        return open_clip.get_tokenizer(architecture, **safe)
    length, options = text.get("context_length", DEFAULT_CONTEXT_LENGTH), text.get("tokenizer_kwargs") or {}
    if from_hub:
        mode = text.get("tokenizer_mode")
        return HFTokenizer(from_hub, context_length=length, tokenizer_mode=mode, **options, **safe)
    return SimpleTokenizer(context_length=length, **options) if options else _simple_tokenizer(length)


@cache
def _simple_tokenizer(length: int) -> SimpleTokenizer:
    """Return open_clip's tokenizer; made once, since reading its merges takes 0.13 s."""
    return SimpleTokenizer(context_length=length)


def build_transform(settings: Config, resize: str = "own") -> Transform:
    """Return open_clip's own evaluation transform; ModelError if it cannot work, or not with this --resize.

    settings: PreprocessCfg's fields, a network's ``visual.preprocess_cfg``.
    """
    try:
        made = cast(Transform, image_transform_v2(PreprocessCfg(**settings), is_train=False))
        made(Image.new("RGB", (40, 30)))
    except Exception as error:  # noqa: BLE001 — the settings are data
        raise ModelError(f"preprocessing {settings}", f"it fails ({first_line(error)})") from None
    return with_resize(made, resize)


def tower_parameters(net: torch.nn.Module) -> dict[str, int]:
    """Return the number of parameters per tower, as in table 3 of the CoCa blog: image, text, and a CoCa's decoder."""
    parts = {"image_encoder": "visual.", "text_decoder": "text_decoder."}
    counts = dict.fromkeys(("image_encoder", "text_encoder", "text_decoder"), 0)
    for name, parameter in net.named_parameters():
        tower = next((tower for tower, prefix in parts.items() if name.startswith(prefix)), "text_encoder")
        counts[tower] += 0 if name in ("logit_scale", "logit_bias") else parameter.numel()
    return {tower: n for tower, n in counts.items() if n}


def vocabulary(net: Any) -> int:
    """Return the size of the text tower's vocabulary."""
    text = getattr(net, "text", net)
    if hasattr(text, "token_embedding"):
        return int(text.token_embedding.weight.shape[0])
    return int(text.transformer.get_input_embeddings().weight.shape[0])
