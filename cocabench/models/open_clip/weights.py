"""Weight files: where they are found or fetched, and how they are read safely."""

from __future__ import annotations

import logging
import pickle
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import huggingface_hub
import open_clip
import torch
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
from open_clip import factory
from open_clip.transform import PreprocessCfg
from safetensors import SafetensorError

from cocabench.core.errors import ModelError

PREPROCESS_KEYS = frozenset(asdict(PreprocessCfg()))
_HUB_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "open_clip_pytorch_model.bin")
_DOWNLOAD_ERRORS = (OSError, RuntimeError, HfHubHTTPError, LocalEntryNotFoundError)
_UNREADABLE = (
    pickle.UnpicklingError,
    SafetensorError,
    EOFError,
    OSError,
    RuntimeError,
    ValueError,
    KeyError,
    AttributeError,
    AssertionError,
    NotImplementedError,
)

ALONE = threading.RLock()


@contextmanager
def quiet() -> Iterator[None]:
    """Silence open_clip's warnings, which cocabench words itself, and keep them from setting up the root logger.

    One thread at a time: logging, and the seed of random weights, are the process's. What is critical is still told.
    """
    with ALONE:
        before, stand_in = logging.root.manager.disable, logging.lastResort or logging.NullHandler()
        own = not logging.root.handlers
        if own:
            logging.root.addHandler(stand_in)
        logging.disable(logging.ERROR)
        try:
            yield
        finally:
            logging.disable(before)
            if own:
                logging.root.removeHandler(stand_in)


def fetch(name: str, known: Mapping[str, Any]) -> Path:
    """Return the file of a published tag, downloaded by open_clip unless it is in its cache."""
    try:
        return Path(open_clip.download_pretrained(dict(known)))
    except _DOWNLOAD_ERRORS as error:
        fix = "check the network, or give a local file as NAME:FILE"
        raise ModelError(
            f"--model {name}", f"weights not in the cache and not to be had ({_first(error)})", fix=fix
        ) from None


def cached(known: Mapping[str, Any]) -> Path | None:
    """Return the file of a published tag if an earlier download left it, without touching the network."""
    if hub := known.get("hf_hub"):
        repository, _, file = hub.rpartition("/")
        for name in dict.fromkeys((*((file,) if file else ()), *_HUB_FILES)):
            found = huggingface_hub.try_to_load_from_cache(repository, name)
            if isinstance(found, str):
                return Path(found)
    if url := known.get("url"):
        file = Path("~/.cache/clip").expanduser() / url.rpartition("/")[2]
        return file if file.is_file() else None
    return None


def from_hub(repository: str) -> tuple[Path, Path]:
    """Return the files of a hub repository's open_clip config and weights."""
    try:
        config = Path(huggingface_hub.hf_hub_download(repository, "open_clip_config.json"))
        return config, Path(factory.download_pretrained_from_hf(repository))
    except _DOWNLOAD_ERRORS as error:
        fix = "check the name and the network, or give a local folder"
        raise ModelError(f"--model hf-hub:{repository}", f"cannot be had ({_first(error)})", fix=fix) from None


def cached_from_hub(repository: str) -> tuple[Path, Path | None]:
    """Return the same as far as an earlier download left it; without touching the network."""
    config = huggingface_hub.try_to_load_from_cache(repository, "open_clip_config.json")
    if not isinstance(config, str):
        raise ModelError(f"--model hf-hub:{repository}", "not downloaded yet", fix="a run without --dry-run fetches it")
    return Path(config), cached({"hf_hub": f"{repository}/"})


def in_folder(folder: Path) -> Path:
    """Return the weights file that open_clip would choose in a model folder."""
    with quiet():
        found = factory._find_checkpoint_in_dir(folder)
    if found is None:
        raise ModelError(str(folder), "no weights in it", wanted="open_clip_model.safetensors, or a .bin or .pth file")
    return Path(found)


def load_into(net: torch.nn.Module, path: Path) -> None:
    """Load a checkpoint into a model, weights only: a pickle that wants to run code is refused.

    Takes open_clip_train checkpoints (state_dict, optimizer, ``module.`` prefix), bare state dicts and safetensors.
    """
    try:
        with quiet():
            open_clip.load_checkpoint(net, str(path), strict=True, weights_only=True)
    except _UNREADABLE as error:
        raise _explained(error, net, path) from None
    for name, parameter in net.state_dict().items():
        if parameter.is_floating_point() and not bool(torch.isfinite(parameter).all()):
            raise ModelError(
                str(path), f"NaN or infinity in {name}", wanted="finite weights", fix="use an earlier checkpoint"
            )


def _explained(error: Exception, net: torch.nn.Module, path: Path) -> ModelError:
    text = str(error)
    if isinstance(error, pickle.UnpicklingError) and "unsupported" in text.lower():
        fix = "save it again as torch.save(model.state_dict(), FILE) or as safetensors, if you trust it"
        wanted = match[1] if (match := re.search(r"GLOBAL ([\w.]+)", text)) else "code"
        return ModelError(str(path), f"a pickle that wants to run {wanted}", wanted="weights only", fix=fix)
    if mismatch := _mismatch(net, path):
        return ModelError(str(path), f"a checkpoint of another architecture ({mismatch})", fix="name the right one")
    return ModelError(
        str(path), f"not readable as a checkpoint ({_first(error)})", fix="it may be truncated: copy it again"
    )


def _mismatch(net: torch.nn.Module, path: Path) -> str:
    """Return the first keys by which a checkpoint and the model differ; '' where they agree or it cannot be read."""
    try:
        state = factory.load_state_dict(str(path))
    except _UNREADABLE:
        return ""
    if "positional_embedding" in state and not hasattr(net, "positional_embedding"):
        state = factory.convert_to_custom_text_state_dict(state)
    own = net.state_dict()
    parts = []
    for kind, keys in (("missing", own.keys() - state.keys()), ("unexpected", state.keys() - own.keys())):
        if first := sorted(keys)[:2]:
            parts.append(f"{kind} {', '.join(first)}" + (f" and {len(keys) - 2} more" if len(keys) > 2 else ""))
    shapes = ((key, list(state[key].shape), list(own[key].shape)) for key in own if key in state)
    if other := next((one for one in shapes if one[1] != one[2]), None):
        parts.append(f"{other[0]} is {other[1]}, the model's {other[2]}")
    return "; ".join(parts)


def _first(error: object) -> str:
    lines = str(error).strip().splitlines()
    return f"{lines[0][:160]}" if lines else type(error).__name__
