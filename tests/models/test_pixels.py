"""Pixels travel as uint8 and are normalised in batches: the bits are those of the whole transform."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import open_clip
import PIL
import pytest
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from torchvision.transforms import (
    CenterCrop,
    Compose,
    Grayscale,
    InterpolationMode,
    Lambda,
    Normalize,
    Resize,
    ToTensor,
)
from torchvision.transforms.functional import pil_to_tensor

from cocabench.core.errors import ModelError
from cocabench.data.images import NeutralImage
from cocabench.models.hardware import Hardware
from cocabench.models.loading import batches
from cocabench.models.pixels import FastResize, Split, named_resize, split, with_resize
from cocabench.models.plain import Plain


@dataclass(frozen=True)
class Picture:
    """Noise in which every value of uint8 occurs, in a mode."""

    seed: int
    mode: str = "RGB"
    size: tuple[int, int] = (75, 60)

    def open(self) -> Image.Image:
        noise = np.random.default_rng(self.seed).integers(0, 256, (*self.size[::-1], 3), dtype=np.uint8)
        return Image.fromarray(noise).convert(self.mode)


def shipped() -> list[PreprocessCfg]:
    """Return the preprocessings of all checkpoints that open_clip lists, each once, at a size of 48 pixels."""
    kinds = [open_clip.get_pretrained_cfg(*pair) for pair in open_clip.list_pretrained()]
    keys = ("mean", "std", "interpolation", "resize_mode")
    found = {repr(kind := {key: cfg[key] for key in keys if cfg.get(key)}): kind for cfg in kinds}
    more = {"shortest": {"size": (48, 36)}, "longest": {"resize_mode": "longest", "fill_color": 7}}
    return [PreprocessCfg(**{"size": 48, **kind}) for kind in (found | more).values()]


def old_hash(pixels: torch.Tensor) -> bytes:
    """Return a hash as 0.1 made it of float pixels: caches of then hold it."""
    head = f"{pixels.dtype} {tuple(pixels.shape)}".encode()
    return hashlib.sha256(head + pixels.contiguous().numpy().tobytes()).digest()[:16]


@pytest.mark.parametrize("cfg", shipped(), ids=str)
def test_every_shipped_preprocessing_is_equal_to_the_bit(cfg: PreprocessCfg) -> None:
    transform = image_transform_v2(cfg, is_train=False)
    images = [Picture(seed, size=size) for seed, size in enumerate([(75, 60), (40, 90), (48, 48)])]
    (batch,) = batches(images, transform, batch_size=3, workers=0, skip_bad=False)
    wanted = torch.stack([transform(image.open()) for image in images])
    assert batch.pixels.dtype == torch.uint8
    with torch.autocast("cpu", torch.bfloat16):
        found = split(transform).finish(batch.pixels)
    assert found.dtype == torch.float32
    assert torch.equal(found, wanted)
    assert batch.hashes == [old_hash(one) for one in wanted]


def normalised(*steps: Any) -> Compose:
    return Compose([Resize(8), *steps, Normalize((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))])


class Twice(ToTensor):
    def __call__(self, image: Image.Image) -> torch.Tensor:
        return 2 * super().__call__(image)


def of_a_tensor(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)


WHOLE: dict[str, Callable[[Image.Image], Any]] = {
    "another scale": normalised(Twice()),
    "a step in between": normalised(ToTensor(), Lambda(torch.sqrt)),
    "a function": lambda image: normalised(ToTensor())(image),
    "its own uint8": of_a_tensor,
    "not normalised": Compose([Resize(8), ToTensor()]),
}


@pytest.mark.parametrize("name", WHOLE)
def test_transforms_that_cannot_be_split_are_left_whole(name: str) -> None:
    transform = WHOLE[name]
    assert not isinstance(split(transform), Split)
    (batch,) = batches([Picture(0)], transform, batch_size=1, workers=0, skip_bad=False)
    wanted = transform(Picture(0).open())
    assert torch.equal(split(transform).finish(batch.pixels)[0], wanted)
    assert batch.hashes == [old_hash(wanted)]


def test_a_batch_of_which_one_image_cannot_be_uint8_is_finished_in_the_worker() -> None:
    transform = image_transform_v2(PreprocessCfg(size=16), is_train=False)
    (batch,) = batches([Picture(0), NeutralImage()], transform, batch_size=2, workers=0, skip_bad=False)
    assert torch.equal(batch.pixels[0], transform(Picture(0).open()))
    assert not batch.pixels[1].any()
    assert batch.hashes == [old_hash(one) for one in batch.pixels]


def test_images_of_another_mode_are_as_totensor_makes_them() -> None:
    grey = Compose([Resize(8), Grayscale(), ToTensor(), Normalize((0.5,), (0.25,))])
    (batch,) = batches([Picture(0)], grey, batch_size=1, workers=0, skip_bad=False)
    assert torch.equal(split(grey).finish(batch.pixels)[0], grey(Picture(0).open()))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_model_gets_finished_pixels(precision: Any) -> None:
    seen: list[torch.Tensor] = []

    class Watching:
        def encode_images(self, pixels: torch.Tensor) -> torch.Tensor:
            seen.append(pixels)
            return pixels.flatten(1)

    transform = image_transform_v2(PreprocessCfg(size=16), is_train=False)
    images = [Picture(seed) for seed in range(5)]
    hardware = Hardware("cpu", precision, batch_size=2, workers=0)
    Plain("watching", Watching(), transform, hardware).encode_images(images)
    assert torch.equal(torch.cat(seen), torch.stack([transform(image.open()) for image in images]))


SHAPES = [(75, 60), (300, 200), (48, 48)]


@pytest.mark.parametrize("cfg", shipped(), ids=str)
def test_a_fast_resize_moves_few_values_or_is_refused(cfg: PreprocessCfg) -> None:
    own = image_transform_v2(cfg, is_train=False)
    if cfg.interpolation != "bicubic" or cfg.resize_mode == "longest" or cfg.size == (48, 36):
        with pytest.raises(ModelError, match=r"^--resize fast: got the transform Compose.* leave it out$"):
            with_resize(own, "fast")
        return
    fast = with_resize(own, "fast")
    images = [Picture(seed, size=size) for seed, size in enumerate(SHAPES)]
    one, other = (next(batches(images, t, batch_size=3, workers=0, skip_bad=False)).pixels for t in (own, fast))
    assert isinstance(one, torch.Tensor)
    assert isinstance(other, torch.Tensor)
    assert one.dtype == other.dtype == torch.uint8
    moved = (one.int() - other.int()).abs()
    assert 0 < (moved > 0).float().mean() < 0.01
    assert moved.max() == 1
    assert torch.equal(one[2], other[2]), "48 x 48: nothing to resize"


@pytest.mark.skipif(int(PIL.__version__.split(".")[0]) < 13, reason="this Pillow reduces the width first")
@pytest.mark.parametrize("size", [24, (24, 24), (20, 36)])
def test_a_fast_resize_reduces_the_height_first_where_pillow_does(size: Any) -> None:
    """Each order rounds between its two passes, so that the other one would move a tenth of the values and more."""
    own = Resize(size, interpolation=InterpolationMode.BICUBIC)
    shapes = (
        [(40, 41 + 3 * k) for k in range(20)] + [(60, 60 + 5 * k) for k in range(20)] + [(20, 90), (90, 20), (16, 40)]
    )
    for width, height in shapes:
        image = Picture(width, size=(width, height)).open()
        moved = (pil_to_tensor(own(image)).int() - pil_to_tensor(FastResize(own)(image)).int()).abs()
        assert moved.max() <= 2, (width, height)
        assert (moved > 0).float().mean() < 0.03, (width, height)


def test_with_a_fast_resize_pixels_are_hashed_as_they_are_read() -> None:
    fast = with_resize(image_transform_v2(PreprocessCfg(size=48), is_train=False), "fast")
    images = [Picture(0), Picture(1), Picture(0)]
    (batch,) = batches(images, fast, batch_size=3, workers=0, skip_bad=False)
    assert batch.hashes == [old_hash(one.permute(1, 2, 0)) for one in batch.pixels]
    assert batch.hashes[0] == batch.hashes[2] != batch.hashes[1]


def test_a_fast_resize_leaves_images_that_are_not_rgb_to_pillow() -> None:
    own = image_transform_v2(PreprocessCfg(size=48), is_train=False)
    fast = with_resize(own, "fast")
    for mode in ("L", "P", "RGBA", "CMYK"):
        image = Picture(0, mode).open()
        assert torch.equal(own(image), fast(image)), mode
    assert not torch.equal(own(Picture(0).open()), fast(Picture(0).open()))


def test_only_a_fast_resize_is_named_in_a_signature() -> None:
    own = image_transform_v2(PreprocessCfg(size=48), is_train=False)
    assert with_resize(own, "own") is own
    assert named_resize(None) == named_resize(own) == named_resize(of_a_tensor) == {}
    assert named_resize(with_resize(own, "fast")) == {"resize": "fast"}


BICUBIC = Resize(8, interpolation=InterpolationMode.BICUBIC)
LAST = (ToTensor(), Normalize(0.5, 0.5))


@pytest.mark.parametrize(
    "transform",
    [
        *(
            Compose([Resize(8, interpolation=kind), *LAST])
            for kind in map(InterpolationMode, ("nearest", "bilinear", "lanczos"))
        ),
        Compose([Resize(8, interpolation=InterpolationMode.BICUBIC, antialias=False), *LAST]),
        Compose([LAST[0], BICUBIC, LAST[1]]),
        Compose([BICUBIC, *LAST[::-1]]),
        Compose([BICUBIC, BICUBIC, *LAST]),
        Compose([BICUBIC, ToTensor()]),
        of_a_tensor,
    ],
    ids=[
        "nearest",
        "bilinear",
        "lanczos",
        "no antialias",
        "tensor first",
        "normalised first",
        "twice",
        "no normalise",
        "a function",
    ],
)
def test_transforms_without_a_place_for_a_fast_resize_are_an_error_of_one_line(transform: Any) -> None:
    with pytest.raises(ModelError, match="wanted torchvision's Compose with one bicubic Resize") as caught:
        with_resize(transform, "fast")
    assert "\n" not in str(caught.value)


def test_a_refused_transform_is_named_by_all_its_steps() -> None:
    steps = [Resize(8, interpolation=InterpolationMode.BILINEAR), *[CenterCrop(8)] * 30, of_a_tensor, *LAST]
    with pytest.raises(ModelError) as caught:
        with_resize(Compose(steps), "fast")
    named = ", ".join(["Resize (bilinear)", *["CenterCrop"] * 30, "of_a_tensor", "ToTensor", "Normalize"])
    assert f"got the transform Compose of {named}; wanted" in str(caught.value)
