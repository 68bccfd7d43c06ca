"""Tables of image paths with captions or labels, as open_clip's trainer reads them: CSV, TSV, JSON lines."""

from __future__ import annotations

import csv
import io
import json
from abc import abstractmethod
from pathlib import Path
from typing import Any

from cocabench.core.errors import DataError
from cocabench.core.types import Dataset, Example
from cocabench.data.base import LocalLoader, checked, short_ids
from cocabench.data.files import read_text, some
from cocabench.data.images import FileImage
from cocabench.data.prompts import class_names


class Table(LocalLoader):
    """A file of rows. Several rows with one image path give one image with several captions.

    path:        the file below --data-root.
    image_key:   column of the image's path: absolute, or relative to the file's folder or to images.
    caption_key: column of the caption ('' for none; without such a column a label_key suffices). In JSON lines the
                 value may be a list.
    negative_key: column of a caption that is wrong for the image, or in JSON lines a list of them: what the row's one
                 caption competes with.
    label_key:   column of the label: an index, or a class name.
    images:      the images' folder, relative to the file's.
    classes:     class list (a shipped name or a file) that the labels index or name; by default the sorted names.
    Ids are file stems; file names, or the paths as written, where stems repeat.
    """

    image_key: str = "filepath"
    caption_key: str = "title"
    negative_key: str = ""
    label_key: str = ""
    images: str = ""
    classes: str = ""

    @property
    def name(self) -> str:
        return Path(self.path).stem

    @abstractmethod
    def rows(self, file: Path) -> tuple[list[str], list[dict[str, Any]]]:
        """Return the columns and the rows; DataError that names the lines that do not fit."""

    def build(self, root: Path, *, download: bool = False) -> Dataset:
        """Return one Example per image path, in the order of first appearance."""
        file = self.location(root)
        if not file.is_file():
            raise self.missing(file, "no such file")
        columns, rows = self.rows(file)
        captioned = self._check_columns(columns, file)
        grouped: dict[str, list[dict[str, Any]]] = {}
        for row in rows:
            grouped.setdefault(_cell(row[self.image_key]), []).append(row)
        paths = [file.parent / self.images / path for path in grouped]
        self.require(paths)
        classes, index = self._classes(rows, file) if self.label_key else ((), {})
        examples = [
            Example(
                name,
                FileImage(path),
                self._texts(own) if captioned else (),
                self._label(own, index, file) if self.label_key else None,
                negatives=self._negatives(own, file) if self.negative_key else (),
            )
            for name, path, own in zip(short_ids(list(grouped)), paths, grouped.values(), strict=True)
        ]
        return checked(Dataset(self.name, "all", examples, classes), file, texts=captioned)

    def _check_columns(self, columns: list[str], file: Path) -> bool:
        """Tell whether the rows have captions; DataError for columns that are asked for and are not there."""
        captioned = self.caption_key in columns or not self.label_key
        keys = (self.caption_key if captioned else "", self.negative_key, self.label_key)
        wanted = [self.image_key, *filter(None, keys)]
        if absent := [key for key in wanted if key not in columns]:
            one = len(columns) == 1 and any(mark in columns[0] for mark in "\t,;")
            fix = (
                "its separator seems to be another one"
                if one
                else "image_key, caption_key, negative_key, label_key name columns"
            )
            raise DataError(
                str(file), f"columns {some(map(repr, columns), 8)}", wanted=some(map(repr, absent)), fix=fix
            )
        return captioned and bool(self.caption_key)

    def _texts(self, rows: list[dict[str, Any]]) -> tuple[str, ...]:
        values = [row[self.caption_key] for row in rows]
        texts = [text for value in values for text in (value if isinstance(value, list) else [value])]
        return tuple(_cell(text) for text in texts)

    def _negatives(self, rows: list[dict[str, Any]], file: Path) -> tuple[tuple[str, ...], ...]:
        """Return the wrong captions of each row; DataError for one that has none, or several captions."""
        for row in rows:
            if isinstance(row[self.caption_key], list):
                raise DataError(str(file), f"several captions of {row[self.image_key]}", wanted="one beside negatives")
        values = [row[self.negative_key] for row in rows]
        found = [tuple(map(_cell, value if isinstance(value, list) else [value])) for value in values]
        if not all(group and all(group) for group in found):
            raise DataError(str(file), f"no {self.negative_key} for {rows[0][self.image_key]}", wanted="one a caption")
        return tuple(found)

    def _classes(self, rows: list[dict[str, Any]], file: Path) -> tuple[tuple[str, ...], dict[str, int]]:
        """Return the class names and each label's class; DataError for labels that are not in the class list."""
        values = {_cell(row[self.label_key]) for row in rows}
        names = self._listed(file)
        if all(value.isdecimal() for value in values):
            index = {value: int(value) for value in values if not names or int(value) < len(names)}
        else:
            names = names or tuple(sorted(values))
            index = {name: k for k, name in enumerate(names)}
            if len(index) < len(names):
                raise DataError(self.classes, "a name stands for two classes", fix="label the images by index")
        if unknown := sorted(values - index.keys()):
            raise DataError(str(file), f"{len(unknown)} labels not in the class list: {some(map(repr, unknown))}")
        return names, index

    def _listed(self, file: Path) -> tuple[str, ...]:
        beside = file.parent / self.classes
        return class_names(str(beside) if beside.is_file() else self.classes) if self.classes else ()

    def _label(self, rows: list[dict[str, Any]], index: dict[str, int], file: Path) -> int:
        values = sorted({_cell(row[self.label_key]) for row in rows})
        if len(values) > 1:
            raise DataError(str(file), f"{rows[0][self.image_key]} has the labels {some(values)}", wanted="one")
        return index[values[0]]


