"""Data sets that tensorflow-datasets has prepared on disk; that package reads them, without TensorFlow."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, reduce
from importlib.util import find_spec
from operator import getitem
from pathlib import Path
from typing import Any, cast, overload

from PIL import Image

from cocabench.core.errors import BadImageError, DataError, MissingDataError, first_line
from cocabench.core.files import MEMBER_BYTES, ROWS, open_regular
from cocabench.core.formatting import plural, shortened
from cocabench.core.signature import file_stamp
from cocabench.core.types import Dataset
from cocabench.data.base import checked
from cocabench.data.files import some, subfolders
from cocabench.data.hub import Columns, Row
from cocabench.data.images import BytesImage
from cocabench.data.inputs import note_file, note_tree

INFO = "dataset_info.json"


class Tfds(Columns):
    """A data set as tensorflow-datasets keeps it: dataset_info.json, features.json, and ArrayRecord or TFRecord files.

    path:  NAME/VERSION or NAME/CONFIG/VERSION below --data-root (its data_dir), or NAME alone where there is one.
    split: its name there.
    A column is a feature; a slash leads into one that holds others (captions/text). Ids are numbers in the order of the
    files, unless id_key names a feature. Images stay as they were encoded.
    """

    split: str = "test"

    def build(self, root: Path, *, download: bool = False) -> Dataset:
        """Return an example per record, in the files' order; DataError for a feature that is not there."""
        if lost := [name for name in ("tensorflow_datasets", "array_record") if find_spec(name) is None]:
            raise MissingDataError(" and ".join(lost), "not installed", fix="pip install 'cocabench[tfds]'")
        folder, keys = self._prepared(self.folder(root)), self.keys()
        features = _features(note_tree(folder))
        for key in (self.image_key, *keys):
            if not _path(features, key):
                fix = "image_key, caption_key, label_key, id_key name features"
                raise DataError(str(folder), f"features {some(sorted(features), 12)}", wanted=repr(key), fix=fix)
        own = getattr(_feature(features, self.label_key), "names", ()) if self.label_key else ()
        classes = self.named(own, folder) if self.label_key else ()
        places = [(file, number) for file in self._files(folder) for number in range(len(_records(file, _size(file))))]
        ROWS.check(len(places), folder)
        examples = [
            self.example(row, RecordImage(file, at, self.image_key), number, f"{file}:{at}")
            for number, ((file, at), row) in enumerate(zip(places, _rows(places, keys), strict=True))
        ]
        name = str(_builder(folder).info.name)
        return checked(Dataset(name, self.split, examples, classes), folder, texts=bool(self.caption_key))

    def _prepared(self, top: Path) -> Path:
        """Return the folder with dataset_info.json: top, or the only one below it."""
        found = [folder for folder in _below(top, 2) if note_file(folder / INFO).is_file()]
        if not found:
            raise self.missing(top, f"no {INFO}", wanted="what tensorflow-datasets prepared: NAME/VERSION")
        if len(found) > 1:
            names = some(folder.relative_to(top).as_posix() for folder in found)
            raise DataError(str(top), f"several versions or configurations: {names}", fix="name one in path")
        return found[0]

    def _files(self, folder: Path) -> list[Path]:
        """Return the files of the split. MissingDataError for a split or files that are not there."""
        splits = _builder(folder).info.splits
        if self.split not in splits:
            raise self.missing(folder, f"no split {self.split!r}, only {some(splits)}")
        files = [Path(os.fspath(file)) for file in splits[self.split].filepaths]
        counts = [len(_records(file, _size(file))) for file in files]
        if counts != (promised := list(splits[self.split].shard_lengths)):
            got = f"{plural(sum(counts), 'record')} in {plural(len(files), 'file')} of the split {self.split!r}"
            raise DataError(str(folder), got, wanted=f"{sum(promised)}, as {INFO} says", fix="prepare it again")
        return files


def _below(folder: Path, levels: int) -> Iterator[Path]:
    yield folder
    for inner in subfolders(folder) if levels else ():
        yield from _below(inner, levels - 1)


@dataclass(frozen=True, slots=True)
class RecordImage:
    """The encoded image in a record of a file. column: the feature that holds it."""

    file: Path
    record: int
    column: str

    def open(self) -> Image.Image:
        """Decode and return the image; BadImageError if the file or the image is broken."""
        return BytesImage(self.identity(), str(self)).open()

    def identity(self) -> bytes:
        try:
            (row,) = _rows([(self.file, self.record)], [self.column])
        except DataError as error:
            raise BadImageError(error.where, error.got, fix=error.fix) from None
        content = row[self.column]
        if not isinstance(content, bytes):
            raise BadImageError(str(self), f"a {type(content).__name__}", wanted="an encoded image")
        MEMBER_BYTES.check(len(content), self, BadImageError)
        return content

    def stamp(self) -> str:
        whole = file_stamp(self.file)
        return f"{whole} {self.record} {self.column}" if whole else ""

    def __str__(self) -> str:
        return f"{self.file}:{self.record}"


