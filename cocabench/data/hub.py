"""Data sets as the Hugging Face Hub keeps them: tables (parquet, or the Arrow files of the package datasets)."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image
from pydantic import model_validator

from cocabench.core.errors import BadImageError, DataError, MissingDataError, unreadable
from cocabench.core.files import MEMBER_BYTES, ROWS, check_ratio, open_regular
from cocabench.core.formatting import plural
from cocabench.core.signature import file_stamp
from cocabench.core.types import Dataset, Example, ImageSource
from cocabench.data.base import LocalLoader, Repository, checked
from cocabench.data.files import some
from cocabench.data.images import BytesImage
from cocabench.data.inputs import note_beyond, note_file, note_folder
from cocabench.data.prompts import class_names

Row = dict[str, Any]


class Place(NamedTuple):
    """Where a row stands: its file, the row group (parquet) or batch (Arrow), and its number in there."""

    file: Path
    group: int
    row: int

    def __str__(self) -> str:
        return f"{self.file}:{self.group}:{self.row}"


@dataclass(frozen=True, slots=True)
class TableImage:
    """An encoded image in a column of a table; item: its place in the cell's list, -1 where the cell is an image."""

    place: Place
    column: str
    item: int = -1

    def open(self) -> Image.Image:
        """Decode and return the image; BadImageError if the table or the image is broken."""
        return BytesImage(self.identity(), str(self)).open()

    def identity(self) -> bytes:
        try:
            cell = _column(self.place.file, _version(self.place.file), self.place.group, self.column)[self.place.row]
        except DataError as error:
            raise BadImageError(error.where, error.got, fix=error.fix) from None
        value = cell.as_py()
        content = _content(value[self.item] if self.item >= 0 else value)
        if content is None:
            raise BadImageError(str(self), "no encoded image", wanted="bytes")
        MEMBER_BYTES.check(len(content), self, BadImageError)
        return content

    def stamp(self) -> str:
        whole = file_stamp(self.place.file)
        return f"{whole} {self.place.group} {self.place.row} {self.column} {self.item}" if whole else ""

    def __str__(self) -> str:
        item = f"[{self.item}]" if self.item >= 0 else ""
        return f"{self.place}:{self.column}{item}"


def _content(value: Any) -> bytes | None:
    """Return the bytes of an image as tables have it: {"bytes": …, "path": …}, or the bytes alone."""
    found = value.get("bytes") if isinstance(value, dict) else value
    return found if isinstance(found, bytes) else None


