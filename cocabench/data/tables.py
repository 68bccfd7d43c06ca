"""Tables of image paths with captions or labels, as open_clip's trainer reads them: CSV, TSV, JSON lines."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from abc import abstractmethod
from pathlib import Path
from typing import Annotated, Any

from pydantic import StringConstraints

from cocabench.core.errors import DataError
from cocabench.core.files import parse_json
from cocabench.core.formatting import plural
from cocabench.core.types import Dataset, Example, Note
from cocabench.data.base import EVERYTHING, LocalLoader, checked, short_ids
from cocabench.data.files import is_image, read_text, some
from cocabench.data.images import FileImage
from cocabench.data.inputs import note_file
from cocabench.data.prompts import class_names

Columns = dict[str, list[Any]]
"""The values of the rows, by column."""


class Table(LocalLoader):
    """A file of rows. Several rows with one image path give one image with several captions.

    path:        the file below --data-root.
    image_key:   column of the image's path: absolute, or relative to the file's folder or to images.
    caption_key: column of the caption ('' for none; without such a column a label_key suffices). In JSON lines the
                 value may be a list.
    negative_key: column of a caption that is wrong for the image, or in JSON lines a list of them: what the row's one
                 caption competes with.
    label_key:   column of the label: a class name or an index, which pandas may have written as 3.0.
    images:      the images' folder, relative to the file's.
    classes:     class list (a shipped name or a file) that the labels name, or else index; by default the sorted names.
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

    def served(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        return (Path(self.path).parent.as_posix(),), EVERYTHING

    @abstractmethod
    def columns(self, file: Path) -> Columns:
        """Return the values of each column; DataError that names the lines that do not fit."""

    def build(self, root: Path, *, download: bool = False) -> Dataset:
        """Return one Example per image path, in the order of first appearance."""
        file = self.location(root)
        if not note_file(file).is_file():
            raise self.missing(file, "no such file")
        columns = self.columns(file)
        captioned = self._check_columns(columns, file)
        cells = self._filled(columns, self.image_key, file)
        grouped: dict[str, list[int]] = {}
        rows_of = {cell: grouped.setdefault(os.path.normpath(cell), []) for cell in dict.fromkeys(cells)}
        for row, cell in enumerate(cells):
            rows_of[cell].append(row)
        base = str(file.parent / self.images)
        paths = [os.path.join(base, path) for path in grouped]
        self.require(paths)
        classes, index = self._classes(columns, file) if self.label_key else ((), {})
        examples = [
            Example(
                name,
                FileImage(path),
                _texts(columns[self.caption_key], rows) if captioned else (),
                self._label(columns, rows, index, file) if self.label_key else None,
                negatives=self._negatives(columns, rows, file) if self.negative_key else (),
            )
            for name, path, rows in zip(short_ids(list(grouped)), paths, grouped.values(), strict=True)
        ]
        repeated = 0 if captioned else len(cells) - len(grouped)
        said = f"{repeated} of {len(cells)} rows repeat an image with its label; each image counts once"
        notes = (Note("data", said),) if repeated else ()
        return checked(Dataset(self.name, "all", examples, classes, notes=notes), file, texts=captioned)

    def _check_columns(self, columns: Columns, file: Path) -> bool:
        """Tell whether the rows have captions; DataError for columns that are asked for and are not there."""
        captioned = self.caption_key in columns or not self.label_key
        keys = (self.caption_key if captioned else "", self.negative_key, self.label_key)
        wanted = [self.image_key, *filter(None, keys)]
        if not columns:
            raise DataError(str(file), "an empty file")
        if absent := [key for key in wanted if key not in columns]:
            one = len(columns) == 1 and any(mark in next(iter(columns)) for mark in "\t,;")
            fix = (
                "its separator seems to be another one"
                if one
                else "image_key, caption_key, negative_key, label_key name columns"
            )
            raise DataError(
                str(file), f"columns {some(map(repr, columns), 8)}", wanted=some(map(repr, absent)), fix=fix
            )
        return captioned and bool(self.caption_key)

    def _negatives(self, columns: Columns, rows: list[int], file: Path) -> tuple[tuple[str, ...], ...]:
        """Return the wrong captions of each row; DataError for one that has none, or several captions."""
        image = columns[self.image_key][rows[0]]
        if any(isinstance(columns[self.caption_key][row], list) for row in rows):
            raise DataError(str(file), f"several captions of {image}", wanted="one beside negatives")
        found = tuple(_texts(columns[self.negative_key], [row]) for row in rows)
        if not all(group and all(group) for group in found):
            raise DataError(str(file), f"no {self.negative_key} for {image}", wanted="one a caption")
        return found

    def _classes(self, columns: Columns, file: Path) -> tuple[tuple[str, ...], dict[str, int]]:
        """Return the class names and each label's class; DataError for labels that are none of the class list's."""
        cells = self._filled(columns, self.label_key, file)
        if nested := [value for value in columns[self.label_key] if isinstance(value, (list, dict))]:
            raise DataError(str(file), f"the label {nested[0]}", wanted="one label for each image")
        values = sorted(set(cells))
        names, numbers = self._listed(file), {value: k for value in values if (k := _number(value)) is not None}
        if not set(values) <= set(names) and len(numbers) == len(values):
            if negative := [value for value, k in numbers.items() if k < 0]:
                raise DataError(str(file), f"negative labels: {some(negative)}", wanted="0 or more")
            index = {value: k for value, k in numbers.items() if not names or k < len(names)}
        elif not names and numbers:
            words = [value for value in values if value not in numbers]
            got = f"labels that are numbers ({some(numbers)}) and others ({some(map(repr, words))})"
            raise DataError(str(file), got, wanted="either", fix="name the classes with classes = '…'")
        else:
            names = names or tuple(values)
            index = {name: k for k, name in enumerate(names)}
            if len(index) < len(names):
                raise DataError(self.classes, "a name stands for two classes", fix="label the images by index")
        if unknown := [value for value in values if value not in index]:
            raise DataError(str(file), f"{len(unknown)} labels not in the class list: {some(map(repr, unknown))}")
        return names, index

    def _filled(self, columns: Columns, key: str, file: Path) -> list[str]:
        """Return the cells of a column; DataError where one is empty."""
        cells = list(map(_cell, columns[key]))
        if empty := [number for number, cell in enumerate(cells, 1) if not cell]:
            got = f"{len(empty)} of {len(cells)} rows without {key}, the first is row {empty[0]}"
            raise DataError(str(file), got, fix="fill them in, or leave these rows out")
        return cells

    def _listed(self, file: Path) -> tuple[str, ...]:
        beside = file.parent / self.classes
        return class_names(str(beside) if note_file(beside).is_file() else self.classes) if self.classes else ()

    def _label(self, columns: Columns, rows: list[int], index: dict[str, int], file: Path) -> int:
        values = {index[cell]: cell for row in rows if (cell := _cell(columns[self.label_key][row]))}
        if len(values) > 1:
            got = f"{columns[self.image_key][rows[0]]} has the labels {some(sorted(values.values()))}"
            raise DataError(str(file), got, wanted="one")
        return next(iter(values))


def _cell(value: Any) -> str:
    return "" if value is None else str(value).strip()


def _texts(column: list[Any], rows: list[int]) -> tuple[str, ...]:
    """Return the texts in some rows of a column, whose values may be lists."""
    texts: list[str] = []
    for row in rows:
        if isinstance(value := column[row], list):
            texts += map(_cell, value)
        else:
            texts.append(_cell(value))
    return tuple(texts)


def _number(label: str) -> int | None:
    """Return the index that a label is, which pandas writes as 3.0 beside an empty cell; None for a name."""
    match = re.fullmatch(r"([+-]?\d+)(?:\.0*)?", label)
    return int(match[1]) if match else None


Separator = Annotated[str, StringConstraints(pattern=r'^[^\r\n"\x00]$')]
"""One character."""


class Csv(Table):
    """Comma-separated values with a header line, read as pandas does for open_clip's trainer.

    That trainer writes and reads tabs by default: ``tsv``.
    """

    separator: Separator = ","

    def columns(self, file: Path) -> Columns:
        """Return the cells of each column; of columns of one name the first."""
        reader = csv.reader(io.StringIO(read_text(file)), delimiter=self.separator)
        ragged: list[tuple[int, int]] = []
        try:
            header = [name.strip() for name in next(filter(None, reader), [])]
            if not header:
                raise DataError(str(file), "an empty file")
            columns: list[list[Any]] = [[] for _ in header]
            before = reader.line_num
            for row in filter(None, reader):
                line = reader.line_num
                if line > before + 1 and self._swallowed(row, header):
                    got = f"a quotation mark that opens a field which takes in the rows after it, until line {line}"
                    raise DataError(str(file), got, fix='quote such a field and double its marks: """so"" she said"')
                before = line
                if len(row) != len(header):
                    ragged.append((len(row), line))
                    continue
                for column, cell in zip(columns, row, strict=True):
                    column.append(cell)
        except csv.Error as error:
            raise DataError(str(file), f"line {reader.line_num}: {error}") from None
        if ragged:
            first = "{} in line {}".format(*ragged[0])
            fix = "quote fields that hold the separator"
            rows = plural(len(ragged), "row")
            got = f"{rows} with another number of fields than the header's {len(header)} (first: {first})"
            raise DataError(str(file), got, fix=fix)
        found: Columns = {}
        for name, column in zip(header, columns, strict=True):
            found.setdefault(name, column)
        return found

    def _swallowed(self, row: list[str], header: list[str]) -> bool:
        """Tell whether a field that goes over several lines holds another row: its lines have the path of an image."""
        lines = [line for cell in row if "\n" in cell for line in cell.split("\n")[1:]]
        inside = csv.reader(lines, delimiter=self.separator)
        place = header.index(self.image_key) if self.image_key in header else 0
        return any(len(cells) == len(header) and is_image(Path(cells[place]).name) for cells in inside)


class Tsv(Csv):
    """Tab-separated values with a header line."""

    separator: Separator = "\t"


class Jsonl(Table):
    """One JSON object a line."""

    def columns(self, file: Path) -> Columns:
        """Return the values of the keys that all objects have."""
        rows = json_lines(file)
        common = set[str].intersection(*map(set, rows)) if rows else set()
        return {key: [row[key] for row in rows] for key in rows[0] if key in common} if rows else {}


def json_lines(file: Path) -> list[dict[str, Any]]:
    """Return a file's JSON objects, one a line; DataError that names the line that is none."""
    lines = enumerate(read_text(file).split("\n"), 1)
    return [_object(line, number, file) for number, line in lines if line.strip()]


def _object(line: str, number: int, file: Path) -> dict[str, Any]:
    try:
        value = parse_json(line)
    except json.JSONDecodeError as error:
        raise DataError(str(file), f"line {number}: not JSON ({error.msg})") from None
    if not isinstance(value, dict):
        raise DataError(str(file), f"line {number}: a {type(value).__name__}", wanted="a JSON object")
    return value
