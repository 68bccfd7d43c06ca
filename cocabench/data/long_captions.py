"""Images with long captions, and captions of the text in images: Urban1k, DCI, DOCCI, TextCaps."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from cocabench.core.errors import DataError
from cocabench.core.formatting import plural
from cocabench.core.types import Dataset, Example
from cocabench.data.base import LocalLoader, checked
from cocabench.data.files import Item, find_file, read_json, read_text, some
from cocabench.data.images import FileImage
from cocabench.data.inputs import note_file, note_folder
from cocabench.data.tables import json_lines


class Urban1k(LocalLoader):
    """Long-CLIP's Urban1k: image/N.jpg with caption/N.txt, of which the first line is the caption."""

    def build(self, root: Path, *, download: bool = False) -> Dataset:
        """Return the images in the order of their numbers; ids are file stems."""
        folder = self.folder(root)
        if not note_file(folder / "caption").is_dir():
            raise self.missing(folder, "no folder caption")
        files = sorted(note_folder(folder / "caption").glob("*.txt"), key=lambda file: (len(file.stem), file.stem))
        images = [folder / "image" / f"{file.stem}.jpg" for file in files]
        self.require(images)
        lines = [read_text(file).split("\n", 1)[0].strip() for file in files]
        examples = [
            Example(i.stem, FileImage(i), (line,) if line else ()) for i, line in zip(images, lines, strict=True)
        ]
        return checked(Dataset(self.name, "test", examples), folder, texts=True)


class Dci(LocalLoader):
    """Densely Captioned Images: splits.json, photos/, and a JSON file per image in complete/ or annotations/.

    split: train, valid or test; all: the three.
    text:  ``extended``: short_caption and extra_caption, a line each, as retrieval with long captions uses it;
           ``summary``: sDCI, the first of summaries.base, written to fit 77 tokens. Images without one are left out.
    """

    split: Literal["train", "valid", "test", "all"] = "test"
    text: Literal["extended", "summary"] = "extended"

    def build(self, root: Path, *, download: bool = False) -> Dataset:
        """Return the images in the order of splits.json; ids are the stems of the photos."""
        folder = self.folder(root)
        if (file := find_file((folder,), "splits.json")) is None:
            raise self.missing(folder, "no splits.json")
        splits = Item(file, read_json(file))
        chosen = ("train", "valid", "test") if self.split == "all" else (self.split,)
        names = [item.name() for split in chosen for item in splits[split].items()]
        base = next((folder / name for name in ("complete", "annotations") if note_file(folder / name).is_dir()), None)
        if base is None:
            raise self.missing(folder, "neither complete/ nor annotations/")
        examples = []
        for name in names:
            entry = Item(base / name, read_json(base / name))
            if (text := self._text(entry)) is not None:
                photo = entry["image"].text()
                examples.append(Example(Path(photo).stem, FileImage(folder / "photos" / photo), (text,)))
        self.require([image.path for e in examples for image in e.images if isinstance(image, FileImage)])
        return checked(Dataset(self.name, self.split, examples), file, texts=True)

    def _text(self, entry: Item) -> str | None:
        if self.text == "extended":
            return f"{entry['short_caption'].text()}\n{entry['extra_caption'].text()}".strip()
        if not entry.has("summaries") or not entry["summaries"].has("base"):
            return None
        base = entry["summaries"]["base"]
        return (base if isinstance(base.value, str) else base.items()[0]).text().strip()


class Docci(LocalLoader):
    """DOCCI: docci_descriptions.jsonlines (image_file, split, description) and images/. Ids are file stems.

    split: train, test (5,000), qual_dev or qual_test.
    """

    split: Literal["train", "test", "qual_dev", "qual_test"] = "test"

    def build(self, root: Path, *, download: bool = False) -> Dataset:
        """Return the split's images in the file's order."""
        folder = self.folder(root)
        if (file := find_file((folder,), "docci_descriptions.jsonlines")) is None:
            raise self.missing(folder, "no docci_descriptions.jsonlines")
        rows = [Item(file, row, f"line {k}") for k, row in enumerate(json_lines(file), 1)]
        rows = [row for row in rows if row["split"].text() == self.split]
        images = [folder / "images" / row["image_file"].text() for row in rows]
        self.require(images)
        texts = [row["description"].text().strip() for row in rows]
        examples = [Example(i.stem, FileImage(i), (text,)) for i, text in zip(images, texts, strict=True)]
        return checked(Dataset(self.name, self.split, examples), file, texts=True)


class TextCaps(LocalLoader):
    """TextCaps: TextCaps_0.1_val.json, a row per caption (image_id, caption_str), and its images in train_images/.

    split: train or val; the captions of test are not public.
    """

    split: Literal["train", "val"] = "val"

    def build(self, root: Path, *, download: bool = False) -> Dataset:
        """Return the images in the order of first appearance, with all their captions."""
        folder = self.folder(root)
        name = f"TextCaps_0.1_{self.split}.json"
        if (file := find_file((folder, folder / "annotations"), name)) is None:
            raise self.missing(folder, f"no {name} there nor in annotations/")
        captions: dict[str, list[str]] = {}
        for row in Item(file, read_json(file))["data"].items():
            captions.setdefault(row["image_id"].name(), []).append(row["caption_str"].text().strip())
        if odd := [image for image, texts in captions.items() if not all(texts)]:
            raise DataError(str(file), f"{plural(len(odd), 'image')} with an empty caption: {some(odd)}")
        paths = [folder / "train_images" / f"{image}.jpg" for image in captions]
        self.require(paths)
        examples = [Example(i, FileImage(p), tuple(captions[i])) for i, p in zip(captions, paths, strict=True)]
        return checked(Dataset(self.name, self.split, examples), file, texts=True)
