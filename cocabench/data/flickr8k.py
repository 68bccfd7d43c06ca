"""Flickr8k as its authors packed it: Flickr8k.token.txt, the split files, and a folder of images."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal, NamedTuple

from cocabench.core.errors import DataError
from cocabench.core.types import Dataset, Example, Note
from cocabench.data.base import sound
from cocabench.data.exported import Exported
from cocabench.data.files import absent, find_file, folder_with, read_lines, some, subfolders
from cocabench.data.images import FileImage

TOKENS = "Flickr8k.token.txt"
_KEY = re.compile(r"(?P<image>[^\s#]+?\.jpg)(?P<stray>\.\d+)?#(?P<number>\d+)")
_SPLIT_FILES = {"train": "trainImages", "val": "devImages", "test": "testImages"}


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
        base = folder / self.images if self.images else folder_with(folder, names[0]) if names else folder
        if base is None:
            raise self.missing(folder, f"no image {names[0]} there nor in its subfolders")
        lost = {path.name for path in absent([base / name for name in tokens.malformed.values()])}
        paths = [base / name for name in names if self.split != "all" or name not in lost]
        self.require(paths)
        examples = [Example(path.stem, FileImage(path), tokens.captions.get(path.name, ())) for path in paths]
        odd = tokens.malformed.items()
        notes = tuple(Note("data", f"{TOKENS}: malformed key {key!r} read as {image}") for key, image in odd)
        return sound(Dataset(self.name, self.split, examples, notes=notes), file, texts=True)

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
        if (match := _KEY.fullmatch(key)) is None or not caption:
            broken.append(f"line {number} ({line[:40]!r})")
            continue
        if match["stray"]:
            malformed[key] = match["image"]
        found.setdefault(match["image"], {})[int(match["number"])] = caption.strip()
    if broken:
        raise DataError(str(file), f"{len(broken)} lines that are not IMAGE.jpg#N<tab>CAPTION: {some(broken)}")
    return Tokens({image: tuple(texts[k] for k in sorted(texts)) for image, texts in found.items()}, malformed)
