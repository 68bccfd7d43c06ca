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
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, LocalEntryNotFoundError
from open_clip import factory
from open_clip.transform import PreprocessCfg

from cocabench.core.errors import ModelError, first_line
from cocabench.core.files import check_zip, expanded
from cocabench.core.types import Note
from cocabench.data.files import some
from cocabench.models.base import check_finite_weights
from cocabench.models.open_clip import checkpoint

CONFIGS = ("open_clip_config.json", "config.json")
"""Names of a folder's or repository's config. The second holds an open_clip model config where there is no first."""

PREPROCESS_KEYS = frozenset(asdict(PreprocessCfg()))
_HUB_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "open_clip_pytorch_model.bin")
_HUB_INDEXES = tuple(f"{name}.index.json" for name in (*_HUB_FILES, "model.safetensors", "pytorch_model.bin"))
_DOWNLOAD_ERRORS = (OSError, RuntimeError, HfHubHTTPError, EntryNotFoundError, KeyError, TypeError)
"""The last two: the hub's answer is not understood."""
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
        for name in _HUB_INDEXES:
            found = huggingface_hub.try_to_load_from_cache(repository, name)
            if isinstance(found, str):
                return Path(found) if checkpoint.complete(Path(found)) else None
    if url := known.get("url"):
        file = expanded("~/.cache/clip") / url.rpartition("/")[2]
        return file if file.is_file() else None
    return None


def from_hub(repository: str) -> tuple[Path, Path]:
    """Return the files of a hub repository's open_clip config and weights; of shards, their index.

    Where there is no open_clip_config.json, config.json may be a model config of open_clip, beside one weights file.
    """
    try:
        config = Path(huggingface_hub.hf_hub_download(repository, CONFIGS[0]))
        try:
            return config, Path(factory.download_pretrained_from_hf(repository))
        except _DOWNLOAD_ERRORS:
            if (index := _shards_from_hub(repository)) is None:
                raise
            return config, index
    except _DOWNLOAD_ERRORS as error:
        if not isinstance(error, EntryNotFoundError) or isinstance(error, LocalEntryNotFoundError):
            raise _no_download(repository, error) from None
    try:
        config = Path(huggingface_hub.hf_hub_download(repository, CONFIGS[1]))
        names = [name for name in huggingface_hub.HfApi().list_repo_files(repository) if "/" not in name]
        kept = [name for name in names if name.endswith(_FOLDER_SUFFIXES) and not name.startswith(_NO_WEIGHTS)]
        huggingface_hub.snapshot_download(repository, allow_patterns=[CONFIGS[1], *kept])
    except _DOWNLOAD_ERRORS as error:
        raise _no_download(repository, error) from None
    return config, in_folder(config.parent)


def _no_download(repository: str, error: Exception) -> ModelError:
    fix = "check the name and the network, or use a local folder"
    return ModelError(f"--model hf-hub:{repository}", f"download failed ({first_line(error)})", fix=fix)


def _shards_from_hub(repository: str) -> Path | None:
    """Download the shards that a repository's index names and return the index, None if it has none."""
    for name in _HUB_INDEXES:
        try:
            index = Path(huggingface_hub.hf_hub_download(repository, name))
        except EntryNotFoundError:
            continue
        for shard in checkpoint.named_in(index):
            huggingface_hub.hf_hub_download(repository, shard)
        return index
    return None


def cached_from_hub(repository: str) -> tuple[Path, Path | None]:
    """Return the cached config and weights file of a hub repository, without network access."""
    found = [huggingface_hub.try_to_load_from_cache(repository, name) for name in CONFIGS]
    if isinstance(found[0], str):
        return Path(found[0]), cached({"hf_hub": f"{repository}/"})
    if not isinstance(found[1], str):
        where, fix = f"--model hf-hub:{repository}", "a run without --dry-run downloads it"
        raise ModelError(where, "not downloaded yet", fix=fix)
    config = Path(found[1])
    held = any(path.suffix in _FOLDER_SUFFIXES for path in config.parent.iterdir())
    return config, in_folder(config.parent) if held else None


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


def load_into(net: torch.nn.Module, path: Path, inside: str = "") -> list[Note]:
    """Load a checkpoint into a model, weights only, and return notes on it.

    inside: '' or 'ema'. Accepts the formats of ``checkpoint``, and big_vision's .npz. Pickles that would run code are
    refused.
    """
    notes: list[Note] = []
    try:
        with quiet():
            if path.suffix in (".npz", ".npy") and not inside:
                if not hasattr(net.visual, "trunk"):
                    wanted = "an architecture whose image tower is timm's, as ViT-B-16-SigLIP"
                    raise ModelError(str(path), "weights in big_vision's format", wanted=wanted)
                if path.suffix == ".npz":
                    check_zip(path)
                open_clip.load_checkpoint(net, str(path), strict=True, weights_only=True)
            else:
                notes = checkpoint.load(net, path, inside)
    except checkpoint.UNREADABLE as error:
        raise _explained(error, path) from None
    check_finite_weights(str(path), net)
    return notes


def held(path: Path) -> list[checkpoint.Held]:
    """Return the weights in a checkpoint file; ModelError if it cannot be read. Loads the file."""
    try:
        return checkpoint.held(path)
    except checkpoint.UNREADABLE as error:
        raise _explained(error, path) from None


def _explained(error: Exception, path: Path) -> ModelError:
    text = str(error)
    if isinstance(error, pickle.UnpicklingError) and "unsupported" in text.lower():
        fix = "if you trust it, save it again with torch.save(model.state_dict(), FILE) or as safetensors"
        wanted = match[1] if (match := re.search(r"GLOBAL ([\w.]+)", text)) else "code"
        return ModelError(str(path), f"a pickle that would run {wanted}", wanted="weights only", fix=fix)
    got = f"not readable as a checkpoint ({first_line(error)})"
    return ModelError(str(path), got, fix="it may be truncated: copy it again")
