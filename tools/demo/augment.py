"""Random changes of a batch of pictures that keep what is drawn and change how it is drawn."""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

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
