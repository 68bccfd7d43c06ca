"""ImageNet and its relatives: V2, Sketch, A, R, O and W."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import Self

from pydantic import model_validator

from cocabench.core.errors import CocabenchError, DataError, MissingDataError, first_line
from cocabench.core.files import check_mat
from cocabench.core.formatting import plural
from cocabench.core.types import Dataset, Example, Note
from cocabench.data.base import checked
from cocabench.data.files import (
    csv_rows,
    files_below,
    find_file,
    is_image,
    left_out,
    only_images,
    read_lines,
    some,
    subfolders,
)
from cocabench.data.images import FileImage, WatermarkedImage, unconverted
from cocabench.data.inputs import note_file, note_folder
from cocabench.data.prompts import class_names, synsets, templates
from cocabench.data.webdataset import Exported

SOLUTION = "LOC_val_solution.csv"
GROUND_TRUTH = "ILSVRC2012_validation_ground_truth.txt"
META = "meta.mat"
V2 = "imagenetv2"
"""Of which clip-benchmark does not make images RGB before they are resized."""


class ImageNet(Exported):
    """Images by synset folders (n01440764), by numbered folders (0 … 999, as V2 has them), or flat with a label file.

    split:   the images' folder below path, where there is one (``val``, ``train``), or a part of its name
             (``matched-frequency``); Kaggle's layout is known.
    synsets: the list whose order gives the labels: imagenet1k, imagenetv2, imagenet_sketch, imagenet-a, imagenet-r
             or imagenet-o. A folder of another synset is an error.
    subset:  the list of those of them to keep, such as babel_imagenet/DE; images of others are left out.
    watermark: draw ImageNet-W's into each image after a model's own resizing, by the package imagenet-w.
    A flat val/ needs Kaggle's LOC_val_solution.csv, or the devkit's ground truth and its meta.mat: the devkit's ids
    are not in the order of sorted synsets, so without that map every label would be wrong.
    Images named ILSVRC2012_val_… have that as id and are ordered by it, so that all layouts give the same data set;
    others have ``folder/stem``.
    """

    split: str = "val"
    synsets: str = "imagenet1k"
    subset: str = ""
    watermark: bool = False

    @model_validator(mode="after")
    def _whole_as_a_webdataset(self) -> Self:
        if self.wds and self.subset:
            raise ValueError("subset and wds exclude each other: a webdataset's images are all taken")
        return self

    @property
    def exported_split(self) -> str:
        return "train" if self.split == "train" else "test"

    def build(self, root: Path, *, download: bool = False) -> Dataset:
        """Return the data set, from its own files or its webdataset; MissingDataError if neither exists."""
        found = super().build(root, download=download)
        return _watermarked(found) if self.watermark else found

    def read(self, root: Path, *, download: bool = False) -> Dataset:
        """Return the split's images with class names and templates of CLIP_benchmark."""
        top = self.folder(root)
        base = self._image_folder(top)
        index = {synset: k for k, synset in enumerate(synsets(self.synsets))}
        files = files_below(base)
        images = only_images(files)
        labels = self._flat_labels(top, base, images, index) if _flat(images) else _folder_labels(base, images, index)
        examples = [
            Example(_id(image), FileImage(base / image), label=k) for image, k in zip(images, labels, strict=True)
        ]
        examples.sort(key=lambda example: example.id)
        if self.synsets == V2:
            examples = [unconverted(example) for example in examples]
        if self.subset:
            places: dict[object, int] = {index[synset]: k for k, synset in enumerate(synsets(self.subset))}
            examples = [replace(e, label=places[e.label]) for e in examples if e.label in places]
        listed = self.subset or self.synsets
        found = templates(listed)
        names, notes = class_names(listed), left_out(files)
        return checked(Dataset(self.name, self.split, examples, names, tuple(found), notes), base)

    def _image_folder(self, top: Path) -> Path:
        """Return the folder of the class folders or of the flat images."""
        kaggle = top / "ILSVRC" / "Data" / "CLS-LOC" / self.split
        named = [folder for folder in subfolders(top) if self.split in folder.name]
        for folder in (top / self.split, kaggle, top, *named):
            if note_file(folder).is_dir() and _has_images(folder):
                return folder
        raise self.missing(top, f"no folder {self.split}, no synset folders and no images")

    def _flat_labels(self, top: Path, base: Path, images: list[PurePosixPath], index: Mapping[str, int]) -> list[int]:
        places = (
            top,
            base,
            base.parent,
            top / "devkit" / "data",
            top / "data",
            *note_folder(top).glob("ILSVRC2012_devkit*/data"),
        )
        stems = [image.stem for image in images]
        if file := find_file(places, SOLUTION):
            return _looked_up(stems, solution(file), index, file)
        truth, meta = find_file(places, GROUND_TRUTH), find_file(places, META)
        if truth and meta:
            return _looked_up(stems, devkit_synsets(truth, meta, index), index, truth)
        if truth:
            got = f"{META} is not beside it, and its numbers are the devkit's ids, not the order of sorted synsets"
            raise self.missing(truth, got, wanted=f"the devkit's data/{META}")
        raise self.missing(
            base, "images without labels", wanted=f"synset folders, {SOLUTION}, or {GROUND_TRUTH} and {META}"
        )


