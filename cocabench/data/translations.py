"""Captions in many languages: XTD10, XTD200, Flickr30k-200, Crossmodal-3600, and Flickr's translations."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Annotated

from pydantic import Field

from cocabench.core.errors import DataError, UnknownNameError
from cocabench.core.files import expanded
from cocabench.core.formatting import plural
from cocabench.core.types import Dataset, Example, Note
from cocabench.data.base import LocalLoader, checked
from cocabench.data.files import Item, find_file, read_json, read_text, some
from cocabench.data.images import FileImage
from cocabench.data.inputs import note_file
from cocabench.data.tables import json_lines

TRAIN = "train2014"
"""What the names of COCO's training images hold."""


class CaptionLines(LocalLoader):
    """An index with the name of an image a line, and a file of captions with as many lines: one caption an image.

    path:     the folder of both and of the images. index, captions: the files' names, in path or folders below it.
    images:   the images' folder below path; by default the one, at most two levels deep, that holds them.
    exported: the name of the file that clip-benchmark makes of both, {image_paths, annotations}, which is read instead
              where the captions are not there. It lies in path, or in --data-root.
    Ids are file stems.
    """

    index: str
    captions: str
    images: str = ""
    exported: str = ""

    def build(self, root: Path, *, download: bool = False) -> Dataset:
        """Return the images in the order of the index."""
        folder = self.folder(root)
        names, captions, file = self._pairs(folder, expanded(root))
        base, notes = self.image_folder(folder, names[0], self.images) if names else (folder, ())
        paths = [base / name for name in names]
        self.require(paths)
        if bare := [name for name, caption in zip(names, captions, strict=True) if not caption]:
            raise DataError(str(file), f"{plural(len(bare), 'image')} without a caption: {some(bare)}")
        examples = [Example(path.stem, FileImage(path), (text,)) for path, text in zip(paths, captions, strict=True)]
        trained = sum(TRAIN in name for name in names)
        said = f"{trained} of {len(names)} images are of COCO's {TRAIN}, which many models were trained on"
        notes = (*notes, *([Note("training_images", said)] if trained else []))
        return checked(Dataset(self.name, "test", examples, notes=notes), file, texts=True)

    def _pairs(self, folder: Path, root: Path) -> tuple[list[str], list[str], Path]:
        """Return the images' names, their captions, and the file that has the captions."""
        if (file := find_file(_places(folder), self.captions)) is None:
            if self.exported and (other := find_file((folder, root), self.exported)):
                return (*_exported(other), other)
            raise self.missing(folder, f"no {self.captions} there")
        if (index := find_file(_places(folder), self.index)) is None:
            raise self.missing(folder, f"no {self.index} there")
        names, captions = _lines(index), _lines(file)
        if len(names) != len(captions):
            raise DataError(str(file), plural(len(captions), "line"), wanted=f"{len(names)}, as {index.name} has")
        return names, captions, file


def _places(folder: Path) -> list[Path]:
    """Return the folders that files of captions lie in: the repository of XTD10 has three."""
    return [folder, *(folder / name for name in ("XTD10", "MIC", "STAIR", "captions", "data"))]


def _lines(file: Path) -> list[str]:
    """Return a file's lines, stripped; empty ones count, but for those at its end."""
    text = read_text(file).rstrip()
    return [line.strip() for line in text.split("\n")] if text else []


def _exported(file: Path) -> tuple[list[str], list[str]]:
    """Return names and captions of clip-benchmark's file, whose paths are those of another machine."""
    content = Item(file, read_json(file))
    names = [PurePosixPath(item.text()).name for item in content["image_paths"].items()]
    captions = [item.text().strip() for item in content["annotations"].items()]
    if len(names) != len(captions):
        raise DataError(str(file), f"{len(captions)} annotations", wanted=f"{len(names)}, one an image")
    return names, captions


class Crossmodal3600(LocalLoader):
    """Crossmodal-3600: captions.jsonl, and images/KEY.jpg.

    language:     one of its 36, as its rows write them (``de``).
    max_captions: keep the first few captions of each image; clip-benchmark keeps one.
    Rows: {"image/key": "0000d67245642c5f", "de": {"caption": ["…", …]}, …}. Ids are the keys.
    """

    language: str
    max_captions: Annotated[int, Field(ge=1)] | None = None

    def build(self, root: Path, *, download: bool = False) -> Dataset:
        """Return the images in the order of the file."""
        folder = self.folder(root)
        if not note_file(file := folder / "captions.jsonl").is_file():
            raise self.missing(folder, "no captions.jsonl")
        rows = [Item(file, row, f"line {number}") for number, row in enumerate(json_lines(file), 1)]
        examples = [self._example(row, folder) for row in rows]
        self.require([example.image.path for example in examples if isinstance(example.image, FileImage)])
        return checked(Dataset(self.name, "test", examples), file, texts=True)

    def _example(self, row: Item, folder: Path) -> Example:
        key = row["image/key"].text()
        if not row.has(self.language):
            known = sorted(name for name, value in row.value.items() if isinstance(value, dict))
            raise UnknownNameError(f"{row.file}: {row.where}: language", self.language, known)
        texts = [item.text().strip() for item in row[self.language]["caption"].items()]
        return Example(key, FileImage(folder / "images" / f"{key}.jpg"), tuple(texts[: self.max_captions]))


class FlickrTable(LocalLoader):
    """Images and captions as clip-benchmark's retrieval_annotations have them: a header, then ``IMAGE.jpg,caption``.

    Captions are not quoted and may hold commas. path: the folder of both. annotations: the file's name. images: the
    images' folder below path; by default the one, at most two levels deep, that holds them. Ids are file stems.
    """

    annotations: str
    images: str = ""

    def build(self, root: Path, *, download: bool = False) -> Dataset:
        """Return one Example per image, in the order of first appearance."""
        folder = self.folder(root)
        if (file := find_file((folder, folder / "annotations"), self.annotations)) is None:
            raise self.missing(folder, f"no {self.annotations} there nor in annotations/")
        captions: dict[str, list[str]] = {}
        header, *lines = read_text(file).split("\n")
        if ".jpg," in header:
            raise DataError(str(file), f"line 1: {header[:40]!r}", wanted="a header, such as image,caption")
        for number, line in enumerate(lines, 2):
            stem, mark, caption = line.strip().partition(".jpg,")
            if line.strip() and not (mark and caption.strip()):
                raise DataError(str(file), f"line {number}: {line[:40]!r}", wanted="IMAGE.jpg,caption")
            if line.strip():
                captions.setdefault(f"{stem}.jpg", []).append(caption.strip())
        base, notes = self.image_folder(folder, next(iter(captions)), self.images) if captions else (folder, ())
        paths = [base / name for name in captions]
        self.require(paths)
        examples = [
            Example(path.stem, FileImage(path), tuple(own)) for path, own in zip(paths, captions.values(), strict=True)
        ]
        return checked(Dataset(self.name, "test", examples, notes=notes), file, texts=True)
