"""One image with its caption and captions that are wrong for it: ARO, NegBench, VALSE."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Literal, NamedTuple

from cocabench.core.errors import DataError
from cocabench.core.formatting import plural
from cocabench.core.types import Dataset, Example, ImageSource
from cocabench.data.base import LocalLoader, checked
from cocabench.data.files import Item, find_file, read_json, read_text
from cocabench.data.images import BoxImage, FileImage
from cocabench.data.inputs import note_file

GROUPS = "groups"
"""The key of Example.metadata that holds the group of each item: a relation, a pair of attributes, a type."""

PLACES = ("data", "annotations", "images", "data/images")
"""Folders in which a file of cases is looked for."""


class Case(NamedTuple):
    """A caption and the captions that are wrong for its image. key: names the image; group: '' if there are none."""

    key: str
    image: ImageSource
    caption: str
    wrong: tuple[str, ...]
    group: str = ""


def by_image(cases: Iterable[Case]) -> list[Example]:
    """Return an example for each image with all its cases, which depend on each other, in the order of appearance."""
    found: dict[str, list[Case]] = {}
    for case in cases:
        found.setdefault(case.key, []).append(case)
    return [
        Example(
            key,
            own[0].image,
            tuple(case.caption for case in own),
            negatives=tuple(case.wrong for case in own),
            metadata={GROUPS: [case.group for case in own]} if any(case.group for case in own) else {},
        )
        for key, own in found.items()
    ]


class Foils(LocalLoader):
    """A loader of cases in one file. images: the images' folder below path; by default the one that holds them."""

    images: str = ""

    def file(self, folder: Path, *names: str) -> Path:
        """Return the first file of these names, in the folder or one of PLACES below it."""
        if (file := find_file((folder, *(folder / name for name in PLACES)), *names)) is None:
            raise self.missing(folder, f"no {names[0]} there nor in {'/, '.join(PLACES)}/")
        return file

    def folder_of_images(self, folder: Path, beside: Path, first: str, usual: Sequence[str]) -> Path:
        """Return images, else the first of usual, beside the file or below folder, that holds the image ``first``."""
        if self.images:
            return folder / self.images
        looked = [base / name for name in usual for base in (beside, folder)]
        if found := next((place for place in looked if note_file(place / first).is_file()), None):
            return found
        raise self.missing(folder, f"no image {first}", wanted=f"it in {', '.join(usual)}; or images = '…' in [data]")

    def made(self, name: str, cases: Sequence[Case], file: Path) -> Dataset:
        self.require([path for case in cases if (path := _path(case.image)) is not None])
        return checked(Dataset(name, "test", by_image(cases)), file, texts=True)


def _path(image: ImageSource) -> Path | None:
    inner = image.source if isinstance(image, BoxImage) else image
    return inner.path if isinstance(inner, FileImage) else None


class Aro(Foils):
    """ARO's Visual Genome sets: a part of an image with a caption and one whose words are exchanged.

    subset: ``relation`` (visual_genome_relation.json) or ``attribution`` (visual_genome_attribution.json).
    images: the images' folder; by default images/, as ARO's own download unpacks them.
    Each image is cropped to bbox_x, bbox_y, bbox_w, bbox_h first. Cases of one crop are one example; an item's group is
    its relation, or its pair of attributes in their order.
    """

    subset: Literal["relation", "attribution"]

    def build(self, root: Path, *, download: bool = False) -> Dataset:
        """Return the crops in the order of first appearance."""
        folder = self.folder(root)
        file = self.file(folder, f"visual_genome_{self.subset}.json")
        rows = Item(file, read_json(file)).items()
        first = rows[0]["image_path"].text() if rows else ""
        base = self.folder_of_images(folder, file.parent, first, ("images", "."))
        return self.made(f"{self.name}/vg_{self.subset}", [self._case(row, base) for row in rows], file)

    def _case(self, row: Item, base: Path) -> Case:
        name = row["image_path"].text()
        x, y, width, height = (_pixels(row[f"bbox_{side}"]) for side in "xywh")
        if self.subset == "relation":
            group = row["relation_name"].text()
        else:
            group = "_".join(part.text() for part in row["attributes"].items()[:2])
        box = (x, y, x + width, y + height)
        key = f"{Path(name).stem}@{x},{y},{width},{height}"
        return Case(key, BoxImage(FileImage(base / name), box), _caption(row, "true"), (_caption(row, "false"),), group)


def _pixels(item: Item) -> int:
    if isinstance(item.value, bool) or not isinstance(item.value, int):
        raise item.error("a whole number of pixels")
    return item.value


def _caption(row: Item, which: str) -> str:
    return row[f"{which}_caption"].text().strip()


