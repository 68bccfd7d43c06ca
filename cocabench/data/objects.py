"""The objects in COCO's images: its instances, and the words that name them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cocabench.core.errors import DataError
from cocabench.data.files import Item, read_json, read_lines, some


def read_words(file: Path) -> dict[str, str]:
    """Return {word: object} of lines of synonyms, of which the first is the object's name: ``dog, puppy, beagle``."""
    words: dict[str, str] = {}
    for number, line in enumerate(read_lines(file), 1):
        names = [name.strip() for name in line.lower().split(",")]
        if not all(names):
            raise DataError(f"{file}: line {number}", f"{line[:40]!r}", wanted="words separated by commas")
        words |= dict.fromkeys(names, names[0])
    if not words:
        raise DataError(str(file), "an empty file", wanted="a line of synonyms for each kind of object")
    return words


def read_instances(file: Path, images: Sequence[str], words: dict[str, str]) -> list[list[str]]:
    """Return the names of the objects in each image, by a file of COCO's instances; DataError for another split's."""
    content = Item(file, read_json(file))
    names = {row["id"].name(): row["name"].text().lower() for row in content["categories"].items()}
    if unknown := sorted({name for name in names.values() if name not in words}):
        raise DataError(str(file), f"{len(unknown)} kinds of objects without synonyms: {some(unknown)}")
    listed = {row["id"].name() for row in content["images"].items()}
    if lost := [image for image in images if image not in listed]:
        got = f"{len(lost)} of {len(images)} images are not listed: {some(lost)}"
        raise DataError(str(file), got, wanted="the instances of the images' own split")
    found: dict[str, set[str]] = {image: set() for image in images}
    for row in content["annotations"].items():
        if (image := row["image_id"].name()) in found:
            if (kind := row["category_id"].name()) not in names:
                raise DataError(f"{file}: {row.where}", f"category_id {kind}", wanted="one of the file's categories")
            found[image].add(words[names[kind]])
    return [sorted(found[image]) for image in images]
