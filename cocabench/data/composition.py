"""Images with captions that differ in a word or two: SugarCrepe; several images: Winoground, ColorSwap, COLA, MMVP."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import count, takewhile
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from cocabench.core.errors import DataError, unreadable
from cocabench.core.files import ROWS, check_ratio, open_regular, read_parquet
from cocabench.core.formatting import plural
from cocabench.core.types import Dataset, Example, ImageSource
from cocabench.data.base import LocalLoader, checked
from cocabench.data.files import IMAGE_SUFFIXES, Item, csv_rows, find_file, read_json, some
from cocabench.data.foils import GROUPS
from cocabench.data.images import BytesImage, FileImage, UnconvertedImage, unconverted
from cocabench.data.inputs import note_beyond, note_file, note_folder
from cocabench.data.tables import json_lines

IMAGES = ("val2017", "images/val2017", "../coco/val2017", "../coco/images/val2017", "../mscoco_captions/val2017")
"""Where val2017 is looked for: beside the JSON files as CLIP_benchmark has it, then where a COCO folder has it."""


class SugarCrepe(LocalLoader):
    """An image with its captions and a negative for each, by a file {key: {filename, caption, negative_caption}}.

    subset: add_att … swap_obj; SUBSET.json lies in path, in its folder data/ as in SugarCrepe's repository, or in
            SUBSET/ as CLIP_benchmark has it where --dataset_root names the data set.
    images: the images' folder, relative to path; by default val2017 beside the file, or the first of IMAGES.
    Ids are file stems. Several captions of an image are one example: they depend on each other.
    """

    subset: Literal["add_att", "add_obj", "replace_att", "replace_obj", "replace_rel", "swap_att", "swap_obj"]
    images: str = ""

    def build(self, root: Path, *, download: bool = False) -> Dataset:
        """Return the file's images in the order of first appearance."""
        folder = self.folder(root)
        if (file := find_file((folder, folder / "data", folder / self.subset), f"{self.subset}.json")) is None:
            raise self.missing(folder, f"no {self.subset}.json there nor in data/ or {self.subset}/")
        pairs = _pairs(file)
        base = self._image_folder(folder, file.parent)
        self.require([base / name for name in pairs])
        examples = [
            Example(
                Path(name).stem,
                UnconvertedImage(FileImage(base / name)),
                tuple(caption for caption, _ in own),
                negatives=tuple((negative,) for _, negative in own),
            )
            for name, own in pairs.items()
        ]
        return checked(Dataset(f"{self.name}/{self.subset}", "test", examples), file, texts=True)

    def _image_folder(self, folder: Path, beside: Path) -> Path:
        usual = [beside / "val2017", *(folder / name for name in IMAGES)]
        looked = [folder / self.images] if self.images else usual
        if found := next((place for place in looked if note_file(place).is_dir()), None):
            return found
        raise self.missing(folder, "no images", wanted=f"COCO's val2017 in {self.images or ' or '.join(IMAGES)}")


def _pairs(file: Path) -> dict[str, list[tuple[str, str]]]:
    """Return {image file: (caption, negative) …}; DataError for a file of another kind."""
    pairs: dict[str, list[tuple[str, str]]] = {}
    for row in Item(file, read_json(file)).values():
        pair = (row["caption"].text().strip(), row["negative_caption"].text().strip())
        pairs.setdefault(row["filename"].text(), []).append(pair)
    return pairs


Row = dict[str, Any]
AsImage = Callable[[Any, str], ImageSource]


class Winoground(LocalLoader):
    """Items with image_0, image_1 … and caption_0, caption_1 …, the k-th caption being that of the k-th image.

    Numbers may begin with 1 (ColorSwap).

    annotations: JSON lines, or in a file .json a list, with these keys and id, in path or its folder data/, where
    image_0 names a file of images, with or without its ending. Else *.parquet as the hub serves it, there or in data/,
    or the *.arrow files that the package datasets keeps at any depth (CLIP_benchmark's download); the images are
    inside.
    images: the images' folder beside the annotations. tables: a pattern of those tables' names without their ending.
    """

    annotations: str = "examples.jsonl"
    images: str = "images"
    tables: str = "*"

    def build(self, root: Path, *, download: bool = False) -> Dataset:
        """Return an example per item, in the file's order."""
        folder = self.folder(root)
        if file := find_file((folder, folder / "data"), self.annotations):
            rows, as_image = _listed(file), self._in_folder(file.parent / self.images)
        elif files := _tables(folder, self.tables):
            file, rows, as_image = files[0], [row for one in files for row in _rows(one)], _inside
        else:
            got = (
                f"neither {self.annotations} nor {self.tables}.parquet there or in data/, nor {self.tables}.arrow below"
            )
            raise self.missing(folder, got)
        found = [_example(row, number, file, as_image) for number, row in enumerate(rows)]
        self.require([image.path for e in found for image in e.images if isinstance(image, FileImage)])
        examples = [unconverted(example) for example in found]
        return checked(Dataset(self.name, "test", examples), file, texts=True)

    def _in_folder(self, folder: Path) -> AsImage:
        if not note_file(folder).is_dir():
            packed = folder.with_suffix(".zip")
            got = f"{packed.name} is not unpacked" if note_file(packed).is_file() else "no such folder"
            raise self.missing(folder, got, wanted="the images of the annotations")
        there: dict[str, list[Path]] = {}
        for path in sorted(note_folder(folder).iterdir()):
            if path.suffix.lower() in IMAGE_SUFFIXES:
                there.setdefault(path.stem, []).append(path)

        def as_image(name: Any, where: str) -> ImageSource:
            found = there.get(str(name), [folder / str(name)])
            if len(found) > 1:
                got = f"several images of the name {name}: {some(path.name for path in found)}"
                raise DataError(where, got, fix="keep one of them, or name its ending")
            return FileImage(found[0])

        return as_image