def _rows(places: Sequence[tuple[Path, int]], keys: Sequence[str]) -> Iterator[Row]:
    """Yield the named features of each record, texts as text and images as bytes; DataError for damaged records."""
    for file, number in places:
        features = _features(file.parent)
        raw = _records(file, _size(file))[number]
        try:
            found = features.deserialize_example_np(raw, decoders=_undecoded(file.parent))
            values = {key: reduce(getitem, _path(features, key), found) for key in keys}
            yield {key: _plain(value, _feature(features, key)) for key, value in values.items()}
        except _broken() as error:
            raise _damaged(f"{file}:{number}", error) from None


def _path(features: Any, key: str) -> tuple[str, ...]:
    """Return the names that lead to a feature, () if there is none: a name may hold slashes itself (image/filename)."""
    inside = getattr(features, "feature", features)  # of a sequence: what it holds
    if not hasattr(inside, "keys"):
        return ()
    if key in inside:
        return (key,)
    first, _, rest = key.partition("/")
    deeper = _path(inside[first], rest) if rest and first in inside else ()
    return (first, *deeper) if deeper else ()


def _feature(features: Any, key: str) -> Any:
    """Return the feature of a key that is there."""
    for name in _path(features, key):
        features = getattr(features, "feature", features)[name]
    return features


def _plain(value: Any, feature: Any) -> Any:
    """Return texts and numbers in place of bytes and arrays; encoded images stay bytes."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list):
        return [_plain(one, feature) for one in value]
    return value.decode() if isinstance(value, bytes) and not _is_image(feature) else value


def _is_image(feature: Any) -> bool:
    return hasattr(feature, "encoding_format")


@lru_cache(maxsize=4)
def _builder(folder: Path) -> Any:
    """Return the package's reader of a prepared folder. DataError for damaged files."""
    import tensorflow_datasets

    try:
        return tensorflow_datasets.builder_from_directory(folder)
    except _broken() as error:
        raise _damaged(folder, error) from None


def _features(folder: Path) -> Any:
    return _builder(folder).info.features


def _undecoded(folder: Path) -> dict[str, Any]:
    """Return the decoders that leave images encoded."""
    from tensorflow_datasets import decode

    found = _features(folder)
    return {name: decode.SkipDecoding() for name in found if _is_image(found[name])}


def _size(file: Path) -> tuple[int, ...]:
    try:
        found = os.stat(file)
    except OSError:
        raise MissingDataError(str(file), "no such file") from None
    return found.st_ino, found.st_size, found.st_mtime_ns


@lru_cache(maxsize=4096)
def _records(file: Path, version: tuple[int, ...]) -> Sequence[bytes]:
    """Return a file's records, read one by one. version: of the file, so that a changed one is read again."""
    if ".tfrecord" in file.name:
        return TfRecords(file)
    from array_record.python.array_record_data_source import ArrayRecordDataSource

    try:
        return cast(Sequence[bytes], ArrayRecordDataSource([file]))
    except _broken() as error:
        raise _damaged(file, error) from None


class TfRecords(Sequence[bytes]):
    """The records of a TFRecord file: each a length of 8 bytes, its checksum of 4, the content, and a checksum of 4."""

    HEAD, TAIL = 12, 4

    def __init__(self, file: Path) -> None:
        self.file, self.places = file, list[tuple[int, int]]()
        size = file.stat().st_size
        with open_regular(file) as content:
            at = 0
            while at < size:
                content.seek(at)
                head = content.read(self.HEAD)
                length = struct.unpack("<Q", head[:8])[0] if len(head) == self.HEAD else size
                if at + self.HEAD + length + self.TAIL > size:
                    got = f"record {len(self.places)} ends beyond the file's {size:,} bytes"
                    raise DataError(str(file), got, fix="prepare it again, or copy it again")
                self.places.append((at + self.HEAD, length))
                at += self.HEAD + length + self.TAIL

    def __len__(self) -> int:
        return len(self.places)

    @overload
    def __getitem__(self, number: int) -> bytes: ...
    @overload
    def __getitem__(self, number: slice) -> list[bytes]: ...
    def __getitem__(self, number: int | slice) -> bytes | list[bytes]:
        if isinstance(number, slice):
            return [self[k] for k in range(*number.indices(len(self)))]
        at, length = self.places[number]
        with open_regular(self.file) as content:
            content.seek(at)
            return content.read(length)


def _broken() -> tuple[type[Exception], ...]:
    """Return what the packages raise for damaged files."""
    from google.protobuf import json_format, message

    known = (OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError)
    return *known, json_format.Error, message.Error


def _damaged(where: object, error: Exception) -> DataError:
    return DataError(
        str(where), f"not readable ({shortened(first_line(error), 120)})", fix="prepare it again, or copy it again"
    )
