"""Webdataset shards on disk (CLIP_benchmark's layout, or a plain folder), alone or in place of a set's own files."""

from __future__ import annotations

import io
import math
import re
import tarfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cocabench.core.errors import HEAD, DataError, MissingDataError, stand_in, unreadable
from cocabench.core.files import MEMBER_BYTES, expanded, open_regular
from cocabench.core.formatting import plural
from cocabench.core.types import Dataset, Example, Note
from cocabench.data.base import LocalLoader, Repository, checked
from cocabench.data.files import absent, read_text, some
from cocabench.data.images import TarImage
from cocabench.data.inputs import note_file, note_folder
from cocabench.data.prompts import differences, templates
from cocabench.specs.aliases import task_name

IMAGES = ("webp", "png", "jpg", "jpeg")
"""Endings of images; of several in a sample the first of these is read, as clip-benchmark does."""

_TARGETS = ("cls", "txt", "npy")
_TYPES = ("classification", "multilabel", "retrieval")
_META = re.compile(r"__[^/]*__($|/)")
"""Members that webdataset does not read."""

Members = dict[str, Any]
"""{extension: content, or for images the TarImage}."""


class Sample(NamedTuple):
    """Members of one key in a shard."""

    shard: Path
    key: str
    members: Members


class WebDataset(LocalLoader):
    """Uncompressed tars whose members ``KEY.EXT`` with one KEY are a sample; read by offset, so in any order.

    CLIP_benchmark's layout is ``SPLIT/0.tar …``, ``SPLIT/nshards.txt``, ``classnames.txt``,
    ``zeroshot_classification_templates.txt`` and ``dataset_type.txt``; without a folder SPLIT the shards of path itself
    are taken. Images are .webp, .png, .jpg or .jpeg; .cls holds a label, .txt a caption a line, and in multi-label data
    (dataset_type.txt says so, or there is no .cls) .npy the 0/1 vector. Ids are the keys, with their shard's name where
    they repeat between shards, and a number where they repeat in one.

    metadata: names of the numbers in each sample's .npy, in their order (DataComp's WILDS and fairness sets); they
              become the examples' metadata, and .cls may be missing.
    """

    split: str = "test"
    metadata: tuple[str, ...] = ()

    def build(self, root: Path, *, download: bool = False) -> Dataset:
        """Return the samples in the order of shards and members."""
        top = self.folder(root)
        base = top / self.split if note_file(top / self.split).is_dir() else top
        shards = self._shards(base)
        samples = [sample for shard in shards for sample in samples_of(shard)]
        notes = _notes(samples, sorted(path.name for path in note_folder(base).glob("*.tar") if path not in shards))
        kind, classes = _type(top / "dataset_type.txt", samples), _class_names(top / "classnames.txt")
        if self.metadata and kind != "retrieval":
            kind = "classification"
        if kind == "retrieval":
            examples = [_example(name, sample, texts=_captions(sample)) for name, sample in _named(samples)]
            return checked(Dataset(self.name, self.split, examples, notes=notes), base, texts=True)
        read = _labels if kind == "multilabel" else partial(_label, optional=bool(self.metadata))
        examples = [
            replace(_example(name, sample, label=read(sample, len(classes))), metadata=_metadata(sample, self.metadata))
            for name, sample in _named(samples)
        ]
        found = top / "zeroshot_classification_templates.txt"
        own = tuple(templates(str(found))) if note_file(found).is_file() else ()
        return checked(Dataset(self.name, self.split, examples, classes, own, notes), base)

    def served(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        return (self.path,), (f"{self.split}/*", "*.txt", "*.tar")

    def _shards(self, base: Path) -> list[Path]:
        """Return the shards that nshards.txt promises, or without it all, in natural order."""
        shards = sorted(
            note_folder(base).glob("*.tar"), key=lambda path: [int(p) if p.isdigit() else p for p in _parts(path)]
        )
        if not shards:
            packed = some(path.name for path in sorted(note_folder(base).glob("*.tar.*")))
            got = f"compressed shards ({packed})" if packed else "no shards"
            raise self.missing(base, got, wanted="*.tar, not compressed: members are read by offset")
        count = base / "nshards.txt"
        if not note_file(count).is_file():
            return shards
        promised = [base / f"{k}.tar" for k in range(_number(count))]
        if lost := [shard.name for shard in absent(promised)]:
            got = f"{len(promised) - len(lost)} of {len(promised)} shards (nshards.txt); missing: {some(lost)}"
            raise self.missing(base, got)
        return promised


def samples_of(shard: Path) -> list[Sample]:
    """Return the samples of a tar, in its order.

    A member's key is its path up to the first dot of its name, and members of one key that follow each other are a
    sample, as webdataset has it. A key may occur again, then it is another sample, unless the two have no extension in
    common (all images before all labels). DataError that names a key which has an extension twice in a row.
    """
    runs: list[Sample] = []
    try:
        with open_regular(note_file(shard)) as file, tarfile.open(shard, "r:", file) as tar:
            for member in tar:
                MEMBER_BYTES.check(member.size, f"{shard}:{member.name}")
                folder, _, name = member.name.rpartition("/")
                stem, dot, extension = name.partition(".")
                if not (member.isfile() and stem and dot) or _META.match(member.name):
                    continue
                key, extension = f"{folder}/{stem}".lstrip("./"), extension.lower()
                if not runs or runs[-1].key != key:
                    runs.append(Sample(shard, key, {}))
                if extension in runs[-1].members:
                    wanted = "a key of its own for each sample, or other samples between"
                    raise DataError(str(shard), f"two .{extension} in a row with the key {key!r}", wanted=wanted)
                runs[-1].members[extension] = _content(tar, member, shard, extension)
    except tarfile.ReadError as error:
        raise _unreadable(shard, error) from None
    except OSError as error:
        raise DataError(str(shard), unreadable(error)) from None
    return _joined(runs)


def _joined(runs: Sequence[Sample]) -> list[Sample]:
    """Return the runs of a shard, those of one key without a common extension as one sample."""
    found: list[Sample] = []
    last: dict[str, Members] = {}
    for run in runs:
        if run.key in last and last[run.key].keys().isdisjoint(run.members):
            last[run.key].update(run.members)
        else:
            last[run.key] = run.members
            found.append(run)
    return found


def _unreadable(shard: Path, error: tarfile.ReadError) -> DataError:
    with shard.open("rb") as file:
        other = stand_in(file.read(HEAD))
    if other:
        return DataError(str(shard), other.got, fix=other.fix)
    return DataError(str(shard), f"a truncated tar, or none ({error})", fix="copy it again")


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo, shard: Path, extension: str) -> TarImage | bytes | None:
    if extension in IMAGES:
        return TarImage(shard, member.name, member.offset_data, member.size)
    file = tar.extractfile(member) if extension in _TARGETS else None
    return file.read() if file else None


