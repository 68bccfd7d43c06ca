"""What identifies objects in memory: hashes of weights and settings, and of what a transform and a tokenizer do.

A preprocess and a tokenizer are identified by their results on fixed images and texts, since objects of one class may
differ in what their ``repr`` does not show.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from types import CodeType, FunctionType
from typing import Any

import numpy as np
import torch
from PIL import Image
from pydantic import JsonValue

from cocabench.core.errors import UsageError, first_line
from cocabench.core.signature import digest
from cocabench.data.prompts import class_names

MAX_THREADS = 8
IMAGE_SIZES = ((37, 53), (300, 260), (64, 64))
"""Widths and heights of the fixed images: enlarged and reduced, of several shapes."""

N_CLASS_NAMES = 200
TEXTS = (
    "",
    "a photo of a cat.",
    "The QUICK brown fox -- jumps over 13 lazy dogs!",
    "naïve café, Größe, 東京, ½ & <b>html</b> &amp; #tag @name 🙂",
    "it's  the   children's 1,234.56 $ ~ (e.g.) [x] {y} a/b\\c _d_ \"q\"",
    " ".join(f"word{k}" for k in range(150)),
)


@torch.no_grad()
def state_digest(net: torch.nn.Module) -> str:
    """Return a hash of parameters and buffers, by SHA-256 of their bytes: the same on every device.

    Tensors on a GPU are copied one by one. Takes about 0.6 s of processor time per GB.
    """
    tensors = sorted({**dict(net.named_parameters()), **dict(net.named_buffers())}.items())
    with ThreadPoolExecutor(min(MAX_THREADS, os.cpu_count() or 1)) as pool:
        found = list(pool.map(tensor_digest, (tensor for _, tensor in tensors)))
    return digest([f"{name} {content}" for (name, _), content in zip(tensors, found, strict=True)])


def tensor_digest(tensor: torch.Tensor) -> str:
    """Return a hash of a tensor's type, shape and bytes."""
    content = tensor.detach().contiguous().reshape(-1).view(torch.uint8).cpu().numpy()
    return f"{tensor.dtype} {tuple(tensor.shape)} {hashlib.sha256(content.data).hexdigest()}"


def architecture_digest(net: torch.nn.Module) -> str:
    """Return a hash of a network's structure and settings: its repr, and the plain attributes of its modules."""
    settings = {name: _settings(module) for name, module in net.named_modules()}
    return digest(without_addresses(net), {name: found for name, found in settings.items() if found})


def _settings(module: torch.nn.Module) -> dict[str, JsonValue]:
    own = {key: value for key, value in vars(module).items() if not key.startswith("_") and key != "training"}
    return {key: plain(value) for key, value in sorted(own.items())}


def plain(value: object) -> JsonValue:
    """Return a value as JSON that is equal for equal values: numbers, texts, tensors, functions by their code.

    Of other objects only the class is known.
    """
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value.hex()
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, torch.Tensor):
        return tensor_digest(value)
    if isinstance(value, np.ndarray) and value.dtype != object:
        return f"{value.dtype} {value.shape} {hashlib.sha256(np.ascontiguousarray(value).data).hexdigest()}"
    if isinstance(value, FunctionType):
        return code(value)
    return f"{type(value).__module__}.{type(value).__qualname__}"


def code(function: FunctionType) -> JsonValue:
    """Return what a function computes, as far as its own code tells; not where it is written."""

    def of(body: CodeType) -> JsonValue:
        values = [of(one) if isinstance(one, CodeType) else without_addresses(one) for one in body.co_consts]
        return [body.co_code.hex(), list(body.co_names), values]

    held = [plain(cell.cell_contents) for cell in function.__closure__ or ()]
    return [function.__qualname__, of(function.__code__), plain(function.__defaults__), held]


def preprocess_digest(
    preprocess: Callable[[Any], Any], *, tensor: bool = False, sides: tuple[int, int] | None = None
) -> str:
    """Return a hash of what a transform does with fixed images.

    tensor: whether it must return float tensors (3, h, w). sides: their height and width, if they must have some.
    UsageError if it does not, or if it is random: a training transform.
    """
    found: list[JsonValue] = []
    for image in _images():
        try:
            first, second = preprocess(image.copy()), preprocess(image.copy())
        except Exception as error:
            said = f"fails on an RGB image of {image.width} x {image.height} ({first_line(error)})"
            fix = "open_clip.create_model_and_transforms returns it third: preprocess_val"
            raise UsageError("preprocess", said, wanted="a function of a PIL image", fix=fix) from error
        if _seen(first) != _seen(second):
            fix = "pass the evaluation transform: of open_clip.create_model_and_transforms the third, preprocess_val"
            raise UsageError("preprocess", "other tensors each time, of one image: a training transform", fix=fix)
        if tensor:
            _check_pixels(first, sides)
        found.append(_seen(first))
    return digest(without_addresses(preprocess), found)


def _check_pixels(pixels: object, sides: tuple[int, int] | None) -> None:
    shape = tuple(pixels.shape) if isinstance(pixels, torch.Tensor) else ()
    if len(shape) != 3 or shape[0] != 3:
        got = f"returns a tensor {shape}" if isinstance(pixels, torch.Tensor) else f"returns a {type(pixels).__name__}"
        raise UsageError("preprocess", got, wanted="a tensor (3, h, w)")
    if sides and shape[1:] != sides:
        got = f"returns images of {shape[1]} x {shape[2]}, and the network takes {sides[0]} x {sides[1]}"
        raise UsageError("preprocess", got, wanted="the network's own preprocess")


def _images() -> list[Image.Image]:
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)) for width, height in IMAGE_SIZES]


def _seen(value: Any) -> JsonValue:
    """Return what identifies a transform's result."""
    if isinstance(value, Image.Image):
        return [value.mode, list(value.size), hashlib.sha256(value.tobytes()).hexdigest()]
    return plain(value)


def tokenizer_digest(tokenizer: Any) -> str:
    """Return a hash of the token ids of fixed texts; UsageError unless it returns int64 tensors (n, context_length)."""
    texts = [*TEXTS, *class_names("imagenet1k")[:N_CLASS_NAMES]]
    try:
        ids = tokenizer(texts)
    except Exception as error:
        said = f"fails on a list of texts ({first_line(error)})"
        raise UsageError(
            "tokenizer", said, wanted="a function of a list of texts, as open_clip.get_tokenizer"
        ) from error
    if not isinstance(ids, torch.Tensor) or ids.ndim != 2 or len(ids) != len(texts) or ids.is_floating_point():
        got = f"returns a tensor {tuple(ids.shape)}" if isinstance(ids, torch.Tensor) else f"a {type(ids).__name__}"
        raise UsageError("tokenizer", got, wanted=f"token ids ({len(texts)}, context_length) of {len(texts)} texts")
    return digest(type(tokenizer).__name__, tensor_digest(ids))


def without_addresses(value: object) -> str:
    """Return the repr without addresses in memory, which differ in each process."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))
