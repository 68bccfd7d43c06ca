"""Checkpoint files that may still be written: which are complete, and which is the newest."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

from cocabench.results.epochs import epoch_of


def complete(path: Path) -> bool:
    """Tell whether a checkpoint is all there, by its format: a zip's directory at the end, safetensors' lengths.

    Other files (torch's old format) are taken as they are; who waits for them must see that they no longer grow.
    """
    try:
        if path.suffix == ".safetensors":
            return _safetensors_complete(path)
        with path.open("rb") as file:
            is_zip = file.read(2) == b"PK"
        return zipfile.is_zipfile(path) if is_zip else path.stat().st_size > 0
    except OSError:
        return False


def _safetensors_complete(path: Path) -> bool:
    """safetensors: 8 bytes that tell the header's length, the header, and as many bytes as it says."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        head = file.read(length) if length < path.stat().st_size else b""
    if len(head) < length or not head:
        return False
    try:
        ends = [entry["data_offsets"][1] for key, entry in json.loads(head).items() if key != "__metadata__"]
    except (ValueError, KeyError, TypeError):
        return False
    return path.stat().st_size == 8 + length + max(ends, default=0)


def epochs_in(folder: Path) -> dict[int, Path]:
    """Return the .pt checkpoints of a training by epoch, in order."""
    points = {path: epoch_of(str(path)) for path in folder.glob("*.pt")}
    return dict(sorted((point.number, path) for path, point in points.items() if point))
