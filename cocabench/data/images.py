"""Images that are read only when opened. Every source can be pickled; ``str(source)`` says where it is."""

from __future__ import annotations

import importlib.util
import io
import os
import struct
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import IO, Any, BinaryIO, Protocol, TypeGuard, runtime_checkable
from unittest import mock

import numpy as np
from PIL import Image, UnidentifiedImageError

from cocabench.core.errors import HEAD, BadImageError, DataError, MissingDataError, stand_in
from cocabench.core.files import MEMBER_BYTES, PIXELS, open_regular
from cocabench.core.signature import file_stamp
from cocabench.core.types import Example, IdentifiedSource, ImageSource

_BROKEN = (
    OSError, SyntaxError, ValueError, EOFError, TypeError, LookupError, struct.error, zlib.error,
    Image.DecompressionBombError,
)  # fmt: skip
"""What Pillow's decoders raise on files that are truncated or not images."""


FORMATS = (
    *("JPEG", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "PPM"),
    *(("AVIF",) if importlib.util.find_spec("PIL.AvifImagePlugin") else ()),
)
"""Accepted image formats, whatever the file name. Pillow knows more, and starts Ghostscript for some."""

READ = "a JPEG, PNG, WebP, AVIF, GIF, BMP, TIFF or PPM file"

_open, _ALONE = Image.open, threading.RLock()


def opened(file: str | Path | IO[bytes], where: object = "") -> Image.Image:
    """Return an image that is not decoded yet. BadImageError for too many pixels; else what Pillow raises.

    Pillow's own limit, which warns and cannot be set for one image alone, is off meanwhile.
    """
    with _ALONE:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            image = _open(file, formats=FORMATS)
        finally:
            Image.MAX_IMAGE_PIXELS = limit
    PIXELS.check(image.width * image.height, where or file, BadImageError)
    return image


@contextmanager
def these_formats_alone() -> Iterator[None]:
    """Make third-party data sets, which call Pillow's ``Image.open``, accept the same formats."""
    with _ALONE, mock.patch.object(Image, "open", lambda file, *_, **__: opened(file)):
        yield


PLAIN = ("RGB", "L")
"""Modes for which resizing gives the same before and after conversion to RGB."""

HEADER = 1 << 16
"""Enough of a tar member to read its mode, except for some JPEGs with much metadata."""


@runtime_checkable
class ModedSource(ImageSource, Protocol):
    """An ImageSource that knows Pillow's mode of its image without decoding it."""

    def mode(self) -> str:
        """Return the mode. Raises what open() raises."""


def is_identified(source: ImageSource) -> TypeGuard[IdentifiedSource]:
    """Return ``isinstance(source, IdentifiedSource)``, asking once per class: a protocol takes 20 µs to answer."""
    return _is(type(source), IdentifiedSource)


def is_moded(source: ImageSource) -> TypeGuard[ModedSource]:
    """Return ``isinstance(source, ModedSource)``, as above."""
    return _is(type(source), ModedSource)


@cache
def _is(kind: type, protocol: type) -> bool:
    return issubclass(kind, protocol)


@dataclass(frozen=True, slots=True)
class FileImage:
    """An image file. name: its path, kept as text: a Path takes ten times the time to make, and the memory."""

    name: str | Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", os.fspath(self.name))

    @property
    def path(self) -> Path:
        return Path(self.name)

    def open(self) -> Image.Image:
        """Decode and return the image; MissingDataError if the file is gone, BadImageError if it is not an image."""
        with self._file() as file:
            return _decoded(file, self)

    def identity(self) -> bytes:
        with self._file() as file:
            return file.read()

    def stamp(self) -> str:
        return file_stamp(self.name)

    def mode(self) -> str:
        with self._file() as file, _opened(file, self) as image:
            return mode_of(image)

    def _file(self) -> BinaryIO:
        try:
            return open_regular(self.name)
        except FileNotFoundError:
            raise MissingDataError(str(self), "no such file") from None
        except OSError as error:
            raise _bad(self, error.strerror or str(error)) from None

    def __str__(self) -> str:
        return str(self.name)


@dataclass(frozen=True, slots=True)
class TarImage:
    """A member of an uncompressed tar: size bytes from offset."""

    tar: Path
    name: str
    offset: int
    size: int

    def open(self) -> Image.Image:
        """Decode and return the image; BadImageError if the tar ends too early."""
        return _decoded(io.BytesIO(self.identity()), self)

    def identity(self) -> bytes:
        return self._read(self.size)

    def mode(self) -> str:
        try:
            with _opened(io.BytesIO(self._read(min(self.size, HEADER))), self) as image:
                return mode_of(image)
        except BadImageError:
            with _opened(io.BytesIO(self.identity()), self) as image:
                return mode_of(image)

    def _read(self, size: int) -> bytes:
        MEMBER_BYTES.check(self.size, self, BadImageError)
        try:
            with open_regular(self.tar) as file:
                file.seek(self.offset)
                content = file.read(size)
        except FileNotFoundError:
            raise MissingDataError(str(self.tar), "no such file") from None
        except OSError as error:
            raise _bad(self, error.strerror or str(error)) from None
        if len(content) < size:
            raise _bad(self, f"{len(content)} of {size} bytes")
        return content

    def stamp(self) -> str:
        inner = file_stamp(self.tar)
        return f"{inner} {self.offset} {self.size}" if inner else ""

    def __str__(self) -> str:
        return f"{self.tar}:{self.name}"


