"""PatchCamelyon's HDF5 files: images in x (n, 96, 96, 3), labels in y (n, 1, 1, 1)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from cocabench.core.errors import BadImageError, MissingDataError
from cocabench.data.images import FileImage


@dataclass(frozen=True, slots=True)
class RowImage:
    """Row index of x in an HDF5 file, which is opened for each image: a handle survives neither fork nor pickle."""

    path: Path
    index: int

    def open(self) -> Image.Image:
        """Read and return the image; MissingDataError where the file is gone, BadImageError where it is broken."""
        with opened(self.path, str(self)) as file:
            return Image.fromarray(file["x"][self.index])

    def identity(self) -> bytes:
        image = self.open()
        return repr((image.mode, image.size)).encode() + image.tobytes()

    def stamp(self) -> str:
        whole = FileImage(self.path).stamp()
        return f"{whole} {self.index}" if whole else ""

    def __str__(self) -> str:
        return f"{self.path}[{self.index}]"


@contextmanager
def opened(path: Path, where: str) -> Iterator[Any]:
    import h5py

    try:
        with h5py.File(path) as file:
            yield file
    except FileNotFoundError:
        raise MissingDataError(str(path), "no such file") from None
    except (OSError, KeyError, IndexError, ValueError, TypeError) as error:
        raise BadImageError(where, str(error).splitlines()[0]) from None


def rows(pcam: Any) -> list[RowImage]:
    """Return the images of torchvision's PCAM."""
    return [RowImage(_file(pcam, "images"), k) for k in range(len(pcam))]


def labels(pcam: Any) -> list[int]:
    """Return the labels of torchvision's PCAM at once; item by item it opens two files for each."""
    path = _file(pcam, "targets")
    with opened(path, str(path)) as file:
        return [int(label) for label in file["y"][:, 0, 0, 0]]


def _file(pcam: Any, kind: str) -> Path:
    return Path(pcam._base_folder, pcam._FILES[pcam._split][kind][0])
