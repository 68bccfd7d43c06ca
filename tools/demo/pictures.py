"""The training pictures: the same emoji as seven other styles draw them, changed at random, in batches."""

import hashlib
import io
import json
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from tools.demo.model import IMAGE_SIZE
from tools.demo.recipes import Settings
from tools.demo.sources import (
    ICONS,
    NOTO,
    OPENMOJI,
    STYLES,
    Emoji,
    captions,
    read_icons,
    read_members,
    read_pictures,
    tarball,
)

SIZE = 64
"""Pixels per side."""

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


GRAY = (0.299, 0.587, 0.114)
"""Luma of red, green and blue (ITU-R BT.601)."""

Change = Callable[[Tensor, torch.Generator], Tensor]


def composite(pictures: Tensor, background: Tensor) -> Tensor:
    """Lay premultiplied RGBA (b, 4, s, s) in 0-1 over colours (b, 3, 1, 1): RGB (b, 3, s, s)."""
    return pictures[:, :3] + (1 - pictures[:, 3:]) * background


def premultiplied(pictures: Tensor) -> Tensor:
    """Turn uint8 RGBA (b, s, s, 4) into float (b, 4, s, s) in 0-1, colours times alpha."""
    scaled = pictures.permute(0, 3, 1, 2).float() / 255
    return torch.cat([scaled[:, :3] * scaled[:, 3:], scaled[:, 3:]], dim=1)


