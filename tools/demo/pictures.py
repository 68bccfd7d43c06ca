"""The training pictures: the same emoji as seven other styles draw them, at 64 pixels."""

import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tools.demo.captions import captions
from tools.demo.sources import ICONS, NOTO, OPENMOJI, Emoji, read_icons, read_members, read_pictures, tarball

SIZE = 64
"""Pixels per side."""

STYLES = ("noto", "openmoji", "openmoji-flat", *ICONS)
"""Drawing styles of the training set; "flat" is OpenMoji with faint, thin outlines."""

_SIDED = re.compile("left|right|clock|quarter|crescent|thirty|gibbous")
_FLAT = "#line * { stroke-width: 1; stroke-opacity: 0.25 }"


@dataclass(frozen=True)
class TrainingSet:
    """pictures: (n, len(STYLES), SIZE, SIZE, 4) uint8, RGBA, blank where a style lacks an emoji; the others: n, in the
    same order.

    flippable: whether the mirrored picture still shows what the captions say.
    """

    ids: list[str]
    captions: list[list[str]]
    pictures: NDArray[np.uint8]
    flippable: NDArray[np.bool_]

    @property
    def drawn(self) -> NDArray[np.bool_]:
        """(n, len(STYLES)): whether the style has the emoji."""
        return np.asarray(self.pictures[..., 3].max(axis=(2, 3)) > 0)


def write_training_set(path: Path, folder: Path, emoji: list[Emoji]) -> None:
    """Draw every emoji in every style and save the result as one `.npz` file."""
    pictures = np.zeros((len(emoji), len(STYLES), SIZE, SIZE, 4), np.uint8)
    for column, style in enumerate(_styles(folder, emoji)):
        for row, one in enumerate(emoji):
            if one.id in style:
                pictures[row, column] = _rgba(style[one.id])
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(
        path,
        ids=np.array([one.id for one in emoji]),
        captions=np.array(json.dumps([captions(one) for one in emoji])),
        flippable=np.array([_flippable(one) for one in emoji]),
        pictures=pictures,
    )


def read_training_set(path: Path) -> TrainingSet:
    """Read what `write_training_set` wrote."""
    with np.load(path) as stored:
        captions_ = json.loads(stored["captions"].item())
        return TrainingSet(stored["ids"].tolist(), captions_, stored["pictures"], stored["flippable"])


def _flippable(emoji: Emoji) -> bool:
    words = f"{emoji.name} {emoji.unicode_name}".lower()
    return emoji.group not in ("symbols", "flags") and not _SIDED.search(words)


def _styles(folder: Path, emoji: list[Emoji]) -> Iterator[dict[str, bytes]]:
    """Yield {id: PNG} for each of STYLES."""
    yield read_pictures(folder, NOTO, emoji)
    for style_sheet in ("", _FLAT):
        yield {key: _draw(svg, style_sheet) for key, svg in _openmoji(folder, emoji).items()}
    for package in ICONS.values():
        yield {key: _draw(svg, "") for key, svg in read_icons(folder, package, emoji).items()}


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
