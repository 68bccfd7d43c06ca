"""Webdataset shards on disk (CLIP_benchmark's layout, or a plain folder), alone or in place of a set's own files."""

from __future__ import annotations

import io
import math
import re
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cocabench.core.errors import DataError, MissingDataError, unreadable
from cocabench.core.files import MEMBER_BYTES, open_regular
from cocabench.core.types import Dataset, Example
from cocabench.data.base import LocalLoader, checked
from cocabench.data.files import absent, read_lines, read_text, some
from cocabench.data.images import TarImage
from cocabench.data.prompts import templates
from cocabench.specs.aliases import task_name

_IMAGES = ("jpg", "jpeg", "png", "webp")
_TARGETS = ("cls", "txt", "npy")
Sample = dict[str, Any]


class WebDataset(LocalLoader):
    """Uncompressed tars whose members ``KEY.EXT`` with one KEY are a sample; read by offset, so in any order.

    CLIP_benchmark's layout is ``SPLIT/0.tar …``, ``SPLIT/nshards.txt``, ``classnames.txt``,
    ``zeroshot_classification_templates.txt`` and ``dataset_type.txt``; without a folder SPLIT the shards of path itself
    are taken. Images are .jpg, .jpeg, .png or .webp; .cls holds a label, .npy the 0/1 vector of a multi-label one, .txt
    a caption a line. Ids are the keys.
    """

    split: str = "test"

    def build(self, root: Path, *, download: bool = False) -> Dataset:
        """Return the samples in the order of shards and members."""
        top = self.folder(root)
        base = top / self.split if (top / self.split).is_dir() else top
        samples = [pair for shard in self._shards(base) for pair in index(shard).items()]
        kind, classes = _lines(top / "dataset_type.txt"), _class_names(top / "classnames.txt")
        unlabelled = all("cls" not in sample and "npy" not in sample for _, sample in samples)
        retrieval = kind == ("retrieval",) or (unlabelled and any("txt" in s for _, s in samples))
        found = top / "zeroshot_classification_templates.txt"
        examples = [_example(key, sample, base, captions=retrieval) for key, sample in samples]
        own = tuple(templates(str(found))) if found.is_file() and not retrieval else ()
        dataset = Dataset(self.name, self.split, examples, () if retrieval else classes, own)
        return checked(dataset, base, texts=retrieval)

    def _shards(self, base: Path) -> list[Path]:
        """Return the shards that nshards.txt promises, or without it all, in natural order."""
        shards = sorted(base.glob("*.tar"), key=lambda path: [int(p) if p.isdigit() else p for p in _parts(path)])
        if not shards:
            packed = some(path.name for path in sorted(base.glob("*.tar.*")))
            got = f"compressed shards ({packed})" if packed else "no shards"
            raise self.missing(base, got, wanted="*.tar, not compressed: members are read by offset")
        count = base / "nshards.txt"
        if not count.is_file():
            return shards
        promised = [base / f"{k}.tar" for k in range(_number(count))]
        if lost := [shard.name for shard in absent(promised)]:
            got = f"{len(promised) - len(lost)} of {len(promised)} shards (nshards.txt); missing: {some(lost)}"
            raise self.missing(base, got)
        return promised


def index(shard: Path) -> dict[str, Sample]:
    """Return {key: {extension: content, or for images the TarImage}} of a tar, in its order.

    A member's key is its path up to the first dot of its name, as webdataset has it.
    """
    samples: dict[str, Sample] = {}
    try:
        with open_regular(shard) as file, tarfile.open(shard, "r:", file) as tar:
            for member in tar:
                MEMBER_BYTES.check(member.size, f"{shard}:{member.name}")
                folder, _, name = member.name.rpartition("/")
                stem, _, extension = name.partition(".")
                if member.isfile() and stem:
                    key = f"{folder}/{stem}".lstrip("./")
                    samples.setdefault(key, {})[extension.lower()] = _content(tar, member, shard, extension.lower())
    except tarfile.ReadError as error:
        raise DataError(str(shard), f"a truncated tar, or none ({error})", fix="copy it again") from None
    except OSError as error:
        raise DataError(str(shard), unreadable(error)) from None
    return samples


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo, shard: Path, extension: str) -> TarImage | bytes | None:
    if extension in _IMAGES:
        return TarImage(shard, member.name, member.offset_data, member.size)
    file = tar.extractfile(member) if extension in _TARGETS else None
    return file.read() if file else None


