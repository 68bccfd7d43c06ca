"""Weight files: where they are, all those of one checkpoint, and their hash. Imports no torch, to plan quickly."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import huggingface_hub
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, LocalEntryNotFoundError

from cocabench.core.errors import ModelError, first_line
from cocabench.core.files import expanded, parse_json, read_text
from cocabench.core.signature import digest, digest_file
from cocabench.data.files import some

CONFIGS = ("open_clip_config.json", "config.json")
"""Names of a folder's or repository's config. The second holds an open_clip model config where there is no first."""

_HUB_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "open_clip_pytorch_model.bin")
_HUB_INDEXES = tuple(f"{name}.index.json" for name in (*_HUB_FILES, "model.safetensors", "pytorch_model.bin"))
_DOWNLOAD_ERRORS = (OSError, RuntimeError, HfHubHTTPError, EntryNotFoundError, KeyError, TypeError)
"""The last two: the hub's answer is not understood."""
_FOLDER_FILES = (
    "open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "open_clip_pytorch_model.bin",
    "open_clip_pytorch_model.pth", "model.safetensors", "pytorch_model.bin", "pytorch_model.pth", "model.pth",
)  # fmt: skip
"""What open_clip (3.3.0) prefers in a model folder, in this order."""

JOIN = "python -m torch.distributed.checkpoint.format_utils dcp_to_torch"

_SHARD = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})(?P<suffix>\.\w+)")
_INDEX = ".index.json"

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
    from open_clip import download_pretrained

    try:
        return Path(download_pretrained(dict(known)))
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
                return Path(found) if complete(Path(found)) else None
    if url := known.get("url"):
        file = expanded("~/.cache/clip") / url.rpartition("/")[2]
        return file if file.is_file() else None
    return None


def from_hub(repository: str) -> tuple[Path, Path]:
    """Return the files of a hub repository's open_clip config and weights; of shards, their index.

    Where there is no open_clip_config.json, config.json may be a model config of open_clip, beside one weights file.
    """
    from open_clip.pretrained import download_pretrained_from_hf

    try:
        config = Path(huggingface_hub.hf_hub_download(repository, CONFIGS[0]))
        try:
            return config, Path(download_pretrained_from_hf(repository))
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
        for shard in named_in(index):
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
        own = [path for path in sorted(folder.iterdir()) if path.suffix in _FOLDER_SUFFIXES]
        weights = [path for path in own if not path.name.startswith(_NO_WEIGHTS)]
        candidates = list({tuple(files(path)): path for path in reversed(weights)}.values())[::-1]
    if not candidates:
        wanted = "open_clip_model.safetensors, or a .bin, .pth or .pt file"
        raise ModelError(str(folder), "no weights file", wanted=wanted)
    if len(candidates) > 1:
        got = f"{len(candidates)} files with weights: {some((path.name for path in candidates), 8)}"
        raise ModelError(str(folder), got, fix="keep one, or call the right one open_clip_model" + candidates[0].suffix)
    return candidates[0]


def files(path: Path) -> list[Path]:
    """Return the files of a checkpoint: the shards that an index names, those beside one of them, or the file itself.

    ModelError where one is missing.
    """
    if path.name.endswith(_INDEX):
        names = named_in(path)
    elif match := _SHARD.fullmatch(path.name):
        count = int(match["count"])
        names = [f"{match['stem']}-{k:05}-of-{count:05}{match['suffix']}" for k in range(1, count + 1)]
    else:
        return [path]
    if lost := [name for name in names if not (path.parent / name).is_file()]:
        raise ModelError(str(path), f"{len(lost)} of {len(names)} shards are missing: {some(lost)}")
    return [path.parent / name for name in names]


def no_file(folder: Path) -> ModelError:
    """Return the error for a folder where a weights file was expected, with how to make one of its shards."""
    if (folder / ".metadata").is_file():
        return ModelError(str(folder), "a distributed checkpoint", fix=f"join it: {JOIN} {folder} FILE.pt")
    for place in (folder, folder.parent):
        if (script := place / "zero_to_fp32.py").is_file():
            fix = (
                f"join its shards: python {script} {place} FOLDER; of ZeRO-1 and 2, mp_rank_00_model_states.pt is whole"
            )
            return ModelError(str(folder), "a checkpoint of DeepSpeed", fix=fix)
    return ModelError(str(folder), "a folder", wanted="a weights file", fix=f"name a file in it: {folder}/FILE")


def complete(path: Path) -> bool:
    """Return whether all files of a checkpoint are there."""
    try:
        return all(file.is_file() for file in files(path))
    except ModelError:
        return False


def named_in(path: Path) -> list[str]:
    """Return the names of the shards that an index lists; ModelError if it is no index."""
    try:
        names = parse_json(read_text(path))["weight_map"].values()
        return sorted({Path(str(name)).name for name in names})
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise ModelError(str(path), "not an index of shards", wanted='{"weight_map": {name: file}}') from None


def digest_of(path: Path) -> str:
    """Return the hash of a checkpoint's contents, for the signature; of shards, of all their hashes."""
    found = files(path)
    return digest_file(found[0]) if found == [path] else digest([digest_file(one) for one in found])
