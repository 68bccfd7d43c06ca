"""Draws the tests' images and writes the tests' files."""

import io
import json
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from PIL import Image


def encoded(colour: str = "red", *, size: tuple[int, int] = (8, 6), kind: str = "PNG", mode: str = "RGB") -> bytes:
    file = io.BytesIO()
    Image.new(mode, size, colour).save(file, kind)
    return file.getvalue()


def draw(*paths: Path, colour: str = "red") -> None:
    for path in paths:
        kind = "PNG" if path.suffix.lower() == ".png" else "JPEG"
        write(path, encoded(colour, kind=kind))


def write(path: Path, content: bytes | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def write_json(path: Path, value: Any) -> Path:
    return write(path, json.dumps(value))


Members = dict[str, bytes | str] | Iterable[tuple[str, bytes | str]]


def write_tar(path: Path, members: Members, mode: str = "w") -> Path:
    """Write a tar; pairs may repeat a name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, content in members.items() if isinstance(members, dict) else members:
            data = content if isinstance(content, bytes) else content.encode()
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path
