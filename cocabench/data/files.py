"""Reads the text files of data sets, and finds files in folders."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from cocabench.core import files as regular
from cocabench.core.errors import HEAD, DataError, MissingDataError, stand_in, unreadable
from cocabench.core.files import parse_json
from cocabench.core.formatting import plural, shortened
from cocabench.core.types import Note
from cocabench.data.images import FileImage
from cocabench.data.inputs import note_file, note_folder, note_tree

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".ppm", ".pgm", ".tif", ".tiff")
OTHER_SUFFIXES = (
    "", ".jfif", ".jpe", ".jif", ".jp2", ".j2k", ".jxl", ".avif", ".heic", ".heif", ".dib", ".ico", ".pbm", ".pnm",
    ".psd", ".svg", ".tga",
)  # fmt: skip
"""Endings of files that may be images and are not read; neither does torchvision's ImageFolder."""


def read_text(path: Path) -> str:
    """Return a UTF-8 file's text, without a byte order mark, its lines ending with a newline only."""
    try:
        text = regular.read_text(note_file(path), "utf-8-sig")
    except FileNotFoundError:
        raise MissingDataError(str(path), "no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(str(path), unreadable(error)) from None
    if other := stand_in(text[:HEAD].encode()):
        raise DataError(str(path), other.got, fix=other.fix)
    if "\0" in text:
        raise DataError(str(path), "not UTF-8 text (it has NUL characters, as UTF-16 does)", fix="convert it")
    return text


def read_lines(path: Path) -> list[str]:
    """Return a file's lines, stripped, without the empty ones."""
    return [line.strip() for line in read_text(path).split("\n") if line.strip()]


def read_json(path: Path) -> Any:
    """Return a file's JSON value; DataError with line and column if it is not JSON."""
    try:
        return parse_json(read_text(path))
    except json.JSONDecodeError as error:
        raise DataError(str(path), unreadable(error)) from None


class Item:
    """A value in a file of JSON, with where it stands, so that what is wrong with it can be said there."""

    def __init__(self, file: Path, value: Any, where: str = "") -> None:
        self.file, self.value, self.where = file, value, where

    def error(self, wanted: str) -> DataError:
        place = f"{self.file}: {self.where}" if self.where else str(self.file)
        return DataError(place, f"got {shortened(repr(self.value), 60)}", wanted=wanted)

    def has(self, key: str) -> bool:
        return isinstance(self.value, dict) and key in self.value

    def __getitem__(self, key: str) -> Item:
        """Return an entry of a table; DataError if there is none."""
        if not isinstance(self.value, dict):
            raise self.error(f"a table with {key!r}")
        if key not in self.value:
            raise DataError(f"{self.file}: {self.where}".rstrip(": "), f"no {key!r}")
        return Item(self.file, self.value[key], f"{self.where}.{key}".lstrip("."))

    def items(self) -> list[Item]:
        """Return the entries of a list."""
        if not isinstance(self.value, list):
            raise self.error("a list")
        return [Item(self.file, value, f"{self.where}[{k}]") for k, value in enumerate(self.value)]

    def values(self) -> list[Item]:
        """Return the entries of a table."""
        if not isinstance(self.value, dict):
            raise self.error("a table")
        return [self[key] for key in self.value]

    def text(self) -> str:
        if not isinstance(self.value, str):
            raise self.error("text")
        return self.value

    def name(self) -> str:
        """Return the name of a file or an id: text or a whole number."""
        if isinstance(self.value, bool) or not isinstance(self.value, str | int) or self.value == "":
            raise self.error("text or a whole number")
        return str(self.value)


def csv_rows(file: Path) -> list[list[str]]:
    """Return the rows of a CSV file below its head; DataError if it is no table."""
    try:
        return list(csv.reader(io.StringIO(read_text(file))))[1:]
    except csv.Error as error:
        raise DataError(str(file), f"not a table ({error})") from None


def some(items: Iterable[object], shown: int = 3) -> str:
    """Name the first few: ``a, b, c and 7 more``."""
    names = [str(item) for item in items]
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more


def subfolders(folder: Path) -> list[Path]:
    """Return the visible folders in a folder, sorted by name."""
    with os.scandir(note_folder(folder)) as entries:
        return sorted(Path(entry.path) for entry in entries if entry.is_dir() and not entry.name.startswith("."))


def find_file(folders: Iterable[Path], *names: str) -> Path | None:
    """Return the first existing file of these names, in the order of the folders; None if there is none."""
    return next((folder / name for folder in folders for name in names if note_file(folder / name).is_file()), None)


def folders_with(base: Path, inside: str) -> Iterator[Path]:
    """Yield the folders that hold the file ``inside``: base, and those at most two levels below it."""
    return (folder for folder in _two_levels(base) if note_file(folder / inside).is_file())


def _two_levels(base: Path) -> Iterator[Path]:
    yield base
    yield from (level := subfolders(base))
    for folder in level:
        yield from subfolders(folder)


def images_below(folder: Path) -> list[PurePosixPath]:
    """Return the paths of all visible image files below a folder, relative to it, sorted."""
    return only_images(files_below(folder))


def only_images(files: Iterable[PurePosixPath]) -> list[PurePosixPath]:
    return [path for path in files if is_image(path.name)]


def files_below(folder: Path) -> list[PurePosixPath]:
    """Return the paths of all visible files below a folder, relative to it, sorted."""
    found = []
    for parent, folders, files in os.walk(note_tree(folder), followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        above = Path(parent).relative_to(folder).parts
        found += [(*above, name) for name in files if not name.startswith(".")]
    return [PurePosixPath(*parts) for parts in sorted(found)]  # sorting paths takes five times longer


def left_out(files: Iterable[PurePosixPath]) -> tuple[Note, ...]:
    """Return a note that counts, by their endings, the files that may be images and are not read."""
    endings = Counter(path.suffix.lower() for path in files if path.suffix.lower() in OTHER_SUFFIXES)
    if not endings:
        return ()
    named = sorted(((-n, ending or "without ending") for ending, n in endings.items()))
    counts = ", ".join(f"{-n} {ending}" for n, ending in named)
    odd = plural(endings.total(), "file that may be an image was", "files that may be images were")
    said = f"{odd} left out ({counts}): convert them, or rename them"
    return (Note("left_out_files", said),)


def is_image(name: str) -> bool:
    """Tell by its name whether a file is an image. macOS's ``._x.jpg`` are not images."""
    return name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith(".")


def absent(paths: Iterable[Path | str]) -> list[Path]:
    """Return the paths at which there is no file, listing each folder once instead of asking for each file."""
    wanted: dict[str, list[tuple[str, Path | str]]] = defaultdict(list)
    for path in paths:
        folder, name = os.path.split(path)
        wanted[folder].append((name, path))
    lost = []
    for folder, members in wanted.items():
        entries = os.scandir(folder or ".") if os.path.isdir(folder or ".") else ()
        there = {entry.name for entry in entries if _is_file(entry)}
        lost += [path for name, path in members if name not in there]
    return [note_file(Path(path)) for path in lost]


def _is_file(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry is a file, or a link to one. git-annex and DVC leave links to files elsewhere."""
    try:
        return entry.is_file()
    except OSError:  # a circle of links, or a folder that may not be entered
        return False


def images_of(ids: Sequence[str], folder: Path, *, names: Mapping[str, str] | None = None) -> list[FileImage]:
    """Return the image of every id: the file that names says, else the one whose name is the id.

    A name is the path below folder, the file name, the same without its ending, or, of COCO's
    (COCO_val2014_000000391895.jpg), the number at its end. DataError if an id has no file or several.
    """
    if not note_file(folder).is_dir():
        raise MissingDataError(str(folder), "no such folder", wanted="the images of the captions")
    by_name, by_number = _index(images_below(folder))
    wanted = [(names or {}).get(key, key) for key in ids]
    found = [by_name.get(name) or by_number.get(name, []) for name in wanted]
    if lost := [key for key, paths in zip(ids, found, strict=True) if not paths]:
        raise DataError(str(folder), f"no image for {len(lost)} of {len(ids)} ids: {some(lost)}")
    if double := [some(paths) for paths in found if len(paths) > 1]:
        raise DataError(str(folder), f"{plural(len(double), 'id has', 'ids have')} several images: {double[0]}")
    return [FileImage(folder / paths[0]) for paths in found]


def file_names(annotations: Path) -> dict[str, str]:
    """Return {image id: file name} if a file of references lists its images as COCO's do; else nothing."""
    content = read_json(annotations) if annotations.suffix == ".json" else None
    rows = content.get("images") if isinstance(content, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        return {}
    return {str(row["id"]): Path(row["file_name"]).name for row in rows if {"id", "file_name"} <= row.keys()}


Index = Mapping[str, list[PurePosixPath]]


def _index(paths: Iterable[PurePosixPath]) -> tuple[Index, Index]:
    """Return the paths by their names, and by the number at the end of their names."""
    by_name: dict[str, list[PurePosixPath]] = defaultdict(list)
    by_number: dict[str, list[PurePosixPath]] = defaultdict(list)
    for path in paths:
        for name in {str(path), path.name, path.stem}:
            by_name[name].append(path)
        if number := re.search(r"_0*(\d+)$", path.stem):
            by_number[number[1]].append(path)
    return by_name, by_number
