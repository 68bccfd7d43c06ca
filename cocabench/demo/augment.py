"""Random changes of a batch of pictures that keep what is drawn and change how it is drawn."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

GRAY = (0.299, 0.587, 0.114)
"""Luma of red, green and blue (ITU-R BT.601)."""


def composite(pictures: Tensor, background: Tensor) -> Tensor:
    """Lay premultiplied RGBA (b, 4, s, s) in 0-1 over colours (b, 3, 1, 1): RGB (b, 3, s, s)."""
    return pictures[:, :3] + (1 - pictures[:, 3:]) * background


def premultiplied(pictures: Tensor) -> Tensor:
    """Turn uint8 RGBA (b, s, s, 4) into float (b, 4, s, s) in 0-1, colours times alpha."""
    scaled = pictures.permute(0, 3, 1, 2).float() / 255
    return torch.cat([scaled[:, :3] * scaled[:, 3:], scaled[:, 3:]], dim=1)


def augment(pictures: Tensor, flippable: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Return RGB (b, 3, size, size) in 0-1 for uint8 RGBA (b, s, s, 4); `flippable` is (b,) bool."""
    rgba = _move(premultiplied(pictures), flippable, size, generator)
    rgba = _outline(rgba, generator)
    rgba = torch.cat([_recolour(rgba[:, :3], generator).clamp(min=0).minimum(rgba[:, 3:]), rgba[:, 3:]], dim=1)
    rgb = composite(rgba, _backgrounds(len(rgba), generator))
    rgb = _sometimes(0.2, F.avg_pool2d(F.pad(rgb, (1, 1, 1, 1), "replicate"), 3, stride=1), rgb, generator)
    rgb = _sometimes(0.15, (rgb * 5).round() / 5, rgb, generator)
    return _erase(rgb, generator)


def _uniform(count: int, low: float, high: float, generator: torch.Generator) -> Tensor:
    """(count, 1, 1, 1) in low-high."""
    return low + (high - low) * torch.rand(count, 1, 1, 1, generator=generator)


def _sometimes(probability: float, changed: Tensor, same: Tensor, generator: torch.Generator) -> Tensor:
    return torch.where(_uniform(len(same), 0, 1, generator) < probability, changed, same)


def _move(rgba: Tensor, flippable: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Rotate by up to 17 degrees, stretch by 0.7-1.4, shear, shift by up to 12 %, and mirror what may be mirrored."""
    count = len(rgba)

    def draw(low: float, high: float) -> Tensor:
        return _uniform(count, low, high, generator).flatten()

    angle, shear = draw(-0.3, 0.3), draw(-0.15, 0.15)
    zoom, stretch = draw(-0.35, 0.35).exp(), draw(-0.12, 0.12).exp()
    mirror = torch.where(flippable & (draw(0, 1) < 0.5), -1.0, 1.0)
    cos, sin = angle.cos() / zoom, angle.sin() / zoom
    top = torch.stack([cos * stretch * mirror, (shear * cos - sin) / stretch, draw(-0.12, 0.12)], dim=1)
    bottom = torch.stack([sin * stretch * mirror, (shear * sin + cos) / stretch, draw(-0.12, 0.12)], dim=1)
    grid = F.affine_grid(torch.stack([top, bottom], dim=1), [count, 4, size, size], align_corners=False)
    return F.grid_sample(rgba, grid, align_corners=False)


def _outline(rgba: Tensor, generator: torch.Generator) -> Tensor:
    """Draw a dark or coloured line of one pixel around a fifth of the pictures."""
    alpha = F.max_pool2d(rgba[:, 3:], 3, stride=1, padding=1)
    ring = (alpha - rgba[:, 3:]) * torch.rand(len(rgba), 3, 1, 1, generator=generator) * 0.4
    return _sometimes(0.2, torch.cat([rgba[:, :3] + ring, alpha], dim=1), rgba, generator)


def _recolour(rgb: Tensor, generator: torch.Generator) -> Tensor:
    """Change hue (up to 23 degrees), saturation, brightness and colour balance; a tenth becomes gray."""
    count = len(rgb)
    gray = torch.tensor(GRAY).expand(3, 3)
    saturation = _sometimes(0.1, torch.zeros(count, 1, 1, 1), _uniform(count, 0.5, 1.5, generator), generator)[..., 0]
    mix = gray + saturation * (_hue_rotation(_uniform(count, -0.4, 0.4, generator)[..., 0]) - gray)
    gain = _uniform(count, 0.7, 1.3, generator)[..., 0] * (0.85 + 0.3 * torch.rand(count, 3, 1, generator=generator))
    return torch.einsum("bij,bjhw->bihw", gain * mix, rgb)


def _hue_rotation(angle: Tensor) -> Tensor:
    """Rotation about the gray axis (Rodrigues): angle (b, 1, 1) in radians, result (b, 3, 3)."""
    cross = torch.tensor([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / math.sqrt(3)
    return angle.cos() * torch.eye(3) + angle.sin() * cross + (1 - angle.cos()) / 3


def _backgrounds(count: int, generator: torch.Generator) -> Tensor:
    """(count, 3, 1, 1): white for half of them, black for a quarter, any colour for the rest."""
    colours = torch.rand(count, 3, 1, 1, generator=generator)
    colours = _sometimes(0.5, torch.zeros_like(colours), colours, generator)
    return _sometimes(0.5, torch.ones_like(colours), colours, generator)


def _erase(rgb: Tensor, generator: torch.Generator) -> Tensor:
    """Put a gray square of up to a third of the side into a quarter of the pictures."""
    count, side = len(rgb), rgb.shape[-1]
    axis = torch.arange(side)
    x, y = (_uniform(count, 0, side, generator) for _ in "xy")
    half = _uniform(count, 0, side / 6, generator)
    inside = ((axis - x).abs() < half) & ((axis[:, None] - y).abs() < half)
    return torch.where(inside & (_uniform(count, 0, 1, generator) < 0.25), 0.5, rgb)
