import io
import os
import pickle
from pathlib import Path
from subprocess import CalledProcessError

import pytest
from PIL import EpsImagePlugin, Image, UnidentifiedImageError, features

from cocabench.core.errors import BadImageError, MissingDataError
from cocabench.data.images import (
    FORMATS,
    BytesImage,
    CroppedImage,
    FileImage,
    ItemImage,
    OnWhiteImage,
    TarImage,
    opened,
)
from cocabench.data.webdataset import samples_of
from tests.data.drawing import draw, encoded, write, write_tar


def _image(tar: Path) -> TarImage:
    """Return the image of the sample a."""
    found = next(sample.members["png"] for sample in samples_of(tar) if sample.key == "a")
    assert isinstance(found, TarImage)
    return found


@pytest.fixture
def sources(tmp_path: Path) -> list[FileImage | TarImage | BytesImage | ItemImage]:
    draw(tmp_path / "a.png")
    tar = write_tar(tmp_path / "0.tar", {"x.cls": "1", "a.png": encoded()})
    file = FileImage(tmp_path / "a.png")
    return [file, _image(tar), BytesImage(encoded(), "memory"), ItemImage([(file.open(), 0)], 0, "items")]


def test_every_source_opens_and_survives_pickling(sources: list[FileImage]) -> None:
    for source in sources:
        image = pickle.loads(pickle.dumps(source)).open()  # noqa: S301
        assert (image.size, image.mode, image.getpixel((0, 0))) == ((8, 6), "RGB", (255, 0, 0))


def test_a_source_says_where_it_lies(sources: list[FileImage], tmp_path: Path) -> None:
    assert [str(s) for s in sources] == [f"{tmp_path}/a.png", f"{tmp_path}/0.tar:a.png", "memory", "items[0]"]


BROKEN = {
    "empty": b"",
    "text": b"<html>404</html>",
    "half a JPEG": encoded(kind="JPEG", size=(200, 200))[:700],
    "half a PNG": encoded(size=(200, 200))[:200],
    "PNG header": encoded()[:20],
    "WebP header": encoded(kind="WEBP")[:24],
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_broken_files_are_named(content: bytes, tmp_path: Path) -> None:
    file = write(tmp_path / "x.jpg", content)
    for source in (FileImage(file), BytesImage(content, str(file))):
        with pytest.raises(BadImageError, match=r"x\.jpg: (not an image|truncated or broken).*--skip-bad-images"):
            source.open()


def test_a_tar_that_ends_early(tmp_path: Path) -> None:
    tar = write_tar(tmp_path / "0.tar", {"a.png": encoded()})
    source = _image(tar)
    tar.write_bytes(tar.read_bytes()[: source.offset + 10])
    with pytest.raises(BadImageError, match=rf"10 of {source.size} bytes"):
        source.open()


def test_files_that_are_gone(tmp_path: Path) -> None:
    for source in (FileImage(tmp_path / "a.png"), TarImage(tmp_path / "0.tar", "a", 0, 1)):
        with pytest.raises(MissingDataError, match="no such file"):
            source.open()


def test_a_folder_named_like_an_image(tmp_path: Path) -> None:
    with pytest.raises(BadImageError, match="directory"):
        FileImage(tmp_path).open()


def test_an_item_without_image() -> None:
    with pytest.raises(BadImageError, match=r"items\[0\]: a str where an image"):
        ItemImage([("a", 0)], 0, "items").open()


def test_crop_takes_the_border_off_each_side() -> None:
    assert CroppedImage(BytesImage(encoded(size=(9, 7)), "a"), 2).open().size == (5, 3)
    with pytest.raises(BadImageError, match="4 x 4 pixels, nothing left"):
        CroppedImage(BytesImage(encoded(size=(4, 4)), "a"), 2).open()


def test_transparent_drawings_lie_on_white() -> None:
    drawing = BytesImage(encoded("#ff000000", mode="RGBA"), "a")
    assert OnWhiteImage(drawing).open().getpixel((0, 0)) == (255, 255, 255)


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n%%EOF\n"


@pytest.fixture
def ghostscript(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a gs on PATH; return the file that it makes when it is run."""
    ran = tmp_path / "ran"
    gs = write(tmp_path / "bin" / "gs", f"#!/bin/sh\ntouch '{ran}'\nexit 1\n".encode())
    gs.chmod(0o755)
    monkeypatch.setenv("PATH", str(gs.parent), prepend=":")
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)
    return ran


class Opened:
    """A data set as torchvision's: it calls Pillow itself."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        with Image.open(self.path) as image:
            return image.convert("RGB"), 0


def test_pillow_alone_runs_ghostscript(ghostscript: Path, tmp_path: Path) -> None:
    """What the next test proves would be nothing if the gs of the fixture were not found."""
    with Image.open(io.BytesIO(EPS)) as image, pytest.raises((OSError, CalledProcessError)):
        image.load()
    assert ghostscript.exists()


def test_an_eps_by_any_name_starts_nothing(ghostscript: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "x.png", EPS)
    tar = write_tar(tmp_path / "0.tar", {"a.png": EPS})
    for source in (
        FileImage(file),
        samples_of(tar)[0].members["png"],
        BytesImage(EPS, "x"),
        ItemImage(Opened(file), 0, "x"),
    ):
        with pytest.raises(BadImageError):
            source.open()
    with pytest.raises(UnidentifiedImageError):
        opened(io.BytesIO(EPS))
    assert not ghostscript.exists()
    assert Image.open is not opened, "other people's Image.open is theirs again"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF"])
def test_the_formats_of_data_sets_are_read_whatever_the_name(kind: str, tmp_path: Path) -> None:
    if kind not in FORMATS or (kind == "AVIF" and not features.check("avif")):
        pytest.skip("this Pillow has no AVIF")
    assert FileImage(write(tmp_path / "x.jfif", encoded(kind=kind))).open().size == (8, 6)


def test_a_photograph_of_two_pictures_is_a_jpeg() -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 6)).save(buffer, "MPO", save_all=True, append_images=[Image.new("RGB", (8, 6), "red")])
    assert BytesImage(buffer.getvalue(), "x").open().size == (8, 6)


def test_too_many_pixels_are_refused_before_they_are_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    header = b"P6 100000 100000 255\n"
    with pytest.raises(BadImageError, match=r"x: 10,000,000,000 pixels .* COCABENCH_MAX_PIXELS=10000000000"):
        BytesImage(header, "x").open()
    limit = Image.MAX_IMAGE_PIXELS
    monkeypatch.setenv("COCABENCH_MAX_PIXELS", "47")
    with pytest.raises(BadImageError, match="48 pixels in an image; wanted at most 47"):
        BytesImage(encoded(), "x").open()
    assert limit == Image.MAX_IMAGE_PIXELS


def test_a_pipe_is_no_image(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(BadImageError, match="a pipe or device, not a file"):
        FileImage(tmp_path / "a.png").open()
