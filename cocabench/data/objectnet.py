"""ObjectNet: the 113 of its 313 classes that ImageNet has too."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from cocabench.core.errors import DataError
from cocabench.core.types import Dataset, Example, Note
from cocabench.data.base import sound
from cocabench.data.exported import Exported
from cocabench.data.files import find_file, images_below, read_json, some, subfolders
from cocabench.data.images import CroppedImage, FileImage
from cocabench.data.prompts import templates

LABELS = "folder_to_objectnet_label.json"
OVERLAP = "objectnet_to_imagenet_1k.json"


class ObjectNet(Exported):
    """The unpacked objectnet-1.0: images/ by class folders, and mappings/*.json.

    crop_border: pixels cut from each side. The images have a red border of 2 pixels, which the official protocol
                 removes (2) and CLIP_benchmark keeps (0).
    Classes are ObjectNet's own names in lower case, in the order of their folders, as CLIP_benchmark has them.
    """

    crop_border: Annotated[int, Field(ge=0)] = 0

    def read(self, root: Path, *, download: bool = False) -> Dataset:
        """Return the images of the shared classes; ids are ``folder/stem``."""
        top = self.folder(root)
        base = self._image_folder(top)
        names = self._shared_classes(top, base)
        labels = {folder: k for k, folder in enumerate(names)}
        images = [image for image in images_below(base) if image.parts[0] in labels]
        examples = [
            Example(str(image.with_suffix("")), self._image(base / image), label=labels[image.parts[0]])
            for image in images
        ]
        note = Note("data", f"ObjectNet's border of 2 pixels: {self.crop_border} cropped")
        found = tuple(templates("objectnet"))
        return sound(Dataset(self.name, "test", examples, tuple(names.values()), found, (note,)), base)

    def _image(self, path: Path) -> FileImage | CroppedImage:
        return CroppedImage(FileImage(path), self.crop_border) if self.crop_border else FileImage(path)

    def _image_folder(self, top: Path) -> Path:
        for folder in (top / "objectnet-1.0" / "images", top / "images"):
            if folder.is_dir():
                return folder
        raise self.missing(top, "neither objectnet-1.0/images nor images there")

    def _shared_classes(self, top: Path, base: Path) -> dict[str, str]:
        """Return {folder: class name} of the shared classes; DataError for folders that the mapping does not know."""
        label_of, overlap = self._mapping(top, base, LABELS), self._mapping(top, base, OVERLAP)
        if unknown := [folder.name for folder in subfolders(base) if folder.name not in label_of]:
            raise DataError(str(base), f"{len(unknown)} folders not in {LABELS}: {some(unknown)}")
        return {folder: name.lower() for folder, name in sorted(label_of.items()) if name in overlap}

    def _mapping(self, top: Path, base: Path, name: str) -> dict[str, Any]:
        if (file := find_file((base.parent / "mappings", top / "mappings", top), name)) is None:
            raise self.missing(base.parent / "mappings", f"no {name} there")
        content = read_json(file)
        if not isinstance(content, dict):
            raise DataError(str(file), f"a {type(content).__name__}", wanted="a JSON table")
        return content
