"""Transforms in two parts: data workers return uint8, and the device that computes normalises whole batches.

uint8 takes a quarter of the memory and of the way to a GPU. Both parts together give the transform's own bits.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache, cached_property, partial
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from pydantic import JsonValue
from torch import Tensor

from cocabench.core.errors import ModelError
from cocabench.models.contents import HASH_BYTES

if TYPE_CHECKING:
    from torchvision.transforms import Compose, Resize

Transform = Callable[[Image.Image], Any]
"""Maps an image from ``data.images.shown`` to a tensor (3, h, w), or to another item of the model's batches. Pickled to
workers."""

EVERY_VALUE = Image.frombytes("L", (16, 16), bytes(range(256))).convert("RGB")


@dataclass(frozen=True)
class Whole:
    """A transform that is not split: batches are what it returns."""

    transform: Transform

    def read(self, image: Image.Image) -> Any:
        """Return what the model gets of an image."""
        return self.transform(image)

    def finish(self, pixels: Any) -> Any:
        """Return the pixels unchanged."""
        return pixels

    def hash(self, pixels: Tensor) -> bytes:
        """Return a hash of a tensor: its type, shape and bytes."""
        return _hash([pixels.contiguous().flatten().view(torch.uint8).numpy()], pixels.dtype, pixels.shape)


@dataclass(frozen=True)
class Split(Whole):
    """torchvision's Compose that ends with ToTensor and Normalize: open_clip's, of every checkpoint.

    Images that are not RGB by then, for which ToTensor has rules of its own, are finished at once.
    """

    transform: Compose

    def read(self, image: Image.Image) -> Tensor:
        """Return the pixels of an image before ToTensor, (3, h, w) uint8; finished ones, float32, if it is not RGB."""
        from torchvision.transforms import Compose
        from torchvision.transforms.functional import pil_to_tensor

        *steps, to_tensor, normalise = self.transform.transforms
        shaped = Compose(steps)(image)
        if isinstance(shaped, Image.Image) and shaped.mode == "RGB":
            return torch.as_tensor(pil_to_tensor(shaped))
        return torch.as_tensor(normalise(to_tensor(shaped)))

    def finish(self, pixels: Any) -> Any:
        """Return the normalised float32 pixels (…, 3, h, w) of uint8 ones on any device; others are finished already.

        The operations are those of ToTensor and Normalize. 255 is a tensor: a GPU would multiply by the inverse of a
        plain number, which differs in the last bit.
        """
        if pixels.dtype != torch.uint8:
            return pixels
        last = self.transform.transforms[-1]
        white, mean, std = _constants(_values(last.mean), _values(last.std), pixels.device)
        return pixels.to(torch.float32).div_(white).sub_(mean).div_(std)

    def hash(self, pixels: Tensor) -> bytes:
        """Return the hash of the finished pixels, which are looked up channel by channel.

        With --resize fast it is that of the uint8 ones, as they lie in memory, in a fifth of the time. Without, caches
        hold the other.
        """
        if pixels.dtype != torch.uint8:
            return super().hash(pixels)
        if named_resize(self.transform):
            return super().hash(pixels.permute(1, 2, 0))
        row = np.empty(pixels[0].numel(), np.float32)
        pairs = zip(self._finished, pixels.numpy(), strict=True)
        channels = (np.take(values, one.ravel(), out=row, mode="clip") for values, one in pairs)  # clip: without a copy
        return _hash(channels, torch.float32, pixels.shape)

    @cached_property
    def _finished(self) -> NDArray[np.float32]:
        """The finished values (3, 256) of all values of each channel."""
        found: NDArray[np.float32] = self.finish(torch.arange(256, dtype=torch.uint8).expand(3, 1, 256))[:, 0].numpy()
        return found


def split(transform: Transform) -> Whole:
    """Return a transform in two parts, if its end does to a batch what it does to an image: every value is tried."""
    if type(transform).__module__.partition(".")[0] != "torchvision":
        return Whole(transform)  # without importing torchvision, which takes a second or two
    from torchvision.transforms import Compose, Normalize, ToTensor

    steps = transform.transforms if isinstance(transform, Compose) else []
    if len(steps) < 2 or not (isinstance(steps[-2], ToTensor) and isinstance(steps[-1], Normalize)):
        return Whole(transform)
    end = Split(Compose(steps[-2:]))
    same = torch.equal(end.finish(end.read(EVERY_VALUE)), end.transform(EVERY_VALUE))
    return Split(cast("Compose", transform)) if same else Whole(transform)


@dataclass(frozen=True)
class FastResize:
    """torchvision's Resize, computed by torch on uint8 instead of Pillow; of images that are not RGB, as before.

    torch rounds its weights to 16 bits, Pillow to 22, so that 0.4 % of a photograph's values differ by 1. The height
    comes first where it shrinks by more than twice as much as the width, as in Pillow 13, whatever Pillow is installed.
    """

    own: Resize

    def __call__(self, image: Image.Image) -> Image.Image:
        """Return the resized image."""
        if image.mode != "RGB":
            return cast(Image.Image, self.own(image))
        from torchvision.transforms.functional import pil_to_tensor
        from torchvision.transforms.v2.functional import resize  # the older one computes uint8 in floats, slower

        pixels, resized = pil_to_tensor(image), partial(resize, interpolation=self.own.interpolation, antialias=True)
        made = resized(pixels, self.own.size, max_size=self.own.max_size)
        (height, width), (new_height, new_width) = pixels.shape[1:], made.shape[1:]
        if new_height < height and height - new_height > 2 * (width - new_width):
            # anew, since only torchvision knows the size; such images are few
            made = resized(resized(pixels, [new_height, width]), [new_height, new_width])
        return Image.fromarray(made.permute(1, 2, 0).numpy())


def with_resize(transform: Transform, resize: str) -> Transform:
    """Return a transform with the resize of --resize, ``own`` or ``fast``; ModelError where that cannot take its place.

    fast: FastResize instead of the one Resize, bicubic, of a torchvision Compose that ends with ToTensor and Normalize.
    """
    if resize == "own":
        return transform
    parts = split(transform)
    if isinstance(parts, Split):
        steps = parts.transform.transforms
        places = [k for k, step in enumerate(steps) if _is_bicubic(step)]
        if len(places) == 1:
            (k,) = places
            return cast(Transform, type(parts.transform)([*steps[:k], FastResize(steps[k]), *steps[k + 1 :]]))
    steps = getattr(transform, "transforms", None)
    got = _in_a_word(transform) + (f" of {', '.join(map(_in_a_word, steps))}" if steps else "")
    wanted = "torchvision's Compose with one bicubic Resize, and ToTensor and Normalize at its end"
    raise ModelError(f"--resize {resize}", f"got the transform {got}", wanted=wanted, fix="leave it out")


def _in_a_word(step: Any) -> str:
    """Return a transform's name: of a function its own, else its class's; a Resize with its interpolation."""
    name = getattr(step, "__name__", type(step).__name__)
    interpolation = getattr(step, "interpolation", None)
    return f"{name} ({interpolation.value})" if interpolation is not None else name


def named_resize(transform: Transform | None) -> dict[str, JsonValue]:
    """Return the resize as a part of a signature, which those of own resize do not have."""
    steps = getattr(transform, "transforms", ())
    return {"resize": "fast"} if any(isinstance(step, FastResize) for step in steps) else {}


def _is_bicubic(step: Any) -> bool:
    from torchvision.transforms import InterpolationMode, Resize

    return isinstance(step, Resize) and step.interpolation == InterpolationMode.BICUBIC and step.antialias is not False


def _values(given: Any) -> tuple[float, ...]:
    return tuple(np.atleast_1d(given).tolist())


@cache
def _constants(mean: tuple[float, ...], std: tuple[float, ...], device: torch.device) -> tuple[Tensor, ...]:
    """Return 255, means and deviations, to broadcast over (…, 3, h, w). Kept, since copying them waits for a GPU."""
    values = ((255.0,), mean, std)
    return tuple(torch.tensor(value, dtype=torch.float32).reshape(-1, 1, 1).to(device) for value in values)


def _hash(parts: Iterable[NDArray[Any]], dtype: torch.dtype, shape: torch.Size) -> bytes:
    """Return a hash of a type, a shape, and the bytes of all parts (n,), each used before the next one is made."""
    found = hashlib.sha256(f"{dtype} {tuple(shape)}".encode())
    for part in parts:
        found.update(part.data)
    return found.digest()[:HASH_BYTES]