def _inside(cell: Any, where: str) -> ImageSource:
    """An image as the hub's tables have it: {"bytes": …, "path": …}, the path of a file where there are no bytes."""
    content, path = (cell.get("bytes"), cell.get("path")) if isinstance(cell, dict) else (cell, None)
    if content is None and path:
        return FileImage(Path(path))
    if not isinstance(content, bytes):
        raise DataError(where, f"a {type(content).__name__}", wanted="an encoded image")
    return BytesImage(content, where)


def _listed(file: Path) -> list[Row]:
    if file.suffix != ".json":
        return json_lines(file)
    for item in (items := Item(file, read_json(file)).items()):
        if not isinstance(item.value, dict):
            raise item.error("a table with images and captions")
    return [item.value for item in items]


def _tables(folder: Path, pattern: str) -> list[Path]:
    tables = [path for place in (folder, folder / "data") for path in note_folder(place).glob(f"{pattern}.parquet")]
    if not tables:
        note_beyond(folder)  # files at any depth, of a package that hides folders
    return sorted(tables) or sorted(folder.rglob(f"{pattern}.arrow"))


def _rows(file: Path) -> list[Row]:
    import pyarrow as pa

    try:
        if file.suffix == ".parquet":
            with open_regular(note_file(file)) as content:
                return list(read_parquet(content, file).to_pylist())
        with open_regular(note_file(file)) as content, pa.ipc.open_stream(content) as stream:
            return _limited(stream, file)
    except OSError as error:
        raise DataError(str(file), unreadable(error)) from None
    except (pa.ArrowException, ValueError) as error:
        raise DataError(str(file), f"not readable ({error})", fix="download it again") from None


def _limited(batches: Iterable[Any], file: Path) -> list[Row]:
    """Return the rows of Arrow batches up to the limits of rows and of what a file may unpack to."""
    rows: list[Row] = []
    unpacked, packed = 0, file.stat().st_size
    for batch in batches:
        ROWS.check(len(rows) + batch.num_rows, file)
        batch.validate(full=True)  # offsets beyond a buffer would end the process
        check_ratio(unpacked := unpacked + batch.nbytes, packed, file)
        rows += batch.to_pylist()
    return rows


def _example(row: Row, number: int, file: Path, as_image: AsImage) -> Example:
    images = [as_image(row[f"image_{k}"], f"{file}:{number}:image_{k}") for k in _numbered(row, "image")]
    texts = tuple(str(row[f"caption_{k}"]).strip() for k in _numbered(row, "caption"))
    if len(images) < 2 or len(images) != len(texts):
        got = f"item {number} has {plural(len(images), 'image')} and {plural(len(texts), 'caption')} ({some(row)})"
        raise DataError(str(file), got, wanted="image_0, image_1, caption_0, caption_1")
    return Example(str(row.get("id", number)), images[0], texts, others=tuple(images[1:]))


def _numbered(row: Row, key: str) -> list[int]:
    """Return the numbers 0, 1 … or 1, 2 … that a key has in a row."""
    first = 0 if row.get("image_0") is not None or row.get("caption_0") is not None else 1
    return list(takewhile(lambda k: row.get(f"{key}_{k}") is not None, count(first)))


class Cola(LocalLoader):
    """COLA's multi-object setting: two images whose captions exchange attributes or objects.

    annotations: a list of [address of image 1, caption 1, address of image 2, caption 2], in path or its folder data/;
    of an address only the file's name counts. images: the images' folder below path. Ids are the rows' numbers.
    """

    annotations: str = "COLA_multiobjects_matching_benchmark.json"
    images: str = "images"

    def build(self, root: Path, *, download: bool = False) -> Dataset:
        """Return an example per row."""
        folder = self.folder(root)
        if (file := find_file((folder, folder / "data"), self.annotations)) is None:
            raise self.missing(folder, f"no {self.annotations} there nor in data/")
        rows = [[cell.text() for cell in row.items()] for row in Item(file, read_json(file)).items()]
        if odd := next((k for k, row in enumerate(rows) if len(row) != 4), None):
            raise DataError(
                f"{file}: [{odd}]", plural(len(rows[odd]), "entry", "entries"), wanted="image, caption, image, caption"
            )
        pairs = [[folder / self.images / PurePosixPath(row[k]).name for k in (0, 2)] for row in rows]
        self.require([path for pair in pairs for path in pair])
        examples = [
            unconverted(Example(str(k), FileImage(one), (row[1].strip(), row[3].strip()), others=(FileImage(other),)))
            for k, (row, (one, other)) in enumerate(zip(rows, pairs, strict=True))
        ]
        return checked(Dataset(self.name, "multi-object", examples), file, texts=True)


