import pickle
from pathlib import Path

import pytest

from cocabench.core.errors import BadImageError, MissingDataError
from cocabench.data.images import BytesImage, CroppedImage, FileImage, ItemImage, OnWhiteImage, TarImage
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
