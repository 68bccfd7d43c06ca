"""Images in one folder per class: any such folder, and ObjectNet's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

from pydantic import Field

from cocabench.core.errors import DataError
from cocabench.core.formatting import plural
from cocabench.core.types import Dataset, Example, Note
from cocabench.data.base import LocalLoader, checked
from cocabench.data.files import files_below, find_file, left_out, only_images, read_json, some, subfolders
from cocabench.data.images import CroppedImage, FileImage
from cocabench.data.inputs import note_file
from cocabench.data.prompts import class_names, templates
from cocabench.data.webdataset import Exported


class ImageFolder(LocalLoader):
    """Images in one folder per class, at any depth below it.

    split:   a folder between path and the class folders, such as ``val``.
    classes: by default the sorted folder names, underscores read as spaces; where all are numbers (0 … 11), sorted as
             numbers, on purpose unlike torchvision's ImageFolder, which has 10 before 2. Else a class list: a shipped
             name or a file (beside the class folders' parent, or any path) with the folder names in the order of the
             labels; a JSON table {folder: class name} also names the classes. A folder that it does not hold is an
             error.
    """

    split: str = ""
    classes: str = ""

    def build(self, root: Path, *, download: bool = False) -> Dataset:
        """Return the images sorted by class folder and name; ids are ``folder/name``."""
        top = self.folder(root)
        base = top / self.split
        if not note_file(base).is_dir():
            raise self.missing(base, "no such folder")
        names = self._names(top, base)
        labels = {folder: k for k, folder in enumerate(names)}
        files = files_below(base)
        images = [image for image in only_images(files) if len(image.parts) > 1]
        examples = [Example(str(i), FileImage(base / i), label=labels[i.parts[0]]) for i in images]
        loose = [image for image in only_images(files) if len(image.parts) == 1]
        empty = sorted(names.keys() - {image.parts[0] for image in images})
        notes = (*_notes(names, empty, loose, listed=bool(self.classes)), *left_out(files))
        return checked(Dataset(self.name, self.split or "all", examples, tuple(names.values()), notes=notes), base)

    def _names(self, top: Path, base: Path) -> dict[str, str]:
        """Return {folder: class name} in the order of the labels; DataError for folders without a class."""
        folders = [folder.name for folder in subfolders(base)]
        if not self.classes:
            numbered = all(name.isdecimal() for name in folders)
            return {name: name.replace("_", " ") for name in (sorted(folders, key=int) if numbered else folders)}
        listed = _listed(self.classes, top)
        if unknown := [name for name in folders if name not in listed]:
            fix = f"add them to {self.classes} or move them away"
            raise DataError(str(base), f"{len(unknown)} folders not in the class list: {some(unknown)}", fix=fix)
        return listed


def _notes(
    names: Mapping[str, str], empty: Sequence[str], loose: Sequence[PurePosixPath], *, listed: bool
) -> Iterator[Note]:
    """Yield what a reader must know of class folders.

    names: {folder: class name}; listed: by a class list. empty: folders without images. loose: images in no folder.
    """
    if empty:
        classes, have = plural(len(names), "class", "classes"), "has" if len(empty) == 1 else "have"
        said = f"{len(empty)} of {classes} {have} no images: {some(empty)}"
        yield Note("classes_without_images", said)
    if loose:
        said = plural(len(loose), "image outside of the class folders was", "images outside of the class folders were")
        yield Note("left_out_files", f"{said} left out: {some(loose)}")
    if not listed and list(names) != (sorted_as_text := sorted(names)):
        ours, theirs = some(names, 4), some(sorted_as_text, 4)
        yield Note("class_order", f"labels follow the folders' numbers ({ours}); torchvision's ImageFolder: {theirs}")
    alike = [folders for folders in _alike(names) if not listed and len(folders) > 1]
    if alike:
        said = f"{len(alike)} class names stand for several folders each, which nothing can tell apart"
        yield Note("data", f"{said}: {'; '.join(' and '.join(folders) for folders in alike[:3])}")


def _alike(names: Mapping[str, str]) -> list[list[str]]:
    """Return the folders of each class name."""
    found: dict[str, list[str]] = {}
    for folder, name in names.items():
        found.setdefault(name, []).append(folder)
    return list(found.values())


def _listed(classes: str, top: Path) -> dict[str, str]:
    """Return a class list's {folder: class name}."""
    path = note_file(top / classes)
    content = read_json(path) if path.is_file() and path.suffix == ".json" else None
    if isinstance(content, dict) and all(isinstance(name, str) for name in content.values()):
        return content
    names = class_names(str(path) if path.is_file() else classes)
    if repeated := [name for name, n in Counter(names).items() if n > 1]:
        fix = "tell the folders apart in a JSON table {folder: class name}"
        raise DataError(classes, f"{len(repeated)} names stand for two classes: {some(repeated)}", fix=fix)
    return {name: name for name in names}


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
        files = [file for file in files_below(base) if file.parts[0] in labels]
        examples = [
            Example(str(image.with_suffix("")), self._image(base / image), label=labels[image.parts[0]])
            for image in only_images(files)
        ]
        note = Note("data", f"ObjectNet's border of 2 pixels: {self.crop_border} cropped")
        found, notes = tuple(templates("objectnet")), (note, *left_out(files))
        return checked(Dataset(self.name, "test", examples, tuple(names.values()), found, notes), base)

    def _image(self, path: Path) -> FileImage | CroppedImage:
        return CroppedImage(FileImage(path), self.crop_border) if self.crop_border else FileImage(path)

    def _image_folder(self, top: Path) -> Path:
        for folder in (top / "objectnet-1.0" / "images", top / "images"):
            if note_file(folder).is_dir():
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
        if wrong := [key for key, label in content.items() if not isinstance(label, str)]:
            raise DataError(f"{file}: {wrong[0]}", f"got {content[wrong[0]]!r}", wanted="a label")
        return content