class AroOrder(Foils):
    """ARO's order sets: a caption and four shuffles of its words, read from a file that is stored once.

    ARO makes the shuffles anew at random on each machine, with the versions of spaCy and nltk there: its own object
    holds them as ``test_cases``, and ``json.dump(dataset.test_cases, file)`` stores them.

    annotations: the file, a list of {"image": …, "caption_options": [the caption, four others]}, lower-cased and cut to
                 30 words by ARO. images: the folder that the image names are relative to.
    """

    annotations: str

    def build(self, root: Path, *, download: bool = False) -> Dataset:
        """Return the images in the order of first appearance."""
        folder = self.folder(root)
        file = self.file(folder, self.annotations)
        rows = Item(file, read_json(file)).items()
        first = rows[0]["image"].text() if rows else ""
        base = self.folder_of_images(folder, file.parent, first, (".", "images", "../coco", "../mscoco_captions"))
        return self.made(f"{self.name}/{file.stem}", [self._case(row, base) for row in rows], file)

    def _case(self, row: Item, base: Path) -> Case:
        name, options = row["image"].text(), tuple(item.text() for item in row["caption_options"].items())
        if len(options) != 5:
            raise DataError(
                f"{row.file}: {row.where}", plural(len(options), "caption"), wanted="5, the right one first"
            )
        return Case(Path(name).stem, FileImage(base / name), options[0], options[1:])


class NegBench(Foils):
    """NegBench's multiple choice: four captions, which affirm or deny what is in the image.

    subset: ``coco`` or ``voc2007``: COCO_val_mcq_llama3.1_rephrased.csv, VOC2007_mcq_llama3.1_rephrased.csv, with the
            columns image_path, correct_answer (the index of the right one), caption_0 … caption_3 and
            correct_answer_template (positive, negative, hybrid), which is the item's group.
    Of image_path only the file's name counts.
    """

    subset: Literal["coco", "voc2007"]

    def build(self, root: Path, *, download: bool = False) -> Dataset:
        """Return the images in the order of first appearance."""
        folder = self.folder(root)
        file = self.file(folder, _NEGBENCH[self.subset][0])
        rows = list(_rows(file))
        if not (first := PurePosixPath(next((path for row in rows if (path := row.get("image_path"))), "")).name):
            raise DataError(str(file), "no image_path")
        base = self.folder_of_images(folder, file.parent, first, _NEGBENCH[self.subset][1])
        cases = [_choice(row, number, base, file) for number, row in enumerate(rows, 2)]
        return self.made(f"{self.name}/{self.subset}", cases, file)


_NEGBENCH = {
    "coco": (
        "COCO_val_mcq_llama3.1_rephrased.csv",
        ("val2017", "images/val2017", "../coco/val2017", "../coco/images/val2017", "../mscoco_captions/val2017"),
    ),
    "voc2007": (
        "VOC2007_mcq_llama3.1_rephrased.csv",
        ("voc2007", "JPEGImages", "VOCdevkit/VOC2007/JPEGImages", "../voc2007/VOCdevkit/VOC2007/JPEGImages"),
    ),
}
"""Of each subset: its file, and where its images are looked for."""


def _rows(file: Path) -> Iterator[dict[str, str]]:
    try:
        reader = csv.DictReader(io.StringIO(read_text(file)), strict=True)
        yield from reader
    except csv.Error as error:
        raise DataError(str(file), f"line {reader.line_num}: {error}") from None


def _choice(row: dict[str, str], number: int, base: Path, file: Path) -> Case:
    where = f"{file}: row {number}"
    captions = [row.get(f"caption_{k}") or "" for k in range(4)]
    if missing := [key for key in ("image_path", "correct_answer") if not row.get(key)]:
        raise DataError(where, f"no {missing[0]}")
    if not all(captions) or row.get("caption_4"):
        raise DataError(where, plural(sum(map(bool, captions)), "caption"), wanted="caption_0 to caption_3")
    answer = row["correct_answer"].strip().removesuffix(".0")
    if answer not in ("0", "1", "2", "3"):
        raise DataError(where, f"correct_answer {answer!r}", wanted="0 to 3")
    right = captions.pop(int(answer))
    name = PurePosixPath(row["image_path"].replace("\\", "/")).name
    group = row.get("correct_answer_template") or ""
    return Case(Path(name).stem, FileImage(base / name), right, tuple(captions), group)


class Valse(Foils):
    """VALSE: a caption and a foil that differs in one linguistic phenomenon, of valid samples only.

    subset: the file's name without its ending. Valid: two of three annotators or more chose the caption alone
            (``mturk.caption``), as VALSE's own scripts do.
    images: the images' folder below path; by default the folder that holds them, at most two levels deep.
    """

    subset: Literal[
        "existence", "plurals", "counting-hard", "counting-small-quant", "counting-adversarial", "relations",
        "action-replacement", "actant-swap", "coreference-standard", "coreference-hard", "foil-it",
    ]  # fmt: skip

    def build(self, root: Path, *, download: bool = False) -> Dataset:
        """Return the images in the order of first appearance."""
        folder = self.folder(root)
        file = self.file(folder, f"{self.subset}.json")
        rows = [row for row in Item(file, read_json(file)).values() if _votes(row["mturk"]["caption"]) >= 2]
        base, notes = self.image_folder(folder, rows[0]["image_file"].text(), self.images) if rows else (folder, ())
        data = self.made(f"{self.name}/{self.subset}", [_foil(row, base) for row in rows], file)
        return Dataset(data.name, data.split, data.examples, notes=notes)


def _votes(item: Item) -> int:
    if isinstance(item.value, bool) or not isinstance(item.value, int):
        raise item.error("a number of annotators")
    return item.value


def _foil(row: Item, base: Path) -> Case:
    name = row["image_file"].text()
    return Case(Path(name).stem, FileImage(base / name), row["caption"].text().strip(), (row["foil"].text().strip(),))