def _example(key: str, sample: Sample, base: Path, *, captions: bool) -> Example:
    image = next((sample[extension] for extension in _IMAGES if extension in sample), None)
    if image is None:
        raise DataError(str(base), f"sample {key!r} has no image, only {some(sample)}", wanted=" or ".join(_IMAGES))
    try:
        if captions:
            texts = [line.strip() for line in sample.get("txt", b"").decode().splitlines()]
            return Example(key, image, tuple(filter(None, texts)))
        return Example(key, image, label=_label(sample))
    except (ValueError, KeyError) as error:
        got = f"sample {key!r}: no label that can be read ({error})"
        raise DataError(str(base), got, wanted="a number in .cls, a vector in .npy, or captions in .txt") from None


def _label(sample: Sample) -> int | tuple[int, ...]:
    if "npy" in sample:
        present = _array(sample["npy"])
        return tuple(int(k) for k in np.flatnonzero(present))
    return int(sample["cls"])


def _array(content: bytes) -> NDArray[Any]:
    """Return the array of a .npy file; ValueError where it claims to be larger than the file."""
    file = io.BytesIO(content)
    read = np.lib.format.read_array_header_1_0 if np.lib.format.read_magic(file) == (1, 0) else _header_2
    shape, _, dtype = read(file)
    if math.prod(shape) * dtype.itemsize > len(content):
        raise ValueError(f"an array of {math.prod(shape):,} values in {len(content):,} bytes")
    return np.asarray(np.load(io.BytesIO(content), allow_pickle=False))


_header_2 = np.lib.format.read_array_header_2_0


def _parts(path: Path) -> list[str]:
    return re.split(r"(\d+)", path.name)


def _number(path: Path) -> int:
    text = read_text(path).strip()
    if not text.isdecimal():
        raise DataError(str(path), f"{text[:40]!r}", wanted="the number of shards")
    return int(text)


def _class_names(path: Path) -> tuple[str, ...]:
    """Return the names, a line each: an empty line before the end would shift every label after it."""
    lines = [line.strip() for line in read_text(path).rstrip().split("\n")] if path.is_file() else []
    if "" in lines:
        raise DataError(str(path), f"line {lines.index('') + 1} is empty", wanted="a class name in every line")
    return tuple(lines)


def _lines(path: Path) -> tuple[str, ...]:
    return tuple(read_lines(path)) if path.is_file() else ()


class Exported(LocalLoader):
    """A loader of a data set that may also lie below --data-root as a webdataset.

    wds: CLIP_benchmark's name of it as a webdataset: vtab/pets for its wds/vtab/pets; '' if it has none. Its folder
         (wds_vtab-pets, DataComp's wds_vtab-pets_test, or wds/vtab/pets, all also without vtab) is read if path does
         not exist, and path itself if it holds shards. Class names are the folder's, so that they fit its labels;
         its split is the loader's own, under CLIP_benchmark's name.
    """

    wds: str = ""

    def build(self, root: Path, *, download: bool = False) -> Dataset:
        """Return the data set, from its own files or its webdataset; MissingDataError if neither exists."""
        if (place := self._webdataset(root)) is None:
            return self.read(root, download=download)
        shards = WebDataset(path=place, split=self.exported_split, source=self.source)
        return replace(shards.build(root), name=self.name)

    def read(self, root: Path, *, download: bool = False) -> Dataset:
        """Return the data set from its own files; MissingDataError if they do not exist."""
        raise NotImplementedError

    def missing(self, where: Path, got: str, wanted: str = "") -> MissingDataError:
        error = super().missing(where, got, wanted)
        if not self.wds or self.path == (folder := self._folders()[0]):
            return error
        other = f"or CLIP_benchmark's webdataset {folder} (of clip-benchmark or djghosh on Hugging Face)"
        return MissingDataError(error.where, error.got, wanted=error.wanted, fix=f"{error.fix}, {other}")

    @property
    def exported_split(self) -> str:
        """CLIP_benchmark's name of the split."""
        return str(getattr(self, "split", "test"))

    def _webdataset(self, root: Path) -> str | None:
        """Return the folder below root that holds the set's webdataset; None if its own files are to be read."""
        if not self.wds:
            return None
        if self.location(root).exists():
            return self.path if any((self.location(root) / self.exported_split).glob("*.tar")) else None
        return next((folder for folder in self._folders() if (root.expanduser() / folder).is_dir()), None)

    def _folders(self) -> tuple[str, ...]:
        """Return what its folder may be called. Where VTAB's split is the set's own, DataComp may leave vtab- out."""
        names = dict.fromkeys((self.wds, task_name(self.wds)))
        flat = ["wds_" + name.replace("/", "-") for name in names]
        return (*flat, *(f"{name}_{self.exported_split}" for name in flat), *(f"wds/{name}" for name in names))