class ColaSingle(LocalLoader):
    """COLA's single-object setting: images with the labels, such as ``square white plate``, that they show.

    annotations: {"labels": […], "data": […]}, or a list of the two, in path or its folder data/; an entry of data is
    [image, its objects, label, hard_list], or without its objects (PACO), of which label and hard_list hold 0 or 1 for
    each label. Of an image's path only the file's name counts, its stem is the id; metadata["hard"] holds the indices
    of the labels whose hard_list is 1. images: the images' folder below path. The prompt is the label alone.
    """

    annotations: str = "COLA_singleobjects_benchmark_GQA.json"
    images: str = "images"

    def build(self, root: Path, *, download: bool = False) -> Dataset:
        """Return an example per entry of data, in the file's order."""
        folder = self.folder(root)
        if (file := find_file((folder, folder / "data"), self.annotations)) is None:
            raise self.missing(folder, f"no {self.annotations} there nor in data/")
        content = Item(file, read_json(file))
        if isinstance(content.value, list) and len(content.value) != 2:
            raise content.error("labels and data")
        labels, data = content.items() if isinstance(content.value, list) else (content["labels"], content["data"])
        names = tuple(label.text() for label in labels.items())
        examples = [self._example(entry, len(names), folder / self.images) for entry in data.items()]
        self.require([e.image.path for e in examples if isinstance(e.image, FileImage)])
        whole = Dataset(self.name, "single-object", [unconverted(e) for e in examples], names, ("{c}",))
        return checked(whole, file)

    def _example(self, entry: Item, n: int, base: Path) -> Example:
        cells = entry.items()
        if len(cells) not in (3, 4):
            raise entry.error("image, objects, label, hard_list")
        shown, hard = (_ones(cell, n) for cell in cells[-2:])
        path = base / PurePosixPath(cells[0].text()).name
        return Example(path.stem, FileImage(path), label=tuple(shown), metadata={"hard": hard})


def _ones(cell: Item, n: int) -> list[int]:
    """Return the places of the ones in a list of n zeros and ones."""
    if not isinstance(cell.value, list) or any(value not in (0, 1) for value in cell.value):
        raise cell.error(f"a list of {n} zeros and ones")
    if len(cell.value) != n:
        raise DataError(
            f"{cell.file}: {cell.where}", plural(len(cell.value), "value"), wanted=f"{n}, one for each label"
        )
    return [k for k, value in enumerate(cell.value) if value]


class Mmvp(LocalLoader):
    """MMVP-VLM: pairs of images that CLIP confuses, each with its statement, in nine visual patterns.

    Files as published: Questions.csv (number, pattern, statement; rows 2k - 1 and 2k are a pair) and
    ``MLLM_VLM Images/PATTERN/NUMBER.jpg``. prefix: put before each statement, as the authors' script does. An item's
    group is its pattern.
    """

    prefix: str = "a photo of "

    def build(self, root: Path, *, download: bool = False) -> Dataset:
        """Return an example per pair, in the file's order."""
        folder = self.folder(root)
        if (file := find_file((folder,), "Questions.csv")) is None:
            raise self.missing(folder, "no Questions.csv")
        rows = csv_rows(file)
        if short := next((k for k, row in enumerate(rows, 2) if len(row) != 3), None):
            raise DataError(
                f"{file}: row {short}", plural(len(rows[short - 2]), "cell"), wanted="number, pattern, statement"
            )
        examples = [self._pair(one, other, folder, file) for one, other in zip(rows[::2], rows[1::2], strict=False)]
        if len(rows) % 2:
            raise DataError(str(file), f"{len(rows)} statements", wanted="pairs of them")
        self.require([image.path for e in examples for image in e.images if isinstance(image, FileImage)])
        return checked(Dataset(self.name, "test", [unconverted(e) for e in examples]), file, texts=True)

    def _pair(self, one: list[str], other: list[str], folder: Path, file: Path) -> Example:
        numbers, pattern = (one[0].strip(), other[0].strip()), one[1].strip()
        if not all(number.isdecimal() for number in numbers) or int(numbers[0]) % 2 != 1 or int(numbers[1]) % 2 != 0:
            got = f"the numbers {numbers[0]!r} and {numbers[1]!r} of a pair"
            raise DataError(str(file), got, wanted="an odd one, then an even one")
        images = [FileImage(folder / "MLLM_VLM Images" / pattern / f"{int(number)}.jpg") for number in numbers]
        texts = tuple(self.prefix + row[2].strip() for row in (one, other))
        return Example("-".join(numbers), images[0], texts, others=(images[1],), metadata={GROUPS: [pattern]})