def _named(samples: Sequence[Sample]) -> Iterator[tuple[str, Sample]]:
    """Yield each sample with its id: the key, SHARD/KEY where shards share keys, with #2 … where they still repeat."""
    shared = len({sample.key for sample in samples}) < len({sample[:2] for sample in samples})
    seen: Counter[str] = Counter()
    for sample in samples:
        name = f"{sample.shard.stem}/{sample.key}" if shared else sample.key
        seen[name] += 1
        yield name if seen[name] == 1 else f"{name}#{seen[name]}", sample


def _notes(samples: Sequence[Sample], unread: Sequence[str]) -> tuple[Note, ...]:
    """Return what a reader must know of keys that repeat in a shard, samples with several images, and unread shards."""
    notes = []
    if unread:
        said = f"{len(unread)} shards that nshards.txt does not count were not read: {some(unread)}"
        notes.append(Note("left_out_files", said))
    counts = Counter(sample[:2] for sample in samples)
    if repeated := [key for (_, key), n in counts.items() if n > 1]:
        key = "key occurs again in its shard and is a sample of its own there"
        keys = plural(len(repeated), key, "keys occur again in their shard and are samples of their own there")
        said = f"{keys}: {some(repeated)}"
        notes.append(Note("data", said))
    several = [(s.key, own) for s in samples if len(own := [e for e in IMAGES if e in s.members]) > 1]
    if several:
        key, own = several[0]
        those = plural(len(several), "sample has", "samples have")
        said = f"{those} several images; the first of {', '.join(IMAGES)} is read"
        notes.append(Note("data", f"{said} (of {key!r}, with {some(own, 4)}, {own[0]})"))
    return tuple(notes)


def _type(path: Path, samples: Sequence[Sample]) -> str:
    """Return what dataset_type.txt says, else what the samples tell."""
    said = read_text(path).strip().lower() if note_file(path).is_file() else ""
    if said and said not in _TYPES:
        raise DataError(str(path), repr(said[:40]), wanted=" or ".join(_TYPES))
    there = {extension for sample in samples for extension in sample.members}
    if said or "cls" in there:
        return said or "classification"
    return "multilabel" if "npy" in there else "retrieval" if "txt" in there else "classification"


def _example(
    name: str, sample: Sample, *, texts: tuple[str, ...] = (), label: int | tuple[int, ...] | None = None
) -> Example:
    image = next((sample.members[extension] for extension in IMAGES if extension in sample.members), None)
    if image is None:
        got = f"sample {sample.key!r} has no image, only {some(sample.members)}"
        raise DataError(str(sample.shard), got, wanted=" or ".join(IMAGES))
    return Example(name, image, texts, label)


def _captions(sample: Sample) -> tuple[str, ...]:
    try:
        return tuple(filter(None, map(str.strip, sample.members.get("txt", b"").decode().splitlines())))
    except UnicodeDecodeError as error:
        got = f"sample {sample.key!r}: not UTF-8 text (byte {error.start})"
        raise DataError(str(sample.shard), got) from None


