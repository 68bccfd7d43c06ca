"""Images of every mode: the pixels that a model gets are those that clip-benchmark's loaders make of the same file."""

import io
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image

from cocabench.core import signature
from cocabench.core.cache import MemoryCache
from cocabench.core.types import Dataset
from cocabench.data.clip_benchmark import ClipBenchmark
from cocabench.data.composition import SugarCrepe
from cocabench.data.imagenet import ImageNet
from cocabench.data.images import BytesImage, FileImage, ItemImage, TarImage, UnconvertedImage, eight_bit, mode, shown
from cocabench.data.prompts import class_names
from cocabench.data.webdataset import WebDataset
from cocabench.models.contents import marks, modes
from cocabench.models.loading import batches
from cocabench.models.pixels import split
from tests.data.drawing import write, write_tar

TRANSFORM = image_transform_v2(PreprocessCfg(size=24), is_train=False)
MODES = ("1", "L", "LA", "P", "P with transparency", "RGB", "RGBA", "CMYK")


def picture(name: str) -> Image.Image:
    """Return 60 x 40 pixels of noise with sharp edges, in a mode."""
    rng = np.random.default_rng(7)
    pixels = np.kron(rng.integers(0, 256, (20, 30, 4), dtype=np.uint8), np.ones((2, 2, 1), np.uint8))
    rgba = Image.fromarray(pixels, "RGBA")
    if name == "I;16":
        return Image.fromarray(pixels[:, :, 0].astype(np.uint16) * 257)
    if name.startswith("P"):
        return rgba.convert("RGB").quantize(32)
    return rgba if name == "RGBA" else rgba.convert("LA" if name == "LA" else "RGB").convert(name)


def file_of(name: str) -> tuple[str, bytes]:
    """Return an ending and the content of an image file."""
    file = io.BytesIO()
    kind = "JPEG" if name == "CMYK" else "PNG"
    more = {"transparency": bytes(range(0, 256, 8))} if name == "P with transparency" else {}
    picture(name).save(file, kind, **more)
    return {"JPEG": "jpg", "PNG": "png"}[kind], file.getvalue()


def pixels(data: Dataset) -> torch.Tensor:
    images = [image for example in data.examples for image in example.images]
    found = list(batches(images, TRANSFORM, batch_size=64, workers=0, skip_bad=False))
    return torch.cat([split(TRANSFORM).finish(batch.pixels) for batch in found])


@pytest.mark.filterwarnings("ignore:WebDataset", "ignore::ResourceWarning", "ignore:Palette images with Transparency")
def test_every_mode_equals_clip_benchmarks_webdataset_loader(tmp_path: Path) -> None:
    from clip_benchmark.datasets import builder

    members: dict[str, bytes | str] = {}
    for k, name in enumerate(MODES):
        ending, content = file_of(name)
        members |= {f"{k}.{ending}": content, f"{k}.cls": "0"}
    write_tar(tmp_path / "wds/test/0.tar", members)
    write(tmp_path / "wds/test/nshards.txt", "1")
    write(tmp_path / "wds/classnames.txt", "a\n")
    theirs = builder.build_wds_dataset("x", transform=TRANSFORM, data_dir=str(tmp_path / "wds"))
    ours = WebDataset(path="wds").build(tmp_path)
    assert [mode(example.image) for example in ours.examples] == [name[: len(name.split()[0])] for name in MODES]
    assert torch.allclose(pixels(ours), torch.stack([image for image, _ in theirs]), rtol=0, atol=1e-5)


def sugar_crepe(root: Path, content: bytes) -> tuple[Dataset, Any]:
    from clip_benchmark.datasets.sugar_crepe import SugarCrepe as Theirs

    file = write(root / "sugar_crepe/val2017/1.jpg", content)
    rows = {"0": {"filename": "1.jpg", "caption": "a", "negative_caption": "b"}}
    annotations = write(root / "sugar_crepe/add_att.json", json.dumps(rows))
    theirs = Theirs(str(file.parent), str(annotations), TRANSFORM)
    return SugarCrepe(path="sugar_crepe", subset="add_att").build(root), theirs[0][0]


