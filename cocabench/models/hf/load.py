"""Load a Source's network, tokenizer and image processor, and put them together."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from packaging.version import Version
from PIL import Image
from torch import Tensor

from cocabench.core.errors import ModelError, first_line
from cocabench.models.base import Model, check_finite_weights
from cocabench.models.hardware import Hardware
from cocabench.models.hf.captioner import HFCaptioner
from cocabench.models.hf.contrastive import HFContrastive
from cocabench.models.hf.families import Usage
from cocabench.models.hf.images import patches_of, pixels_of

FIVE = Version(transformers.__version__) >= Version("5.0.0.dev0")

FLOAT32: Mapping[str, Any] = {"dtype" if FIVE else "torch_dtype": torch.float32}
"""Weights are loaded as they are stored: 5 would round to the dtype that config.json names."""

BY_PILLOW: Mapping[str, Any] = {"backend": "pil"} if FIVE else {"use_fast": False}
"""Images are resized by Pillow, as in training and in transformers 4; 5's own default differs by some grey levels."""

IGNORED_WEIGHTS = ("position_ids",)
"""Buffers that older versions stored."""


def loaded(name: str, folder: Path, use: Usage, hardware: Hardware) -> Model:
    """Return the model in a folder on its device; ModelError if a part cannot be loaded."""
    where = f"--model {name}"
    with _quiet():
        net = _network(where, folder, use.family.network)
        processor = _part(where, "the image processor", transformers.AutoImageProcessor, folder, **BY_PILLOW)
        _check_processor(where, processor, net, use)
        tokenizer = _part(where, "the tokenizer", transformers.AutoTokenizer, folder)
    return assembled(name, net.to(hardware.device), processor, tokenizer, use, hardware)


def assembled(name: str, net: Any, processor: Any, tokenizer: Any, use: Usage, hardware: Hardware) -> Model:
    """Return a network, its image processor and its tokenizer as a model."""
    kind = HFCaptioner if "caption" in use.family.abilities else HFContrastive
    return kind(name, net, processor, tokenizer, use, hardware)


def _network(where: str, folder: Path, network: str) -> Any:
    """Return the network with all of its weights; transformers would fill missing ones at random and only warn."""
    try:
        net, info = getattr(transformers, network).from_pretrained(
            str(folder), trust_remote_code=False, local_files_only=True, output_loading_info=True, **FLOAT32
        )
    except Exception as error:  # noqa: BLE001 — a config and weights are data, of which its parts raise anything
        if isinstance(error, pickle.UnpicklingError) or "weights_only" in str(error):
            got, fix = "a pickle that would run code", "if you trust it, save it again as safetensors"
            raise ModelError(where, got, wanted="weights only", fix=fix) from None
        raise ModelError(where, f"transformers cannot load it ({first_line(error)})") from None
    for what, names in (("missing", info["missing_keys"]), ("of another shape", info["mismatched_keys"])):
        if wrong := _names(names):
            got = f"{len(wrong)} weights are {what} in the checkpoint, {wrong[0]} first"
            raise ModelError(where, got, wanted=f"the weights of a {network}")
    check_finite_weights(where, net)
    return net.eval()


def _check_processor(where: str, processor: Any, net: Any, use: Usage) -> None:
    """Raise ModelError if the image processor fails, or makes images of another size than the network's."""
    try:
        prepare = patches_of if use.family.patches else pixels_of
        made = prepare(processor, Image.new("RGB", (40, 30)))
    except Exception as error:  # noqa: BLE001 — its settings are data, which it reads only now
        raise ModelError(where, f"its image processor fails ({first_line(error)})") from None
    size = getattr(getattr(net.config, "vision_config", None), "image_size", None)
    if isinstance(made, Tensor) and isinstance(size, int) and tuple(made.shape) != (3, size, size):
        got = f"its image processor makes images of {' x '.join(map(str, made.shape))}"
        raise ModelError(where, got, wanted=f"3 x {size} x {size}, as the network")


def _part(where: str, what: str, loader: Any, folder: Path, **options: Any) -> Any:
    try:
        return loader.from_pretrained(str(folder), trust_remote_code=False, local_files_only=True, **options)
    except Exception as error:  # noqa: BLE001 — the tokenizers package raises nothing narrower
        raise ModelError(where, f"{what} cannot be loaded ({first_line(error)})") from None


def _names(keys: Sequence[Any]) -> list[str]:
    names = sorted(str(key[0] if isinstance(key, tuple) else key) for key in keys)
    return [name for name in names if not name.endswith(IGNORED_WEIGHTS)]


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence transformers' log and warnings, which are errors or notes here; restored on exit."""
    level, bars = transformers.logging.get_verbosity(), transformers.logging.is_progress_bar_enabled()
    transformers.logging.set_verbosity(transformers.logging.CRITICAL)
    transformers.logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        transformers.logging.set_verbosity(level)
        if bars:
            transformers.logging.enable_progress_bar()
