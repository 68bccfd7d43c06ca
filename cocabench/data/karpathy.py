"""Karpathy's splits: dataset_flickr30k.json, dataset_flickr8k.json, dataset_coco.json, and the images' folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from cocabench.core.errors import DataError
from cocabench.core.types import Dataset, Example
from cocabench.data.base import sound
from cocabench.data.exported import Exported
from cocabench.data.files import find_file, folder_with, read_json, some
from cocabench.data.images import FileImage


class Karpathy(Exported):
    """Images and captions by one of Karpathy's JSON files (its "raw" sentences, stripped).

    split:        train, val, test, or restval (COCO); ``train+restval`` joins two.
    annotations:  the JSON file's name; by default the one dataset_*.json of the folder. Looked for in path, its
                  subfolders, --data-root and its folders karpathy/ and caption_datasets/.
    images:       the images' folder below path; by default the folder at most two levels deep that holds them. COCO's
                  lie in ``filepath/filename``, the others in ``filename``.
    max_captions: keep the first few captions of each image (5 gives COCO's "25,000 captions" protocol).
    Ids are file stems, for COCO the image ids that its annotations use.
    """

    split: str = "test"
    annotations: str = ""
    images: str = ""
    max_captions: Annotated[int, Field(ge=1)] | None = None

    @model_validator(mode="after")
    def _all_captions_of_a_webdataset(self) -> Self:
        if self.wds and self.max_captions:
            raise ValueError("max_captions and wds exclude each other: a webdataset's captions are all taken")
        return self

    def read(self, root: Path, *, download: bool = False) -> Dataset:
        """Return the split's images in the file's order."""
        folder = self.folder(root)
        file = self._annotations(folder, root.expanduser())
        items = _items(file, self.split)
        base = self._image_folder(folder, items[0])
        paths = [base / _relative(item) for item in items]
        self.require(paths)
        texts = [tuple(s["raw"].strip() for s in item["sentences"])[: self.max_captions] for item in items]
        examples = [Example(_id(i), FileImage(p), t) for i, p, t in zip(items, paths, texts, strict=True)]
        return sound(Dataset(self.name, self.split, examples), file, texts=True)

    def _annotations(self, folder: Path, root: Path) -> Path:
        names = [self.annotations] if self.annotations else sorted(p.name for p in folder.glob("dataset_*.json"))
        if len(names) > 1:
            raise DataError(str(folder), f"several files: {some(names)}", fix="say which: annotations = '…'")
        near = (folder / "annotations", folder / "karpathy", root, root / "karpathy", root / "caption_datasets")
        if (file := find_file((folder, *near), *names)) is None:
            wanted = self.annotations or "one of Karpathy's dataset_*.json"
            raise self.missing(folder, f"no {wanted} there, nor in {some((p.name for p in near), 5)}")
        return file

    def _image_folder(self, folder: Path, first: dict[str, Any]) -> Path:
        if self.images:
            return folder / self.images
        if (found := folder_with(folder, _relative(first))) is None:
            raise self.missing(folder, f"no image {_relative(first)} there nor in its subfolders")
        return found


def _items(file: Path, split: str) -> list[dict[str, Any]]:
    """Return the split's images with their captions; DataError where it has none or the file is another kind."""
    content = read_json(file)
    try:
        images = list(content["images"])
        items = [item for item in images if item["split"] in split.split("+")]
        for item in items:
            _relative(item), [sentence["raw"] for sentence in item["sentences"]]
    except (TypeError, KeyError) as error:
        raise DataError(str(file), f"not one of Karpathy's files ({type(error).__name__}: {error})") from None
    if not items:
        known = sorted({str(item["split"]) for item in images})
        raise DataError(str(file), f"no images of the split {split!r}", wanted=" or ".join(known) or "images")
    return items


def _relative(item: dict[str, Any]) -> str:
    return "/".join(filter(None, (item.get("filepath", ""), item["filename"])))


def _id(item: dict[str, Any]) -> str:
    return str(item["cocoid"]) if "cocoid" in item else Path(item["filename"]).stem