def augment(pictures: Tensor, flippable: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Return RGB (b, 3, size, size) in 0-1 for premultiplied uint8 RGBA (b, 4, s, s); `flippable` is (b,) bool."""
    rgba = _move(pictures.float() / 255, flippable, size, generator)
    rgba = _sometimes(0.2, _outlined, rgba, generator)
    rgba = torch.cat([_recolour(rgba[:, :3], generator).clamp(min=0).minimum(rgba[:, 3:]), rgba[:, 3:]], dim=1)
    rgb = composite(rgba, _backgrounds(len(rgba), generator))
    for probability, change in ((0.15, _blurred), (0.1, _in_six_levels), (0.1, _erased)):
        rgb = _sometimes(probability, change, rgb, generator)
    return rgb


def _uniform(count: int, low: float, high: float, generator: torch.Generator) -> Tensor:
    """(count, 1, 1, 1) in low-high."""
    return low + (high - low) * torch.rand(count, 1, 1, 1, generator=generator)


def _sometimes(probability: float, change: Change, pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Change each of the pictures with that probability."""
    chosen = (torch.rand(len(pictures), generator=generator) < probability).nonzero().flatten()
    return pictures.index_copy(0, chosen, change(pictures[chosen], generator)) if len(chosen) else pictures


def _blurred(rgb: Tensor, generator: torch.Generator) -> Tensor:
    return F.avg_pool2d(F.pad(rgb, (1, 1, 1, 1), "replicate"), 3, stride=1)


def _in_six_levels(rgb: Tensor, generator: torch.Generator) -> Tensor:
    return (rgb * 5).round() / 5


def _move(rgba: Tensor, flippable: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Rotate by up to 11 degrees, zoom by 0.8-1.3, stretch, shear, shift by up to 4 %, mirror what may be mirrored."""
    count = len(rgba)

    def draw(low: float, high: float) -> Tensor:
        return _uniform(count, low, high, generator).flatten()

    angle, shear = draw(-0.2, 0.2), draw(-0.08, 0.08)
    zoom, stretch = draw(-0.25, 0.25).exp(), draw(-0.08, 0.08).exp()
    mirror = torch.where(flippable & (draw(0, 1) < 0.5), -1.0, 1.0)
    cos, sin = angle.cos() / zoom, angle.sin() / zoom
    top = torch.stack([cos * stretch * mirror, (shear * cos - sin) / stretch, draw(-0.08, 0.08)], dim=1)
    bottom = torch.stack([sin * stretch * mirror, (shear * sin + cos) / stretch, draw(-0.08, 0.08)], dim=1)
    grid = F.affine_grid(torch.stack([top, bottom], dim=1), [count, 4, size, size], align_corners=False)
    return F.grid_sample(rgba, grid, align_corners=False)


def _outlined(rgba: Tensor, generator: torch.Generator) -> Tensor:
    """Draw a dark or coloured line of one pixel around the pictures."""
    alpha = F.max_pool2d(rgba[:, 3:], 3, stride=1, padding=1)
    ring = (alpha - rgba[:, 3:]) * torch.rand(len(rgba), 3, 1, 1, generator=generator) * 0.4
    return torch.cat([rgba[:, :3] + ring, alpha], dim=1)


def _recolour(rgb: Tensor, generator: torch.Generator) -> Tensor:
    """Change hue (up to 17 degrees), saturation, brightness and colour balance; a twentieth becomes gray."""
    count = len(rgb)
    gray = torch.tensor(GRAY).expand(3, 3)
    saturation = (_uniform(count, 0.6, 1.4, generator) * (_uniform(count, 0, 1, generator) > 0.05))[..., 0]
    mix = gray + saturation * (_hue_rotation(_uniform(count, -0.3, 0.3, generator)[..., 0]) - gray)
    gain = _uniform(count, 0.8, 1.2, generator)[..., 0] * (0.9 + 0.2 * torch.rand(count, 3, 1, generator=generator))
    return torch.einsum("bij,bjhw->bihw", gain * mix, rgb)


def _hue_rotation(angle: Tensor) -> Tensor:
    """Rotation about the gray axis (Rodrigues): angle (b, 1, 1) in radians, result (b, 3, 3)."""
    cross = torch.tensor([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / math.sqrt(3)
    return angle.cos() * torch.eye(3) + angle.sin() * cross + (1 - angle.cos()) / 3


def _backgrounds(count: int, generator: torch.Generator) -> Tensor:
    """(count, 3, 1, 1): white for three quarters, black for an eighth, any colour for the rest."""
    colours = torch.rand(count, 3, 1, 1, generator=generator)
    kind = _uniform(count, 0, 1, generator)
    return torch.where(kind < 0.75, 1.0, torch.where(kind < 0.875, 0.0, colours))


def _erased(rgb: Tensor, generator: torch.Generator) -> Tensor:
    """Put a gray square of up to a third of the side into the pictures."""
    count, side = len(rgb), rgb.shape[-1]
    axis = torch.arange(side)
    x, y = (_uniform(count, 0, side, generator) for _ in "xy")
    half = _uniform(count, 0, side / 6, generator)
    inside = ((axis - x).abs() < half) & ((axis[:, None] - y).abs() < half)
    return torch.where(inside, 0.5, rgb)


class Batches:
    """Random batches of distinct emoji, each drawn in several of the styles that have it, augmented, with a caption.

    A batch depends on the seed and its number alone, so that an interrupted training resumes with the same batches.
    pictures: what `shrunk` made of the data's.
    """

    def __init__(self, data: TrainingSet, pictures: Tensor, tokenizer: Any, settings: Settings) -> None:
        self._pictures = pictures
        self._drawn = torch.from_numpy(data.drawn) & torch.tensor([style in settings.styles for style in STYLES])
        self._flippable = torch.from_numpy(data.flippable)
        self._tokens: list[Tensor] = [tokenizer(captions) for captions in data.captions]
        self._settings = settings
        self._emoji = self._drawn.any(dim=1).nonzero().flatten()
        self._size = settings.batch // settings.views
        if len(self._emoji) < self._size:
            raise ValueError(f"{len(self._emoji)} emoji in these styles; wanted a batch of {self._size} or more")

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        """Return the images (views * b, 3, s, s) in -1 to 1, view after view, and the tokens (b, context)."""
        epoch, place = divmod(number, len(self._emoji) // self._size)
        order = torch.randperm(len(self._emoji), generator=self._generator("order", epoch))
        rows = self._emoji[order[place * self._size : (place + 1) * self._size]]
        generator = self._generator("batch", number)
        styles = self._styles(rows, generator).T.flatten()
        repeated = rows.repeat(self._settings.views)
        rgb = augment(self._pictures[repeated, styles], self._flippable[repeated], IMAGE_SIZE, generator)
        return rgb * 2 - 1, torch.stack([self._caption(row, generator) for row in rows.tolist()])

    def _generator(self, what: str, number: int) -> torch.Generator:
        digest = hashlib.sha256(f"{self._settings.seed} {what} {number}".encode()).digest()
        return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))

    def _styles(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """Return (b, views) different styles of each emoji; the first one again where it has too few."""
        drawn = self._drawn[rows]
        keys = torch.rand(drawn.shape, generator=generator).masked_fill(~drawn, -1)
        chosen = keys.argsort(dim=1, descending=True)[:, : self._settings.views]
        return torch.where(drawn.gather(1, chosen), chosen, chosen[:, :1])

    def _caption(self, row: int, generator: torch.Generator) -> Tensor:
        """Return the tokens of the CLDR name, which comes first, or of any of the other captions."""
        tokens = self._tokens[row]
        first, other = torch.rand(2, generator=generator).tolist()
        return tokens[0 if first < self._settings.named or len(tokens) == 1 else 1 + int(other * (len(tokens) - 1))]


def shrunk(data: TrainingSet) -> Tensor:
    """Return the pictures as premultiplied uint8 (n, styles, 4, t, t), t a quarter larger than the models' input."""
    size = IMAGE_SIZE * 5 // 4
    parts = [premultiplied(part) for part in torch.from_numpy(data.pictures).flatten(0, 1).split(256)]
    small = [F.interpolate(part, (size, size), mode="bilinear", antialias=True) for part in parts]
    whole = torch.cat([(part * 255).round().byte() for part in small])
    return whole.reshape(*data.pictures.shape[:2], 4, size, size)
