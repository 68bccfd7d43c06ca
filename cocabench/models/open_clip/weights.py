"""Weight files: finding, downloading and safely reading them."""

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

from cocabench.core.errors import ModelError, first_line
from cocabench.core.files import check_zip
from cocabench.core.types import Note
from cocabench.data.files import some
from cocabench.models.base import check_finite_weights
from cocabench.models.open_clip import checkpoint

PREPROCESS_KEYS = frozenset(asdict(PreprocessCfg()))
_HUB_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "open_clip_pytorch_model.bin")
_DOWNLOAD_ERRORS = (OSError, RuntimeError, HfHubHTTPError, LocalEntryNotFoundError)
_FOLDER_FILES = (
    "open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "open_clip_pytorch_model.bin",
    "open_clip_pytorch_model.pth", "model.safetensors", "pytorch_model.bin", "pytorch_model.pth", "model.pth",
)  # fmt: skip
"""What open_clip (3.3.0) prefers in a model folder, in this order."""

_FOLDER_SUFFIXES = (".safetensors", ".bin", ".pth", ".pt", ".ckpt")
_NO_WEIGHTS = ("optimizer", "rng_state", "scaler", "scheduler", "training_args")
"""How files begin that trainers leave beside the weights."""

OPEN_CLIP_LOCK = threading.RLock()


@contextmanager
def quiet() -> Iterator[None]:
    """Silence open_clip's warnings, which cocabench replaces by notes, and prevent it from configuring the root logger.

    One thread at a time: logging and the seed of random weights are global. Critical messages are still logged.
    """
    with OPEN_CLIP_LOCK:
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
    """Return the weights file of a published tag, downloaded by open_clip unless cached."""
    try:
        return Path(open_clip.download_pretrained(dict(known)))
    except _DOWNLOAD_ERRORS as error:
        fix = "check the network, or use a local file: NAME:FILE"
        raise ModelError(
            f"--model {name}",
            f"weights are not cached and the download failed ({first_line(error)})",
            fix=fix,
        ) from None


def cached(known: Mapping[str, Any]) -> Path | None:
    """Return the cached weights file of a published tag, without network access."""
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
        fix = "check the name and the network, or use a local folder"
        raise ModelError(f"--model hf-hub:{repository}", f"download failed ({first_line(error)})", fix=fix) from None


def cached_from_hub(repository: str) -> tuple[Path, Path | None]:
    """Return the cached config and weights file of a hub repository, without network access."""
    config = huggingface_hub.try_to_load_from_cache(repository, "open_clip_config.json")
    if not isinstance(config, str):
        where, fix = f"--model hf-hub:{repository}", "a run without --dry-run downloads it"
        raise ModelError(where, "not downloaded yet", fix=fix)
    return Path(config), cached({"hf_hub": f"{repository}/"})


def in_folder(folder: Path) -> Path:
    """Return the weights of a model folder: the file that open_clip prefers by name, an index of shards, or the only
    file. ModelError if there is none, or several without a preferred one.
    """
    named = (folder / name for name in _FOLDER_FILES)
    if found := next((path for path in named if path.is_file()), None):
        return found
    candidates = sorted(folder.glob("*.safetensors.index.json")) or sorted(folder.glob("*.index.json"))
    if not candidates:
        files = [path for path in sorted(folder.iterdir()) if path.suffix in _FOLDER_SUFFIXES]
        weights = [path for path in files if not path.name.startswith(_NO_WEIGHTS)]
        candidates = list({tuple(checkpoint.files(path)): path for path in reversed(weights)}.values())[::-1]
    if not candidates:
        wanted = "open_clip_model.safetensors, or a .bin, .pth or .pt file"
        raise ModelError(str(folder), "no weights file", wanted=wanted)
    if len(candidates) > 1:
        got = f"{len(candidates)} files with weights: {some((path.name for path in candidates), 8)}"
        raise ModelError(str(folder), got, fix="keep one, or call the right one open_clip_model" + candidates[0].suffix)
    return candidates[0]


def load_into(net: torch.nn.Module, path: Path) -> list[Note]:
    """Load a checkpoint into a model, weights only, and return notes on it.

    Accepts the formats of ``checkpoint``, and big_vision's .npz. Pickles that would run code are refused.
    """
    notes: list[Note] = []
    try:
        with quiet():
            if path.suffix in (".npz", ".npy"):
                if path.suffix == ".npz":
                    check_zip(path)
                open_clip.load_checkpoint(net, str(path), strict=True, weights_only=True)
            else:
                notes = checkpoint.load(net, path)
    except checkpoint.UNREADABLE as error:
        raise _explained(error, path) from None
    check_finite_weights(str(path), net)
    return notes


def _explained(error: Exception, path: Path) -> ModelError:
    text = str(error)
    if isinstance(error, pickle.UnpicklingError) and "unsupported" in text.lower():
        fix = "if you trust it, save it again with torch.save(model.state_dict(), FILE) or as safetensors"
        wanted = match[1] if (match := re.search(r"GLOBAL ([\w.]+)", text)) else "code"
        return ModelError(str(path), f"a pickle that would run {wanted}", wanted="weights only", fix=fix)
    got = f"not readable as a checkpoint ({first_line(error)})"
    return ModelError(str(path), got, fix="it may be truncated: copy it again")
