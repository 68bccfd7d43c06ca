"""Captioned images by their annotation files: COCO's, Karpathy's splits, Flickr8k as its authors packed it."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import Field, model_validator

from cocabench.core.errors import DataError
from cocabench.core.files import expanded
from cocabench.core.formatting import plural
from cocabench.core.types import Dataset, Example, Note
from cocabench.data.base import LocalLoader, checked
from cocabench.data.files import Item, absent, find_file, read_json, read_lines, some, subfolders
from cocabench.data.images import FileImage
from cocabench.data.inputs import note_folder
from cocabench.data.objects import read_instances, read_words
from cocabench.data.webdataset import Exported

CAPTION_IDS, POSITIVES, IMAGE_POSITIVES, FOLD = "caption_ids", "positives", "image_positives", "fold"
"""Keys of Example.metadata: the ids of its captions; those of all captions that fit the image; for each caption those
of all images that it fits; the number of the fold that it is ranked in."""

OBJECTS = "objects"
"""The key of Example.metadata that holds the names of the objects in the image."""

TOKENS = "Flickr8k.token.txt"
_TOKEN_KEY = re.compile(r"(?P<image>[^\s#]+?\.jpg)(?P<stray>\.\d+)?#(?P<number>\d+)")
_SPLIT_FILES = {"train": "trainImages", "val": "devImages", "test": "testImages"}


class Coco(LocalLoader):
    """Images and captions by a file {"images": [{id, file_name}], "annotations": [{image_id, caption}]}.

    annotations:  the JSON file's name, in path or its folder annotations/.
    images:       the images' folder below path; by default the one, at most two levels deep, that holds them.
    split:        what to call the split.
    max_captions: keep the first few captions of each image.
    Ids are COCO's image ids. NoCaps' "domain" (in-domain, near-domain, out-domain) is kept.
    """

    annotations: str
    images: str = ""
    split: str = "val"
    max_captions: Annotated[int, Field(ge=1)] | None = None

    def build(self, root: Path, *, download: bool = False) -> Dataset:
        """Return the file's images in its order."""
        folder = self.folder(root)
        if (file := find_file((folder, folder / "annotations"), self.annotations)) is None:
            raise self.missing(folder, f"no {self.annotations} there nor in annotations/")
        images, captions = read_annotations(file)
        base, notes = self.image_folder(folder, images[0]["file_name"], self.images) if images else (folder, ())
        paths = [base / image["file_name"] for image in images]
        self.require(paths)
        examples = [
            Example(
                str(image["id"]),
                FileImage(path),
                tuple(captions.get(str(image["id"]), ())[: self.max_captions]),
                domain=str(image.get("domain", "")),
            )
            for image, path in zip(images, paths, strict=True)
        ]
        return checked(Dataset(self.name, self.split, examples, notes=notes), file, texts=True)


def read_annotations(file: Path) -> tuple[list[dict[str, Any]], dict[str, list[str]]]:
    """Return the images, and {image id: captions}; DataError for a file of another kind or captions of no image.

    Ids are texts, as some programs write those of one of the two lists.
    """
    content = Item(file, read_json(file))
    captions: dict[str, list[str]] = defaultdict(list)
    own = [(row.value, row["id"].name(), row["file_name"].text()) for row in content["images"].items()]
    images = [{**value, "id": name, "file_name": file_name} for value, name, file_name in own]
    for row in content["annotations"].items():
        captions[row["image_id"].name()].append(row["caption"].text().strip())
    if strays := sorted(captions.keys() - {str(image["id"]) for image in images}):
        raise DataError(
            str(file),
            f"captions for {plural(len(strays), 'image that is', 'images that are')} not listed: {some(strays)}",
        )
    return images, captions


class Karpathy(Exported):
    """Images and captions by one of Karpathy's JSON files (its "raw" sentences, stripped).

    split:        train, val, test, or restval (COCO); ``train+restval`` joins two.
    annotations:  the JSON file's name; by default the one dataset_*.json of the folder. Looked for in path, its
                  subfolders, --data-root and its folders karpathy/ and caption_datasets/.
    images:       the images' folder below path; by default the folder at most two levels deep that holds them. COCO's
                  lie in ``filepath/filename``, the others in ``filename``.
    max_captions: keep the first few captions of each image (5 gives COCO's "25,000 captions" protocol).
    instances:    COCO's file of the objects in these images (instances_val2014.json), in path or its annotations/, for
                  CHAIR. synonyms: the file of words that name them, looked for in the same places.
    Ids are file stems, for COCO the image ids that its annotations use.
    """

    split: str = "test"
    annotations: str = ""
    images: str = ""
    max_captions: Annotated[int, Field(ge=1)] | None = None
    instances: str = ""
    synonyms: str = "synonyms.txt"

    @model_validator(mode="after")
    def _all_captions_of_a_webdataset(self) -> Self:
        if self.wds and self.max_captions:
            raise ValueError("max_captions and wds exclude each other: a webdataset's captions are all taken")
        return self

    def read(self, root: Path, *, download: bool = False) -> Dataset:
        """Return the split's images in the file's order."""
        folder = self.folder(root)
        file = self._annotations(folder, expanded(root))
        items = _items_of_split(file, self.split)
        base, notes = self.image_folder(folder, _relative(items[0]), self.images)
        paths = [base / _relative(item) for item in items]
        self.require(paths)
        examples = self.examples_of(items, [FileImage(path) for path in paths], file)
        words: dict[str, str] = {}
        if self.instances:
            words = read_words(self._beside(folder, self.synonyms))
            there = read_instances(self._beside(folder, self.instances), [example.id for example in examples], words)
            examples = [
                replace(example, metadata={**example.metadata, OBJECTS: own})
                for example, own in zip(examples, there, strict=True)
            ]
        return checked(Dataset(self.name, self.split, examples, notes=notes, objects=words), file, texts=True)

    def _beside(self, folder: Path, name: str) -> Path:
        if (file := find_file((folder, folder / "annotations"), name)) is None:
            raise self.missing(folder, f"no {name} there nor in annotations/")
        return file

    def examples_of(self, items: list[dict[str, Any]], images: list[FileImage], file: Path) -> list[Example]:
        """Return the split's images, which are entries of the file, with their captions."""
        texts = [tuple(s["raw"].strip() for s in item["sentences"])[: self.max_captions] for item in items]
        return [Example(_karpathy_id(i), image, t) for i, image, t in zip(items, images, texts, strict=True)]

    def _annotations(self, folder: Path, root: Path) -> Path:
        names = (
            [self.annotations]
            if self.annotations
            else sorted(p.name for p in note_folder(folder).glob("dataset_*.json"))
        )
        if len(names) > 1:
            raise DataError(str(folder), f"several files: {some(names)}", fix="say which: annotations = '…'")
        near = (folder / "annotations", folder / "karpathy", root, root / "karpathy", root / "caption_datasets")
        if (file := find_file((folder, *near), *names)) is None:
            wanted = self.annotations or "one of Karpathy's dataset_*.json"
            raise self.missing(folder, f"no {wanted} there, nor in {some((p.name for p in near), 5)}")
        return file


