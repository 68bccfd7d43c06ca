"""Webdataset shards on disk: CLIP_benchmark's layout, or a plain folder of shards."""

from __future__ import annotations

import io
import re
import tarfile
from pathlib import Path
from typing import Any

import numpy as np

from cocabench.core.errors import DataError
from cocabench.core.types import Dataset, Example
from cocabench.data.base import LocalLoader, sound
from cocabench.data.files import absent, read_lines, read_text, some
from cocabench.data.images import TarImage
from cocabench.data.prompts import templates

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
        return sound(dataset, base, texts=retrieval)

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
        with tarfile.open(shard, "r:") as tar:
            for member in tar:
                folder, _, name = member.name.rpartition("/")
                stem, _, extension = name.partition(".")
                if member.isfile() and stem:
                    key = f"{folder}/{stem}".lstrip("./")
                    samples.setdefault(key, {})[extension.lower()] = _content(tar, member, shard, extension.lower())
    except tarfile.ReadError as error:
        raise DataError(str(shard), f"a truncated tar, or none ({error})", fix="copy it again") from None
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
        present = np.load(io.BytesIO(sample["npy"]), allow_pickle=False)
        return tuple(int(k) for k in np.flatnonzero(present))
    return int(sample["cls"])


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
