"""The training pictures: Noto Emoji and OpenMoji for the same emoji, at 64 pixels."""

import io
import json
import re
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cocabench.demo.captions import captions
from cocabench.demo.sources import NOTO, OPENMOJI, Emoji, read_members, read_pictures, tarball

SIZE = 64
"""Pixels per side."""

STYLES = ("noto", "openmoji", "openmoji-flat")
"""Drawing styles of the training set; "flat" is OpenMoji with faint, thin outlines."""

_SIDED = re.compile("left|right|clock|quarter|crescent|thirty|gibbous")
_FLAT = "#line * { stroke-width: 1; stroke-opacity: 0.25 }"


@dataclass(frozen=True)
class TrainingSet:
    """pictures: (n, len(STYLES), SIZE, SIZE, 4) uint8, RGBA; the others: n, in the same order.

    flippable: whether the mirrored picture still shows what the captions say.
    """

    ids: list[str]
    captions: list[list[str]]
    pictures: NDArray[np.uint8]
    flippable: NDArray[np.bool_]


def write_training_set(path: Path, folder: Path, emoji: list[Emoji]) -> None:
    """Draw every emoji in every style and save the result as one `.npz` file."""
    noto = read_pictures(folder, NOTO, emoji)
    drawings = _openmoji(folder, emoji)
    pictures = [[noto[one.id], _draw(drawings[one.id], ""), _draw(drawings[one.id], _FLAT)] for one in emoji]
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(
        path,
        ids=np.array([one.id for one in emoji]),
        captions=np.array(json.dumps([captions(one) for one in emoji])),
        flippable=np.array([_flippable(one) for one in emoji]),
        pictures=np.stack([np.stack([_rgba(png) for png in styles]) for styles in pictures]),
    )


def read_training_set(path: Path) -> TrainingSet:
    """Read what `write_training_set` wrote."""
    with np.load(path) as stored:
        captions_ = json.loads(stored["captions"].item())
        return TrainingSet(stored["ids"].tolist(), captions_, stored["pictures"], stored["flippable"])


def _flippable(emoji: Emoji) -> bool:
    words = f"{emoji.name} {emoji.unicode_name}".lower()
    return emoji.group not in ("symbols", "flags") and not _SIDED.search(words)


def _openmoji(folder: Path, emoji: list[Emoji]) -> dict[str, str]:
    """Return {id: SVG}; OpenMoji's file names are upper case and mostly leave FE0F out."""
    drawings = read_members(tarball(folder, OPENMOJI), lambda path: path.startswith("color/svg/"))
    by_code = {Path(path).stem.lower().replace("-fe0f", ""): content.decode() for path, content in drawings.items()}
    return {one.id: by_code[one.id.replace("-fe0f", "")] for one in emoji}


def _draw(svg: str, style_sheet: str) -> bytes:
    """Rasterise with resvg (`pip install resvg-py`), needed here only."""
    resvg = import_module("resvg_py")
    return bytes(resvg.svg_to_bytes(svg_string=svg, style_sheet=style_sheet, width=SIZE, height=SIZE))


def _rgba(png: bytes) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGBA"))