@dataclass(frozen=True, slots=True)
class BytesImage:
    """An encoded image that is in memory already. where says what it was read from."""

    content: bytes
    where: str

    def open(self) -> Image.Image:
        """Decode and return the image."""
        return _decoded(io.BytesIO(self.content), self)

    def identity(self) -> bytes:
        return self.content

    def stamp(self) -> str:
        return ""

    def mode(self) -> str:
        with _opened(io.BytesIO(self.content), self) as image:
            return mode_of(image)

    def __str__(self) -> str:
        return self.where


@dataclass(frozen=True, slots=True, eq=False)
class ItemImage:
    """The image of item index of a data set whose items are tuples (image, target), as torchvision's are."""

    items: Any
    index: int
    where: str

    def open(self) -> Image.Image:
        """Let the data set read its item."""
        try:
            with these_formats_alone():
                image = self.items[self.index][0]
        except FileNotFoundError as error:
            raise MissingDataError(str(error.filename or self), "no such file") from None
        except _BROKEN as error:
            raise _bad(self, str(error)) from None
        if not isinstance(image, Image.Image):
            raise _bad(self, f"a {type(image).__name__} where an image was expected")
        return image

    def __str__(self) -> str:
        return f"{self.where}[{self.index}]"


@dataclass(frozen=True, slots=True)
class CroppedImage:
    """An image without the border pixels on each side of it."""

    source: ImageSource
    border: int

    def open(self) -> Image.Image:
        """Decode, crop and return the image."""
        image = self.source.open()
        width, height = image.size
        if min(width, height) <= 2 * self.border:
            raise _bad(self, f"{width} x {height} pixels, nothing left within a border of {self.border}")
        return image.crop((self.border, self.border, width - self.border, height - self.border))

    def identity(self) -> bytes:
        return b"cropped %d " % self.border + identity(self.source)

    def stamp(self) -> str:
        return _of(f"cropped {self.border}", self.source)

    def mode(self) -> str:
        return mode(self.source)

    def __str__(self) -> str:
        return str(self.source)


@dataclass(frozen=True, slots=True)
class BoxImage:
    """The part of an image inside a box, as Pillow crops it: what lies beyond the image is black.

    box: left, upper, right and lower edge in pixels.
    """

    source: ImageSource
    box: tuple[int, int, int, int]

    def open(self) -> Image.Image:
        """Decode, crop and return the image."""
        return self.source.open().crop(self.box)

    def identity(self) -> bytes:
        return b"box %d %d %d %d " % self.box + identity(self.source)

    def stamp(self) -> str:
        return _of(f"box {self.box}", self.source)

    def mode(self) -> str:
        return mode(self.source)

    def __str__(self) -> str:
        return f"{self.source} in the box {self.box}"


@dataclass(frozen=True, slots=True)
class NeutralImage:
    """An image whose pixels are zeros after normalisation: a model's own mean grey, which shows it nothing.

    ``models.loading`` sets the pixels of its transform to zero.
    """

    def open(self) -> Image.Image:
        """Return a grey image, for its size."""
        return Image.new("RGB", (224, 224), (127, 127, 127))

    def identity(self) -> bytes:
        return b"neutral: zeros after normalisation"

    def stamp(self) -> str:
        return "neutral"

    def mode(self) -> str:
        return "RGB"

    def __str__(self) -> str:
        return "neutral image"


@dataclass(frozen=True, slots=True)
class OnWhiteImage:
    """A drawing with a transparent background, laid on white. Dropping alpha would reveal the colours under it."""

    source: ImageSource

    def open(self) -> Image.Image:
        """Decode the image and return it as RGB."""
        drawing = self.source.open().convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", drawing.size, "white"), drawing).convert("RGB")

    def identity(self) -> bytes:
        return b"on white " + identity(self.source)

    def stamp(self) -> str:
        return _of("on white", self.source)

    def mode(self) -> str:
        return "RGB"

    def __str__(self) -> str:
        return str(self.source)


@dataclass(frozen=True, slots=True)
class UnconvertedImage:
    """An image that is resized in its own mode and then converted to RGB, as clip-benchmark does for some data sets."""

    source: ImageSource

    def open(self) -> Image.Image:
        """Decode and return the image."""
        return self.source.open()

    def identity(self) -> bytes:
        inner = identity(self.source)
        return inner if self.mode() in PLAIN else b"unconverted " + inner

    def stamp(self) -> str:
        return _of("unconverted", self.source)

    def mode(self) -> str:
        return mode(self.source)

    def __str__(self) -> str:
        return str(self.source)