def _cell(value: Any) -> str:
    return "" if value is None else str(value).strip()


class Csv(Table):
    """Comma-separated values with a header line. open_clip's trainer writes and reads tabs by default: ``tsv``."""

    separator: str = ","

    def rows(self, file: Path) -> tuple[list[str], list[dict[str, Any]]]:
        """Return the header and the rows."""
        reader = csv.reader(io.StringIO(read_text(file)), delimiter=self.separator, strict=True)
        try:
            table = [(reader.line_num, row) for row in reader if row]
        except csv.Error as error:
            raise DataError(str(file), f"line {reader.line_num}: {error}") from None
        if not table:
            raise DataError(str(file), "an empty file")
        header = [name.strip() for name in table[0][1]]
        if ragged := [(line, row) for line, row in table[1:] if len(row) != len(header)]:
            first = f"{len(ragged[0][1])} in line {ragged[0][0]}"
            fix = "quote fields that hold the separator"
            got = f"{len(ragged)} rows with another number of fields than the header's {len(header)} (first: {first})"
            raise DataError(str(file), got, fix=fix)
        return header, [dict(zip(header, row, strict=True)) for _, row in table[1:]]


class Tsv(Csv):
    """Tab-separated values with a header line."""

    separator: str = "\t"


class Jsonl(Table):
    """One JSON object a line."""

    def rows(self, file: Path) -> tuple[list[str], list[dict[str, Any]]]:
        """Return the keys that all objects have, and the objects."""
        rows = json_lines(file)
        return list(rows[0] if not rows else set[str].intersection(*map(set, rows))), rows


def json_lines(file: Path) -> list[dict[str, Any]]:
    """Return a file's JSON objects, one a line; DataError that names the line that is none."""
    lines = enumerate(read_text(file).split("\n"), 1)
    return [_object(line, number, file) for number, line in lines if line.strip()]


def _object(line: str, number: int, file: Path) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except json.JSONDecodeError as error:
        raise DataError(str(file), f"line {number}: not JSON ({error.msg})") from None
    if not isinstance(value, dict):
        raise DataError(str(file), f"line {number}: a {type(value).__name__}", wanted="a JSON object")
    return value
