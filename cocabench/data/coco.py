"""COCO's caption annotations (captions_val2014.json and alike), NoCaps with its domains among them."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from cocabench.core.errors import DataError
from cocabench.core.types import Dataset, Example
from cocabench.data.base import LocalLoader, sound
from cocabench.data.files import find_file, folder_with, read_json, some
from cocabench.data.images import FileImage


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
        base = self._image_folder(folder, [image["file_name"] for image in images])
        paths = [base / image["file_name"] for image in images]
        self.require(paths)
        examples = [
            Example(
                str(image["id"]),
                FileImage(path),
                tuple(captions.get(image["id"], ())[: self.max_captions]),
                domain=str(image.get("domain", "")),
            )
            for image, path in zip(images, paths, strict=True)
        ]
        return sound(Dataset(self.name, self.split, examples), file, texts=True)

    def _image_folder(self, folder: Path, names: list[str]) -> Path:
        if self.images:
            return folder / self.images
        found = folder_with(folder, names[0]) if names else folder
        if found is None:
            raise self.missing(folder, f"no image {names[0]} there nor in its subfolders")
        return found


def read_annotations(file: Path) -> tuple[list[dict[str, Any]], dict[Any, list[str]]]:
    """Return the images, and {image id: captions}; DataError for a file of another kind or captions of no image."""
    content = read_json(file)
    captions: dict[Any, list[str]] = defaultdict(list)
    try:
        images = [image for image in content["images"] if (image["id"], image["file_name"])]
        for annotation in content["annotations"]:
            captions[annotation["image_id"]].append(annotation["caption"].strip())
    except (TypeError, KeyError, AttributeError) as error:
        got = f"not a file of COCO captions ({type(error).__name__}: {error})"
        raise DataError(str(file), got, wanted="images and annotations with captions") from None
    if strays := sorted(captions.keys() - {image["id"] for image in images}, key=str):
        raise DataError(str(file), f"captions for {len(strays)} images that are not listed: {some(strays)}")
    return images, captions
