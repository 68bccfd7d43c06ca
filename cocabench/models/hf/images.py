"""Images as a checkpoint's own image processor prepares them: its resize, crop, interpolation and normalization."""

from __future__ import annotations

from typing import Any

import transformers.image_processing_utils  # noqa: F401 — the server of data workers imports it once, for all of them
from PIL import Image
from torch import Tensor

CHANNELS_LAST = "channels_last"
"""Of Pillow's images. Without it, processors take an image of three rows for one of three channels."""


def pixels_of(processor: Any, image: Image.Image) -> Tensor:
    """Return the pixels (3, h, w) of an image."""
    made = processor(images=image.convert("RGB"), return_tensors="pt", input_data_format=CHANNELS_LAST)
    pixels: Tensor = made["pixel_values"][0]
    return pixels


def patches_of(processor: Any, image: Image.Image) -> dict[str, Tensor]:
    """Return the patches, their mask and the shape in patches of an image at its own resolution (NaFlex)."""
    made = processor(images=image.convert("RGB"), return_tensors="pt", input_data_format=CHANNELS_LAST)
    return {name: made[name][0] for name in ("pixel_values", "pixel_attention_mask", "spatial_shapes")}
