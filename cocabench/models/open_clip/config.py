"""Validation of model configs. They come from folders, hubs, JSON files or recipes, and must not run code.

Only known keys are allowed; open_clip's own classes define them. Settings for which transformers and timm would load
code are refused, as are architectures of other repositories, and tokenizers or text towers whose files name a module.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Mapping
from typing import Any

from cocabench.core.errors import ModelError
from cocabench.models.open_clip.published import declared
from cocabench.models.remote_code import FIX, refuse_code
from cocabench.specs.spec import guess

Config = dict[str, Any]

TOKENIZER_KEYS = frozenset({
    "bpe_path", "additional_special_tokens", "clean", "reduction_mask", "strip_sep_token", "language",
    "add_bos_token", "add_eos_token", "add_prefix_space", "bos_token", "cls_token", "do_lower_case", "eos_token",
    "extra_ids", "legacy", "mask_token", "model_max_length", "pad_token", "padding_side", "sep_token", "src_lang",
    "strip_accents", "tgt_lang", "truncation_side", "unk_token", "use_fast",
})  # fmt: skip
"""Arguments of open_clip's tokenizers, and those of transformers' that shape text alone."""

NETWORKS = (("model", "CLIP"), ("model", "CustomTextCLIP"), ("coca_model", "CoCa"))
"""open_clip's classes, whose parameters are the keys of a config."""

TABLES: Mapping[str, Collection[str]] = {
    "vision_cfg": list(declared("model", "CLIPVisionCfg")),
    "text_cfg": list(declared("model", "CLIPTextCfg")),
    "multimodal_cfg": list(declared("coca_model", "MultimodalCfg")),
    "tokenizer_kwargs": TOKENIZER_KEYS,
    "act_kwargs": ["approximate"],
    "norm_kwargs": ["bias", "elementwise_affine", "eps"],
}

TEXT_PATHS = ("hf_model_name", "hf_tokenizer_name")
"""Names on the hub, or folders next to the config."""


def of_file(content: object, where: str) -> tuple[Config, Config]:
    """Return the model_cfg, checked, and the preprocess_cfg of what a file holds: both, or a model_cfg alone."""
    table = content.get("model_cfg", content) if isinstance(content, Mapping) else None
    needed = [key for key in ("embed_dim", "vision_cfg", "text_cfg") if not isinstance(table, dict) or key not in table]
    if needed or not isinstance(content, dict) or not isinstance(table, dict):
        raise ModelError(where, f"no {', '.join(needed)} in it", wanted="an open_clip architecture")
    refuse_code(content, where)
    preprocess = content.get("preprocess_cfg") or {}
    if not isinstance(preprocess, dict):
        raise ModelError(where, f"preprocess_cfg: got {json.dumps(preprocess)[:40]}", wanted="a table")
    _check_preprocess(preprocess, where)
    return checked(table, where), preprocess


CHOICES = {
    "mode": ("RGB",),
    "interpolation": ("bicubic", "bilinear", "random"),
    "resize_mode": ("shortest", "longest", "squash"),
}
"""What open_clip.transform takes."""


def _check_preprocess(preprocess: Config, where: str) -> None:
    """Raise ModelError for a value that open_clip's transforms cannot take; null stands for the default."""
    for key, value in preprocess.items():
        numbers = value if isinstance(value, list | tuple) else [value]
        plain = all(isinstance(k, int | float) and not isinstance(k, bool) and math.isfinite(k) for k in numbers)
        wanted = ""
        if key in CHOICES and value not in CHOICES[key]:
            wanted = " or ".join(CHOICES[key])
        elif key in ("mean", "std") and not (plain and len(numbers) in (1, 3) and (key == "mean" or min(numbers) > 0)):
            wanted = "three numbers" + (" above 0" if key == "std" else "")
        elif key == "size" and not (plain and len(numbers) in (1, 2) and all(k == int(k) > 0 for k in numbers)):
            wanted = "a side in pixels, or height and width"
        elif key == "fill_color" and not (plain and len(numbers) == 1):
            wanted = "a number"
        if wanted and value is not None:
            raise ModelError(where, f"preprocess_cfg.{key}: got {json.dumps(value)[:40]}", wanted=wanted)


def checked(config: Config, where: str) -> Config:
    """Return open_clip's model_cfg; ModelError for a key that is not known, or that could load code."""
    refuse_code(config, where)
    known = {name for network in NETWORKS for name in declared(*network)}
    _check_keys(config, {"custom_text", *known} - {"cast_dtype"}, where, "")
    for name in ("vision_cfg", "text_cfg"):
        _check_table(config.get(name), TABLES[name], where, name)
    if "multimodal_cfg" in config:
        _check_table(config["multimodal_cfg"], TABLES["multimodal_cfg"], where, "multimodal_cfg")
    timm = config["vision_cfg"].get("timm_model_name")
    if timm is not None and not (isinstance(timm, str) and re.fullmatch(r"[\w.-]*", timm)):
        raise ModelError(where, f"vision_cfg.timm_model_name: {timm!r}", wanted="the name of one of timm's own models")
    options = config["text_cfg"].get("tokenizer_kwargs") or {}
    for key, name in [(key, config["text_cfg"].get(key)) for key in TEXT_PATHS] + [
        ("bpe_path", options.get("bpe_path"))
    ]:
        if not isinstance(name, str | None):
            raise ModelError(where, f"text_cfg: {key}: got {json.dumps(name)[:40]}", wanted="a name or a path")
    if options.get("reduction_mask") == "syntax":
        got = "text_cfg.tokenizer_kwargs.reduction_mask: 'syntax' downloads pickled models of nltk"
        raise ModelError(where, got, fix=FIX)
    return config


def _check_table(table: object, known: Collection[str], where: str, name: str) -> None:
    if not isinstance(table, Mapping):
        raise ModelError(where, f"{name}: got {json.dumps(table)[:40]}", wanted="a table")
    _check_keys(table, known, where, f"{name}.")
    for key in ("tokenizer_kwargs", "act_kwargs", "norm_kwargs"):
        if table.get(key) is not None:
            _check_table(table[key], TABLES[key], where, f"{name}.{key}")


def _check_keys(table: Mapping[str, Any], known: Collection[str], where: str, prefix: str) -> None:
    if unknown := sorted(table.keys() - set(known)):
        raise ModelError(where, f"{prefix}{unknown[0]}: unknown key", fix=guess(unknown[0], sorted(known)))