def imagenet_v2(root: Path, content: bytes) -> tuple[Dataset, Any]:
    from clip_benchmark.datasets import imagenetv2

    write(root / "imagenetv2/ImageNetV2-matched-frequency/0/a.jpeg", content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(imagenetv2, "V2_DATASET_SIZE", 1)
        theirs = imagenetv2.ImageNetV2Dataset(location=str(root / "imagenetv2"), transform=TRANSFORM)
    loader = ImageNet(path="imagenetv2", split="matched-frequency", synsets="imagenetv2")
    return loader.build(root), theirs[0][0]


def caltech(root: Path, content: bytes) -> tuple[Dataset, Any]:
    from clip_benchmark.datasets.caltech101 import Caltech101

    loader = ClipBenchmark(path="caltech101", dataset="caltech101", split="all")
    folder = root / "caltech101/caltech101/101_ObjectCategories"
    for k in range(len(class_names("caltech101"))):
        write(folder / f"{k:03}/image_0001.jpg", content)
    return loader.build(root), Caltech101(str(root / "caltech101"), transform=TRANSFORM)[0][0]


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore:split argument")
@pytest.mark.parametrize("name", ["RGBA", "LA", "P", "1"])
@pytest.mark.parametrize("built", [sugar_crepe, imagenet_v2])
def test_sets_that_clip_benchmark_does_not_convert_first(
    built: Callable[[Path, bytes], tuple[Dataset, Any]], name: str, tmp_path: Path
) -> None:
    ours, theirs = built(tmp_path, file_of(name)[1])
    assert torch.allclose(pixels(ours)[0], theirs, rtol=0, atol=1e-5)
    converted = TRANSFORM(picture(name).convert("RGB"))
    assert not torch.allclose(theirs, converted, rtol=0, atol=1e-2)


@pytest.mark.filterwarnings("ignore")
def test_clip_benchmarks_own_caltech_is_not_converted_first(tmp_path: Path) -> None:
    ours, theirs = caltech(tmp_path, file_of("RGBA")[1])
    assert torch.allclose(pixels(ours)[0], theirs, rtol=0, atol=1e-5)


def test_grey_images_are_the_same_before_and_after() -> None:
    image = picture("L")
    assert torch.equal(TRANSFORM(image), TRANSFORM(image.convert("RGB")))


def test_16_bit_grey_is_scaled_and_not_clipped() -> None:
    image = picture("I;16")
    assert image.mode == "I;16"
    assert np.array_equal(np.asarray(eight_bit(image)), np.asarray(picture("RGBA"))[:, :, 0])
    assert eight_bit(picture("L")).mode == "L"
    source = BytesImage(file_of("I;16")[1], "a")
    assert np.asarray(shown(source))[:, :, 2].tolist() == np.asarray(shown(UnconvertedImage(source))).tolist()
    assert np.asarray(shown(source)).std() > 30


def test_16_bit_grey_is_scaled_also_where_pillow_opens_it_with_32_bits(tmp_path: Path) -> None:
    """A PGM of 12 or 16 bits, which Pillow scales to 16; its mode I says nothing of the kind."""
    grey = np.asarray(picture("RGBA"))[:, :, 0]
    for most in (65535, 4095):
        pixels = np.rint(grey / 255 * most).astype(">u2").tobytes()
        content = f"P5 {grey.shape[1]} {grey.shape[0]} {most}\n".encode() + pixels
        for source in (
            BytesImage(content, "a"),
            FileImage(write(tmp_path / "a.pgm", content)),
            TarImage(write(tmp_path / "a.tar", content), "a", 0, len(content)),
        ):
            assert source.mode() == "I;16"
            assert np.abs(np.asarray(shown(source))[:, :, 0].astype(int) - grey).max() <= 1


def sources(tmp_path: Path) -> Iterator[Any]:
    content = file_of("RGBA")[1]
    file = write(tmp_path / "a.png", content)
    yield FileImage(file)
    yield BytesImage(content, "a")
    yield TarImage(file, "a", 0, len(content))


def test_an_unconverted_image_has_features_of_its_own_only_where_they_differ(tmp_path: Path) -> None:
    for source in sources(tmp_path):
        assert mode(source) == "RGBA"
        assert UnconvertedImage(source).identity() != source.identity()
    plain = BytesImage(file_of("RGB")[1], "a")
    assert UnconvertedImage(plain).identity() == plain.identity()
    assert mode(BytesImage(b"no image", "a")) == ""


def test_modes_of_old_files_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = [*sources(tmp_path), UnconvertedImage(BytesImage(b"", "a"))]
    os.utime(tmp_path / "a.png", (0, 0))
    monkeypatch.setattr(signature, "SETTLED_S", -60.0)
    cache = MemoryCache()
    stamps = marks(images)
    assert modes(images, stamps, cache) == modes(images, stamps, None) == {"RGBA": 3, "": 1}
    monkeypatch.setattr(FileImage, "mode", lambda self: pytest.fail("read again"))
    assert modes(images, marks(images), cache) == {"RGBA": 3, "": 1}


def test_of_sources_that_cannot_tell_a_few_speak_for_all() -> None:
    items = [(picture("LA"), 0)] * 5
    images = [ItemImage(items, k, "x") for k in range(5)]
    assert modes(images, marks(images), None) == {"LA": 3}