class HubLoader(LocalLoader):
    """A loader of tables: *.parquet in path or its folder data/, else *.arrow at any depth (the package datasets).

    path:  the folder below --data-root, or hf:ORG/NAME (or hf:ORG/NAME@REVISION), which is hub = "ORG/NAME" with the
           folder ORG/NAME.
    config: of a repository with several: their tables lie in a folder of this name.
    split: files whose name starts with it (test-00000-of-00002.parquet), or ends with it (winogavil-test.arrow), or
           that lie in a folder of that name; all files if there is no such one and no other split's.
    """

    split: str = "test"
    config: str = ""

    @model_validator(mode="before")
    @classmethod
    def _named_alone(cls, values: Any) -> Any:
        """Let path = "hf:ORG/NAME" say both the repository and its folder."""
        if isinstance(values, dict) and str(values.get("path", "")).startswith("hf:"):
            hub = str(values["path"]).removeprefix("hf:")
            return {"hub": hub, **values, "path": hub.partition("@")[0]}
        return values

    def repository(self) -> Repository | None:
        """Return the repository, of which the tables of the split are wanted."""
        found = super().repository()
        return found._replace(patterns=self._patterns()) if found else None

    def served(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        return (self.path,), self._patterns()

    def _patterns(self) -> tuple[str, ...]:
        """Return patterns of the split's tables, whose names or folders say it under any of its names."""
        words = {self.split, *(word for word, split in SPLITS.items() if split == SPLITS.get(self.split))}
        top = f"{self.config}/" if self.config else ""
        return tuple(
            f"{place}*{word}{rest}"
            for word in sorted(words)
            for place in ((top, f"{top}*/") if top else ("", "*/"))
            for rest in ("*.parquet", "/*.parquet", "*.arrow")
        )

    def tables(self, folder: Path) -> list[Path]:
        """Return the split's files in natural order; MissingDataError if there are none."""
        if self.config:
            folder = folder / self.config
        found = sorted(path for place in (folder, folder / "data") for path in note_folder(place).glob("*.parquet"))
        if not found:
            note_beyond(folder)  # files at any depth, of a package that hides folders
            found = sorted(path for ending in ("parquet", "arrow") for path in folder.rglob(f"*.{ending}"))
        if not found:
            raise self.missing(folder, "neither *.parquet nor *.arrow", wanted=f"tables of the split {self.split!r}")
        named = [path for path in found if self.split in _splits(path)]
        if not named and (others := [path.name for path in found if _splits(path)]):
            raise self.missing(folder, f"no table of the split {self.split!r}, only {some(others)}")
        return named or found

    def rows(self, files: Sequence[Path], columns: Sequence[str]) -> Iterator[tuple[Place, Row]]:
        """Yield each row's place and plain columns; DataError if a column is missing or a file damaged."""
        total = 0
        for file in files:
            names = _names(note_file(file))
            if lost := [column for column in columns if column not in names]:
                fix = "name the columns in [data]"
                raise DataError(str(file), f"columns {some(names, 12)}", wanted=some(map(repr, lost)), fix=fix)
            for group in range(_groups(file)):
                found = {name: _column(file, _version(file), group, name) for name in columns}
                n = len(next(iter(found.values())))
                total += n
                ROWS.check(total, file)
                for k in range(n):
                    yield Place(file, group, k), {name: values[k].as_py() for name, values in found.items()}

    def image(self, place: Place, column: str) -> ImageSource:
        return TableImage(place, column)


SPLITS = {"train": "train", "validation": "validation", "valid": "validation", "val": "validation", "test": "test"}


def _splits(path: Path) -> set[str]:
    """Return the splits that a file's name and its folder say."""
    stem = path.stem.removesuffix(path.stem[path.stem.find("-00") :]) if "-00" in path.stem else path.stem
    words = {stem, stem.rpartition("-")[2], stem.partition("-")[0], path.parent.name}
    return words | {SPLITS[word] for word in words if word in SPLITS} if words & SPLITS.keys() else set()


class Columns(LocalLoader):
    """What the columns of a table of images hold, each row being an image.

    image_key:   column of the image. caption_key: of a caption or a list of them. label_key: of a class index.
    id_key:      column of ids; '' numbers the rows.
    classes:     class list (a shipped name or a file); '' takes the names that the data's own features give. Both
                 must agree in their order where both exist.
    """

    image_key: str = "image"
    caption_key: str = ""
    label_key: str = ""
    id_key: str = ""
    classes: str = ""

    def keys(self) -> list[str]:
        """Return the columns beside the image; DataError if there are neither captions nor labels."""
        if not self.caption_key and not self.label_key:
            raise DataError(f"[data] of {self.path}", "neither caption_key nor label_key", wanted="one of them")
        return [key for key in (self.caption_key, self.label_key, self.id_key) if key]

    def example(self, row: Row, image: ImageSource, number: int, where: object) -> Example:
        """Return a row as an example. number: of the row, from 0. where: it stands, for errors."""
        return Example(
            str(row[self.id_key]) if self.id_key else f"{number:06d}",
            image,
            _texts(row[self.caption_key], where) if self.caption_key else (),
            _label(row[self.label_key], where, self.label_key) if self.label_key else None,
        )

    def named(self, own: Sequence[str], file: Path) -> tuple[str, ...]:
        """Return the class names. own: those of the data, () if they have none. DataError if they disagree."""
        given = class_names(self.classes) if self.classes else ()
        if own and given and len(own) != len(given):
            got = f"{plural(len(own), 'class', 'classes')} in the data's own features, {len(given)} in {self.classes}"
            raise DataError(str(file), got, fix="check data.classes")
        moved = [a for a, b in zip(own, given, strict=False) if a != b and a in given]
        if moved:
            got = f"classes in another order than {self.classes} ({some(map(repr, moved))})"
            raise DataError(str(file), got, fix="leave data.classes out, or put it in the data's order")
        return given or tuple(own)


class Hub(HubLoader, Columns):
    """Any labelled or captioned image table of the hub.

    hub: ORG/NAME or ORG/NAME@REVISION, which --download and ``cocabench data fetch`` fetch into path.
    """

    def build(self, root: Path, *, download: bool = False) -> Dataset:
        """Return an example per row, in the files' order."""
        folder, keys = self.folder(root), self.keys()
        files = self.tables(folder)
        if self.image_key not in (names := _names(files[0])):
            fix = "name it: image_key = '…' in [data]"
            raise DataError(str(files[0]), f"columns {some(names, 12)}", wanted=repr(self.image_key), fix=fix)
        own = _feature_names(files[0], self.label_key) if self.label_key else ()
        classes = self.named(own, files[0]) if self.label_key else ()
        examples = [
            self.example(row, self.image(place, self.image_key), number, place)
            for number, (place, row) in enumerate(self.rows(files, keys))
        ]
        return checked(Dataset(self.name, self.split, examples, classes), folder, texts=bool(self.caption_key))


class Winogavil(HubLoader):
    """WinoGAViL's instances: candidate_images, candidates, associations and cue.

    An example's images are the candidates, its text the cue, its label the places of the associations.
    """

    def build(self, root: Path, *, download: bool = False) -> Dataset:
        """Return an example per instance, in the files' order."""
        files = self.tables(folder := self.folder(root))
        keys = ("candidates", "associations", "cue")
        if "candidate_images" not in (names := _names(files[0])):
            raise DataError(str(files[0]), f"columns {some(names, 12)}", wanted="'candidate_images'")
        examples = []
        for number, (place, row) in enumerate(self.rows(files, keys)):
            candidates, right = list(row["candidates"] or ()), set(row["associations"] or ())
            if len(candidates) < 2 or right - set(candidates):
                got = f"row {number}: {len(candidates)} candidates, associations {some(sorted(right))}"
                raise DataError(str(place.file), got, wanted="associations that are among the candidates")
            images = [TableImage(place, "candidate_images", k) for k in range(len(candidates))]
            label = tuple(k for k, name in enumerate(candidates) if name in right)
            examples.append(
                Example(
                    f"{number:06d}",
                    images[0],
                    (str(row["cue"]).strip(),),
                    label,
                    others=tuple(images[1:]),
                    metadata={"candidates": candidates},
                )
            )
        return checked(Dataset(self.name, self.split, examples), folder, texts=True)


def _texts(value: Any, where: object) -> tuple[str, ...]:
    texts = value if isinstance(value, list) else [value]
    if not texts or not all(isinstance(text, str) for text in texts):
        raise DataError(str(where), f"got {value!r}"[:80], wanted="a caption or several")
    return tuple(text.strip() for text in texts)


def _label(value: Any, where: object, key: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise DataError(str(where), f"{key}: got {value!r}"[:80], wanted="a class index")
    return value


# Files. Their columns are read a row group at a time; the last few stay in memory, since images are read in order.


def _failed(file: Path, error: Exception) -> DataError:
    if isinstance(error, FileNotFoundError):
        return MissingDataError(str(file), "no such file")
    said = unreadable(error) if isinstance(error, OSError) else f"not readable ({error})"
    return DataError(str(file), said, fix="download it again: cocabench data check TASK")


def _parquet(file: Path) -> Any:
    import pyarrow.parquet as pq

    return pq.ParquetFile(file)


def _batches(file: Path) -> list[Any]:
    """Return the batches of an Arrow file, mapped and not read; of both forms, stream and file."""
    import pyarrow as pa

    source = pa.memory_map(str(file))
    try:
        reader = pa.ipc.open_file(source)
        found = [reader.get_batch(k) for k in range(reader.num_record_batches)]
    except pa.ArrowInvalid:
        source.seek(0)
        found = list(pa.ipc.open_stream(source))
    for batch in found:
        batch.validate(full=True)  # offsets beyond a buffer would end the process
    return found


def _schema(file: Path) -> Any:
    import pyarrow as pa

    try:
        with open_regular(file):
            pass  # an error for what is no file: a pipe would block
        if file.suffix == ".parquet":
            return _parquet(file).schema_arrow
        batches = _batches(file)
        return batches[0].schema if batches else pa.schema([])
    except (OSError, pa.ArrowException, ValueError) as error:
        raise _failed(file, error) from None


def _names(file: Path) -> list[str]:
    return list(_schema(file).names)


def _groups(file: Path) -> int:
    return int(_parquet(file).num_row_groups) if file.suffix == ".parquet" else len(_batches(file))


def _version(file: Path) -> tuple[int, ...]:
    try:
        found = os.stat(file)
    except OSError as error:
        raise _failed(file, error) from None
    return found.st_ino, found.st_size, found.st_mtime_ns


@lru_cache(maxsize=4)
def _column(file: Path, version: tuple[int, ...], group: int, name: str) -> Any:
    """Return a column of a row group or batch. version: of the file, so that a changed one is read again."""
    import pyarrow as pa

    try:
        if file.suffix != ".parquet":
            return _batches(file)[group].column(name)
        with _parquet(file) as content:
            meta = content.metadata.row_group(group)
            chunks = [meta.column(k) for k in range(meta.num_columns)]
            packed = sum(max(0, chunk.total_compressed_size) for chunk in chunks)
            check_ratio(sum(chunk.total_uncompressed_size for chunk in chunks), packed, file)
            return content.read_row_group(group, columns=[name]).column(name).combine_chunks()
    except (OSError, pa.ArrowException, ValueError, IndexError, KeyError) as error:
        raise _failed(file, error) from None


def _feature_names(file: Path, key: str) -> tuple[str, ...]:
    """Return the class names that the package datasets keeps in a table's metadata; () without any."""
    kept = (_schema(file).metadata or {}).get(b"huggingface")
    try:
        feature = json.loads(kept)["info"]["features"][key] if kept else {}
    except (ValueError, KeyError, TypeError):
        return ()
    names = feature.get("names") if isinstance(feature, dict) else None
    return tuple(map(str, names)) if isinstance(names, list) else ()
