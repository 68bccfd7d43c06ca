"""SugarCrepe: captions of COCO val2017 images, each with one that differs from it by a word or two and is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from cocabench.core.errors import DataError
from cocabench.core.types import Dataset, Example
from cocabench.data.base import LocalLoader, sound
from cocabench.data.files import find_file, read_json
from cocabench.data.images import FileImage

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
                FileImage(base / name),
                tuple(caption for caption, _ in own),
                negatives=tuple((negative,) for _, negative in own),
            )
            for name, own in pairs.items()
        ]
        return sound(Dataset(f"{self.name}/{self.subset}", "test", examples), file, texts=True)

    def _image_folder(self, folder: Path, beside: Path) -> Path:
        usual = [beside / "val2017", *(folder / name for name in IMAGES)]
        looked = [folder / self.images] if self.images else usual
        if found := next((place for place in looked if place.is_dir()), None):
            return found
        raise self.missing(folder, "no images", wanted=f"COCO's val2017 in {self.images or ' or '.join(IMAGES)}")


def _pairs(file: Path) -> dict[str, list[tuple[str, str]]]:
    """Return {image file: (caption, negative) …}; DataError for a file of another kind."""
    content = read_json(file)
    pairs: dict[str, list[tuple[str, str]]] = {}
    try:
        for row in content.values():
            pair = (row["caption"].strip(), row["negative_caption"].strip())
            pairs.setdefault(str(row["filename"]), []).append(pair)
    except (TypeError, KeyError, AttributeError) as error:
        got = f"not one of SugarCrepe's files ({type(error).__name__}: {error})"
        raise DataError(str(file), got, wanted="{key: {filename, caption, negative_caption}}") from None
    return pairs
