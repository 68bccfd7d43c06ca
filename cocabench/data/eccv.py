"""COCO's captions with more complete positives: the tables of the package eccv-caption (ECCV Caption, CxC)."""

from __future__ import annotations

import importlib.util
import io
from pathlib import Path
from typing import Any, Literal

import numpy as np

from cocabench.core.errors import DataError, MissingDataError
from cocabench.core.files import open_regular
from cocabench.core.types import Example
from cocabench.data.captions import CAPTION_IDS, FOLD, IMAGE_POSITIVES, POSITIVES, Karpathy
from cocabench.data.files import Item, read_json, some
from cocabench.data.images import FileImage
from cocabench.data.inputs import note_file

FOLDS = 5


class EccvCaption(Karpathy):
    """COCO's 5,000 test images with the 25,000 captions that eccv-caption ranks, and their positives.

    positives: ``original`` (each caption's own image), ``cxc`` (Crisscrossed Captions), or ``eccv`` (ECCV Caption).
    Captions are found by their ids, ``sentid`` in dataset_coco.json: of its 25,010 ten are not among them. Each image
    also has its fold of coco_1k: five folds of 5,000 captions in the order of coco_test_ids.npy.
    """

    positives: Literal["original", "cxc", "eccv"] = "eccv"
    annotations: str = "dataset_coco.json"

    def examples_of(self, items: list[dict[str, Any]], images: list[FileImage], file: Path) -> list[Example]:
        """Return the images with the captions that are ranked; DataError if one of them is missing."""
        if lacking := [item["filename"] for item in items if "cocoid" not in item]:
            got = f"{len(lacking)} of {len(items)} images without cocoid: {some(lacking)}"
            raise DataError(str(file), got, wanted="Karpathy's dataset_coco.json")
        tables = package_data()
        order = {str(name): k for k, name in enumerate(_ids(tables / "coco_test_ids.npy"))}
        of_captions, of_images = (_table(tables / f"{self.positives}_{way}.json") for way in WAYS)
        found, seen = [], set()
        for item, image in zip(items, images, strict=True):
            ranked = [row for row in item["sentences"] if str(row.get("sentid")) in order]
            rows = sorted(ranked, key=lambda row: order[str(row["sentid"])])
            names = [str(row["sentid"]) for row in rows]
            seen.update(names)
            known = {
                CAPTION_IDS: names,
                POSITIVES: of_images.get(str(item["cocoid"]), []),
                IMAGE_POSITIVES: [of_captions.get(name, []) for name in names],
                FOLD: order[names[0]] * FOLDS // len(order) if names else -1,
            }
            found.append(Example(str(item["cocoid"]), image, tuple(row["raw"].strip() for row in rows), metadata=known))
        if lost := [name for name in order if name not in seen]:
            got = f"{len(lost)} of the {len(order)} captions of eccv-caption missing: {some(lost)}"
            raise DataError(str(file), got, wanted="Karpathy's dataset_coco.json with sentid, split test")
        return found


WAYS = ("caption_to_image", "image_to_caption")


def package_data() -> Path:
    """Return the folder of eccv-caption's tables, without importing the package; MissingDataError if not installed."""
    found = importlib.util.find_spec("eccv_caption")
    if found is None or not found.submodule_search_locations:
        raise MissingDataError("eccv-caption", "not installed", fix="pip install 'cocabench[eccv]'")
    return Path(next(iter(found.submodule_search_locations))) / "data"


def _ids(file: Path) -> list[int]:
    with open_regular(note_file(file)) as content:
        try:
            return [int(name) for name in np.load(io.BytesIO(content.read()), allow_pickle=False)]
        except ValueError as error:
            raise DataError(str(file), f"not readable ({error})", fix="install eccv-caption again") from None


def _table(file: Path) -> dict[str, list[str]]:
    table = Item(file, read_json(file))
    return {key: [one.name() for one in item.items()] for key, item in zip(table.value, table.values(), strict=True)}