def _watermarked(data: Dataset) -> Dataset:
    """Return the data set with images that get a watermark; MissingDataError where the package for it is missing."""
    if find_spec("imagenet_w") is None:
        raise MissingDataError("imagenet-w", "not installed", fix="pip install 'cocabench[watermark]'")
    by = f"imagenet-w {metadata.version('imagenet-w')}"
    examples = [replace(example, image=WatermarkedImage(example.image, by)) for example in data.examples]
    note = Note("data", "ImageNet-W's watermark is drawn after resizing: pictures in a report are without it")
    return replace(data, examples=examples, notes=(*data.notes, note))


def _flat(images: list[PurePosixPath]) -> bool:
    return bool(images) and all(len(image.parts) == 1 for image in images)


def _has_images(folder: Path) -> bool:
    return any(_class_folder(sub.name) for sub in subfolders(folder)) or any(
        is_image(p.name) for p in note_folder(folder).iterdir()
    )


def _class_folder(name: str) -> bool:
    return re.fullmatch(r"n\d{8}|\d{1,3}", name) is not None


def _id(image: PurePosixPath) -> str:
    return image.stem if image.stem.startswith("ILSVRC2012_val_") else str(image.with_suffix(""))


def _folder_labels(base: Path, images: list[PurePosixPath], index: Mapping[str, int]) -> list[int]:
    """Return each image's label by its folder's name; DataError that names the folders that are no class."""
    folders = [folder.name for folder in subfolders(base)]
    numbered = all(name.isdecimal() for name in folders)
    known = {str(k): k for k in index.values()} if numbered else index
    if unknown := [name for name in folders if name not in known]:
        fix = "choose the list with synsets = '…', or move them away"
        got = f"{plural(len(unknown), 'folder')} not among the {len(index)} classes: {some(unknown)}"
        raise DataError(str(base), got, fix=fix)
    if loose := [image for image in images if len(image.parts) == 1]:
        raise DataError(str(base), f"{plural(len(loose), 'image')} outside of the class folders: {some(loose)}")
    return [known[image.parts[0]] for image in images]


def _looked_up(stems: list[str], by_stem: Mapping[str, str], index: Mapping[str, int], file: Path) -> list[int]:
    if lost := [stem for stem in stems if stem not in by_stem]:
        raise DataError(str(file), f"no label for {len(lost)} of {len(stems)} images: {some(lost)}")
    if unknown := sorted({by_stem[stem] for stem in stems} - index.keys()):
        got = f"{plural(len(unknown), 'synset')} not among the {len(index)} classes: {some(unknown)}"
        raise DataError(str(file), got)
    return [index[by_stem[stem]] for stem in stems]


def solution(file: Path) -> dict[str, str]:
    """Return {image: synset} of Kaggle's file; its rows are ``ILSVRC2012_val_00048981,n03995372 85 1 499 272 …``."""
    rows = csv_rows(file)
    if broken := [k for k, row in enumerate(rows, 2) if row and (len(row) < 2 or not row[1].split())]:
        raise DataError(str(file), f"{plural(len(broken), 'row')} without a synset, first in line {broken[0]}")
    pairs = {(row[0], row[1].split()[0]) for row in rows if row}
    if several := [image for image, n in Counter(image for image, _ in pairs).items() if n > 1]:
        raise DataError(str(file), f"{plural(len(several), 'image')} with several synsets: {some(sorted(several))}")
    return dict(pairs)


def devkit_synsets(truth: Path, meta: Path, index: Mapping[str, int]) -> dict[str, str]:
    """Return {image: synset} of the devkit: line i of truth is the ILSVRC2012_ID of image i, which meta.mat names."""
    by_id = meta_synsets(meta)
    if set(by_id.values()) != set(index):
        alien = sorted(set(by_id.values()) - set(index))
        got = f"a map to {len(by_id)} synsets, {len(alien)} of them not ImageNet-1k's ({some(alien)})"
        raise DataError(str(meta), got, wanted="the map of the ILSVRC 2012 devkit (task 1 and 2)")
    numbers = read_lines(truth)
    if unknown := [line for line in numbers if not line.isdecimal() or int(line) not in by_id]:
        raise DataError(str(truth), f"{len(unknown)} lines that are no id of {META}: {some(map(repr, unknown))}")
    return {f"ILSVRC2012_val_{k:08d}": by_id[int(line)] for k, line in enumerate(numbers, 1)}


def meta_synsets(meta: Path) -> dict[int, str]:
    """Return {ILSVRC2012_ID: synset} of the leaves in meta.mat (the inner nodes of the tree are no classes)."""
    from scipy.io import loadmat

    try:
        check_mat(note_file(meta))
        table = loadmat(note_file(meta), squeeze_me=True)["synsets"]
        leaves = table[table["num_children"] == 0]
        return {int(k): str(name) for k, name in zip(leaves["ILSVRC2012_ID"], leaves["WNID"], strict=True)}
    except CocabenchError:
        raise
    except Exception as error:  # noqa: BLE001 — scipy's reader may raise anything
        raise DataError(str(meta), f"not the devkit's table of synsets ({first_line(error)})") from None