def _items_of_split(file: Path, split: str) -> list[dict[str, Any]]:
    """Return the split's images with their captions; DataError if it has none or the file is of another kind."""
    images = Item(file, read_json(file))["images"].items()
    items = [item for item in images if item["split"].text() in split.split("+")]
    for item in items:
        item["filename"].text(), item["cocoid"].name() if item.has("cocoid") else ""
        item["filepath"].text() if item.has("filepath") else ""
        for sentence in item["sentences"].items():
            sentence["raw"].text()
    if not items:
        known = sorted({item["split"].text() for item in images})
        raise DataError(str(file), f"no images of the split {split!r}", wanted=" or ".join(known) or "images")
    return [item.value for item in items]


def _relative(item: dict[str, Any]) -> str:
    return "/".join(filter(None, (item.get("filepath", ""), item["filename"])))


def _karpathy_id(item: dict[str, Any]) -> str:
    return str(item["cocoid"]) if "cocoid" in item else Path(item["filename"]).stem


class Tokens(NamedTuple):
    """{image: its captions}, and {malformed key: the image that it was taken for}."""

    captions: dict[str, tuple[str, ...]]
    malformed: dict[str, str]


class Flickr8k(Exported):
    """Images and captions of Flickr8k.token.txt.

    split:  train (6,000), val (1,000), test (1,000), or all images (8,091): published numbers differ by which of the
            last two was used.
    images: the images' folder below path; by default the one, at most two levels deep, that holds them.
    The text files may lie in path or in a folder in it.
    """

    split: Literal["train", "val", "test", "all"] = "test"
    images: str = ""

    def read(self, root: Path, *, download: bool = False) -> Dataset:
        """Return the split's images in the order of its file; ids are file stems."""
        folder = self.folder(root)
        file = self._text_file(folder, TOKENS)
        tokens = read_tokens(file)
        names = self._chosen(folder, tokens)
        base, several = self.image_folder(folder, names[0], self.images) if names else (folder, ())
        lost = {path.name for path in absent([base / name for name in tokens.malformed.values()])}
        paths = [base / name for name in names if self.split != "all" or name not in lost]
        self.require(paths)
        examples = [Example(path.stem, FileImage(path), tokens.captions.get(path.name, ())) for path in paths]
        odd = tokens.malformed.items()
        notes = tuple(Note("data", f"{TOKENS}: malformed key {key!r} read as {image}") for key, image in odd)
        return checked(Dataset(self.name, self.split, examples, notes=(*notes, *several)), file, texts=True)

    def _text_file(self, folder: Path, name: str) -> Path:
        if (file := find_file((folder, *subfolders(folder)), name)) is None:
            raise self.missing(folder, f"no {name} there nor in its subfolders")
        return file

    def _chosen(self, folder: Path, tokens: Tokens) -> list[str]:
        if self.split == "all":
            return list(tokens.captions)
        return read_lines(self._text_file(folder, f"Flickr_8k.{_SPLIT_FILES[self.split]}.txt"))


def read_tokens(file: Path) -> Tokens:
    """Read lines ``1000268201_693b08cb0e.jpg#0<tab>caption``; captions are ordered by their numbers.

    The published file has one key ``2258277193_586949ec62.jpg.1#0``, which stands where that image's caption 0 is
    missing, and is taken for it. The published images lack that image, and no split has it.
    """
    found: dict[str, dict[int, str]] = {}
    malformed, broken = {}, []
    for number, line in enumerate(read_lines(file), 1):
        key, _, caption = line.partition("\t")
        if (match := _TOKEN_KEY.fullmatch(key)) is None or not caption:
            broken.append(f"line {number} ({line[:40]!r})")
            continue
        if match["stray"]:
            malformed[key] = match["image"]
        own, caption_number = found.setdefault(match["image"], {}), int(match["number"])
        if caption_number in own:
            raise DataError(str(file), f"line {number}: {key} a second time", fix="remove one of the two")
        own[caption_number] = caption.strip()
    if broken:
        raise DataError(str(file), f"{len(broken)} lines that are not IMAGE.jpg#N<tab>CAPTION: {some(broken)}")
    return Tokens({image: tuple(texts[k] for k in sorted(texts)) for image, texts in found.items()}, malformed)