def _metadata(sample: Sample, names: Sequence[str]) -> dict[str, int | float]:
    """Return the numbers of a sample's .npy by name. DataError unless it is a vector of as many numbers as names."""
    if not names:
        return {}
    wanted = f"a vector of {len(names)} numbers: {', '.join(names)}"
    try:
        found = _array(sample.members["npy"])
    except (ValueError, KeyError, EOFError) as error:
        got = "no .npy" if isinstance(error, KeyError) else f".npy cannot be read ({error})"
        raise DataError(str(sample.shard), f"sample {sample.key!r}: {got}", wanted=wanted) from None
    if found.ndim != 1 or len(found) != len(names) or found.dtype.kind not in "iufb" or not np.isfinite(found).all():
        got = f"sample {sample.key!r}: .npy of shape {found.shape}, {found.dtype}"
        raise DataError(str(sample.shard), got, wanted=wanted, fix="check data.metadata, or download the set again")
    values = (value.item() for value in found)
    return {name: int(v) if v == int(v) else v for name, v in zip(names, values, strict=True)}


def _label(sample: Sample, n_classes: int, *, optional: bool = False) -> int | None:
    if optional and "cls" not in sample.members:
        return None
    try:
        return int(sample.members["cls"])
    except (ValueError, KeyError) as error:
        raise _unlabelled(sample, str(error), "a number in .cls, a vector in .npy, or captions in .txt") from None


def _labels(sample: Sample, n_classes: int) -> tuple[int, ...]:
    """Return the classes of a multi-label sample. DataError for anything but a 0/1 vector of a number per class."""
    try:
        present = _array(sample.members["npy"])
    except (ValueError, KeyError, EOFError) as error:
        raise _unlabelled(sample, str(error), "a vector in .npy") from None
    if not isinstance(present, np.ndarray) or present.ndim != 1 or not np.isin(present, (0, 1)).all():
        got = f"shape {present.shape}" if isinstance(present, np.ndarray) and present.ndim != 1 else "other numbers"
        raise _unlabelled(sample, f".npy: {got}", "a vector of 0 and 1, one for each class")
    if n_classes and len(present) != n_classes:
        got, wanted = f".npy: {plural(len(present), 'number')}", f"one for each of the {n_classes} classes"
        raise _unlabelled(sample, got, wanted)
    return tuple(int(k) for k in np.flatnonzero(present))


def _unlabelled(sample: Sample, why: str, wanted: str) -> DataError:
    return DataError(str(sample.shard), f"sample {sample.key!r}: no label that can be read ({why})", wanted=wanted)


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
    lines = [line.strip() for line in read_text(path).rstrip().split("\n")] if note_file(path).is_file() else []
    if "" in lines:
        raise DataError(str(path), f"line {lines.index('') + 1} is empty", wanted="a class name in every line")
    return tuple(lines)


class Exported(LocalLoader):
    """A loader of a data set that may also lie below --data-root as a webdataset.

    wds: CLIP_benchmark's name of it as a webdataset: vtab/pets for its wds/vtab/pets; '' if it has none. Its folder
         (wds_vtab-pets, DataComp's wds_vtab-pets_test, or wds/vtab/pets, all also without vtab) is read if path does
         not exist, and path itself if it holds shards. Class names are the folder's, so that they fit its labels; a
         note says where they or its templates differ from clip-benchmark's. Its split is the loader's own, under
         CLIP_benchmark's name.
    """

    wds: str = ""

    def build(self, root: Path, *, download: bool = False) -> Dataset:
        """Return the data set, from its own files or its webdataset; MissingDataError if neither exists."""
        if (place := self._webdataset(root)) is None:
            return self.read(root, download=download)
        shards = WebDataset(path=place, split=self.exported_split, source=self.source)
        found = shards.build(root)
        said = differences(found.classes, found.templates, self.wds)
        notes = tuple(Note("other_prompts", f"{place} and clip-benchmark: {one}") for one in said)
        return replace(found, name=self.name, notes=(*found.notes, *notes))

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

    def repository(self) -> Repository | None:
        """Return CLIP_benchmark's webdataset of the split on the hub."""
        if super().repository() or not self.wds:
            return super().repository()
        folder = self._folders()[0]
        patterns = (f"{self.exported_split}/*", "*.txt")
        return Repository(f"clip-benchmark/{folder}", "", folder, patterns)

    def served(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        if not self.wds:
            return super().served()
        return (*self._folders(), self.path), (f"{self.exported_split}/*", "*.txt", "*.tar")

    def there(self, root: Path) -> bool:
        return super().there(root) or self._webdataset(root) is not None

    def _webdataset(self, root: Path) -> str | None:
        """Return the folder below root that holds the set's webdataset; None if its own files are to be read."""
        if not self.wds:
            return None
        if note_file(self.location(root)).exists():
            return self.path if any(note_folder(self.location(root) / self.exported_split).glob("*.tar")) else None
        return next((folder for folder in self._folders() if note_file(expanded(root) / folder).is_dir()), None)

    def _folders(self) -> tuple[str, ...]:
        """Return what its folder may be called. Where VTAB's split is the set's own, DataComp may leave vtab- out."""
        names = dict.fromkeys((self.wds, task_name(self.wds)))
        flat = ["wds_" + name.replace("/", "-") for name in names]
        return (*flat, *(f"{name}_{self.exported_split}" for name in flat), *(f"wds/{name}" for name in names))