@dataclass(frozen=True, slots=True)
class WatermarkedImage:
    """An image with ImageNet-W's watermark, drawn after a model's own resizing and before it normalises.

    ``models.loading`` draws it into the pixels; what open() returns has none. by: the package that draws it and its
    version.
    """

    source: ImageSource
    by: str

    def open(self) -> Image.Image:
        """Decode and return the image without the watermark."""
        return self.source.open()

    def identity(self) -> bytes:
        return f"watermark of {self.by} ".encode() + identity(self.source)

    def stamp(self) -> str:
        return _of(f"watermark of {self.by}", self.source)

    def mode(self) -> str:
        return mode(self.source)

    def __str__(self) -> str:
        return str(self.source)


def unconverted(example: Example) -> Example:
    return replace(example, image=UnconvertedImage(example.image), others=tuple(map(UnconvertedImage, example.others)))


def shown(source: ImageSource) -> Image.Image:
    """Return the image for a model's transform: as RGB, unless it is an UnconvertedImage."""
    image = eight_bit(_untold(source.open()))
    return image if image.mode == "RGB" or isinstance(source, UnconvertedImage) else image.convert("RGB")


def eight_bit(image: Image.Image) -> Image.Image:
    """Scale 16-bit grey images to 8 bits, where Pillow would make everything above 255 white; return others unchanged.

    16-bit colours are scaled when Pillow reads them.
    """
    if not is_16_bit(image.mode):
        return image
    return Image.fromarray(((np.asarray(image).astype(np.uint32) + 128) // 257).astype(np.uint8))


def is_16_bit(mode: str) -> bool:
    return mode.startswith("I;16")


UNKNOWN_RANGE = ("I", "F")
"""Modes of 32-bit grey: nothing says which value is white. As RGB, values outside 0-255 are clipped."""


def mode_of(image: Image.Image) -> str:
    """Return Pillow's mode of an opened image, I;16 for 16-bit grey that Pillow opens as I.

    Pillow does so with a PGM of more than 8 bits, and before version 11 with a PNG of 16.
    """
    return "I;16" if image.mode == "I" and image.format in ("PNG", "PPM") else image.mode


def _untold(image: Image.Image) -> Image.Image:
    """Return the image without a palette's transparency: RGB drops it, and Pillow would warn."""
    if image.mode != "P" or not isinstance(image.info.get("transparency"), bytes):
        return image
    opaque = image.copy()
    del opaque.info["transparency"]
    return opaque


def mode(source: ImageSource) -> str:
    """Return Pillow's mode of a source's image, decoding it only if the source does not know; '' for a broken one."""
    try:
        return source.mode() if is_moded(source) else mode_of(source.open())
    except DataError:
        return ""


def identity(source: ImageSource) -> bytes:
    """Return bytes that determine any source's image: its identity, or else its decoded pixels."""
    if is_identified(source):
        return source.identity()
    image = source.open()
    head = image.mode, image.size, image.getpalette(), image.info.get("transparency")
    return repr(head).encode() + image.tobytes()


def stamp(source: ImageSource) -> str:
    """Return a text that changes when a source's identity may have; '' if only its content can tell."""
    return source.stamp() if is_identified(source) else ""


def file_of(source: ImageSource) -> str | None:
    """Return the absolute path of the file that holds a source's image, '' if it is in memory, None if unknown."""
    while isinstance(source, (BoxImage, CroppedImage, OnWhiteImage, UnconvertedImage, WatermarkedImage)):
        source = source.source
    if isinstance(source, FileImage):
        return os.path.abspath(source.name)
    if isinstance(source, TarImage):
        return os.path.abspath(source.tar)
    return "" if isinstance(source, (BytesImage, NeutralImage)) else None


def _of(step: str, source: ImageSource) -> str:
    inner = stamp(source)
    return f"{step} {inner}" if inner else ""


def _decoded(file: BinaryIO, source: ImageSource) -> Image.Image:
    with _opened(file, source) as image:
        image.load()
        deep = is_16_bit(mode_of(image)) and not is_16_bit(image.mode)
    return Image.fromarray(np.asarray(image).astype(np.uint16)) if deep else image


@contextmanager
def _opened(file: BinaryIO, source: ImageSource) -> Iterator[Image.Image]:
    """Yield an image whose header Pillow has read; BadImageError for broken files."""
    try:
        yield opened(file, source)
    except UnidentifiedImageError:
        file.seek(0)
        other = stand_in(file.read(HEAD))
        raise _bad(
            source, "not an image", other.got if other else "", other.fix if other else f"wanted {READ}"
        ) from None
    except _BROKEN as error:
        raise _bad(source, f"truncated or broken image ({error})") from None


def _bad(source: ImageSource, got: str, really: str = "", fix: str = "") -> BadImageError:
    skip = "--skip-bad-images skips it"
    return BadImageError(str(source), f"{got}: {really}" if really else got, fix=f"{fix}; {skip}" if fix else skip)
