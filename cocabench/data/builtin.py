"""Data sets that need no files of the user's: the demo's emoji, and noise."""

from __future__ import annotations

import hashlib
import json
import random
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypedDict, get_args

import numpy as np
from PIL import Image
from pydantic import Field, model_validator

from cocabench.core.errors import MissingDataError
from cocabench.core.files import ROWS
from cocabench.core.types import Dataset, Example, ImageSource
from cocabench.data.base import checked
from cocabench.data.images import BytesImage, OnWhiteImage, identity
from cocabench.data.questions import Asked, Question, by_image
from cocabench.demo import LANGUAGE_GROUP, data_file
from cocabench.specs.spec import Spec, guess

Group = Literal[
    "smileys-emotion", "people-body", "animals-nature", "food-drink", "travel-places",
    "activities", "objects", "symbols", "flags",
]  # fmt: skip

TEMPLATES = ("{c}",)
"""The bare name: what the demo's models were trained on."""

WORDS = (
    "a", "the", "red", "small", "old", "of", "two", "dog", "street", "with", "and", "on", "grass", "man", "riding",
    "train", "near", "under", "blue", "plate",
)  # fmt: skip


class Emoji(Spec):
    """The packed emoji, on white.

    target: what an image is to be matched with: its ``name``, ``subgroup`` or ``group`` (classification), or its
            ``captions`` (retrieval, captioning), or its name beside another emoji's that has one word in the place of
            another: ``pairs`` (image-caption selection), of those emoji that have such a neighbour; or ``questions``
            about its colour, its number and its kind (vqa), of one to four copies of it.
    group:  only the emoji of this Unicode group.
    caption_subset: only the 300 that the captioning task describes.
    split: only one half, ``train`` or ``test``, by a hash of the drawing: 43 emoji look like another (families, flags),
           and a test image must not be a training image.
    language: of the names: de, en, es, fr, hi, ja, ru or zh, as Unicode's CLDR has them; all but en for the group
              animals-nature alone.
    """

    target: Literal["name", "subgroup", "group", "captions", "pairs", "questions"] = "name"
    group: Group | None = None
    caption_subset: bool = False
    split: Literal["", "train", "test"] = ""
    language: str = "en"

    @model_validator(mode="after")
    def _has_names(self) -> Self:
        known = _names()
        if self.language not in known:
            raise ValueError(f"language: got {self.language!r}; {guess(self.language, list(known))}")
        if self.language != "en" and (self.target, self.group) != ("name", LANGUAGE_GROUP):
            raise ValueError(f'language {self.language!r} needs target = "name" and group = "{LANGUAGE_GROUP}"')
        return self

    def build(self, root: Path, *, download: bool = False) -> Dataset:
        """Return the chosen emoji. root is ignored."""
        folder = Path(str(resources.files("cocabench") / "demo" / "data"))
        samples = [sample for sample in _samples(folder) if self._wanted(*sample)]
        subset = "caption-subset" if self.caption_subset else ""
        other = "" if self.language == "en" else self.language
        name = "-".join(filter(None, ("emoji", self.group, subset, self.split, other)))
        if self.target == "captions":
            examples = [Example(info["id"], image, tuple(info["captions"])) for info, image in samples]
            return checked(Dataset(name, "twemoji", examples), folder, texts=True)
        if self.target == "pairs":
            near = _neighbours({info["name"] for info, _ in samples})
            found = ((info["id"], image, info["name"]) for info, image in samples if info["name"] in near)
            pairs = [Example(key, image, (own,), negatives=((near[own],),)) for key, image, own in found]
            return checked(Dataset(f"{name}-pairs", "twemoji", pairs), folder, texts=True)
        if self.target == "questions":
            drawn = _questions()
            asked = [one for info, image in samples if info["id"] in drawn for one in _asked(info, image, drawn)]
            return checked(Dataset(f"{name}-questions", "twemoji", by_image(asked, folder)), folder, texts=True)
        names = _names()[self.language] if other else {}
        classes, labels = _classes([names.get(info["id"]) or _CLASS_OF[self.target](info) for info, _ in samples])
        examples = [Example(info["id"], image, label=k) for (info, image), k in zip(samples, labels, strict=True)]
        return checked(Dataset(name, "twemoji", examples, classes, TEMPLATES), folder)

    def _wanted(self, info: dict[str, Any], image: OnWhiteImage) -> bool:
        in_group = self.group in (None, info["group"])
        return in_group and self.split in ("", half_of(image)) and (info["caption_subset"] or not self.caption_subset)


def half_of(image: OnWhiteImage) -> str:
    """Return the half of a drawing, ``train`` or ``test``."""
    return ("train", "test")[hashlib.sha256(image.identity()).digest()[0] % 2]


_CLASS_OF: dict[str, Callable[[dict[str, Any]], str]] = {
    "name": lambda info: str(info["name"]),
    "subgroup": lambda info: str(info["subgroup"]).replace("-", " "),
    "group": lambda info: str(info["group"]).replace("-", " "),
}


@cache
def _names() -> dict[str, dict[str, str]]:
    """Return {language: {id: name}}."""
    found: dict[str, dict[str, str]] = json.loads(data_file("names").read_text(encoding="utf-8"))
    return found


class Drawn(TypedDict):
    """What an image of questions shows: the emoji's main colour, and the cells of the grid that it lies in."""

    colour: str
    cells: list[int]


@cache
def _questions() -> dict[str, Drawn]:
    """Return {id: what is drawn}."""
    found: dict[str, Drawn] = json.loads(data_file("questions").read_text(encoding="utf-8"))
    return found


COUNTS = ("one", "two", "three", "four")
KINDS: Mapping[str, str] = dict(
    zip(
        get_args(Group),
        ("emotion", "person", "nature", "food", "place", "game", "object", "symbol", "flag"),
        strict=True,
    )
)
"""The answer to "what kind?" of each group."""


def questions_about(group: str, drawn: Drawn) -> dict[str, tuple[str, str]]:
    """Return {type: (question, answer)} about an image. They are short: the demo's models read twelve tokens."""
    return {
        "colour": ("what colour?", drawn["colour"]),
        "count": ("how many?", COUNTS[len(drawn["cells"]) - 1]),
        "kind": ("what kind?", KINDS[group]),
    }


def _asked(info: Mapping[str, Any], image: ImageSource, drawn: Mapping[str, Drawn]) -> Iterator[Asked]:
    own = drawn[info["id"]]
    grid = GridImage(image, tuple(own["cells"]))
    for kind, (text, answer) in questions_about(info["group"], own).items():
        yield Asked(info["id"], grid, Question(f"{info['id']}/{kind}", text, (answer,), type=kind))


@dataclass(frozen=True, slots=True)
class GridImage:
    """Copies of a square drawing in cells (0-3, row by row) of a grid of two by two, on white."""

    source: ImageSource
    cells: tuple[int, ...]

    def open(self) -> Image.Image:
        """Decode the drawing and return the grid as RGB, twice its size."""
        return in_grid(self.source.open(), self.cells)

    def identity(self) -> bytes:
        return f"grid {self.cells} ".encode() + identity(self.source)

    def stamp(self) -> str:
        return ""  # of what is in memory

    def mode(self) -> str:
        return "RGB"

    def __str__(self) -> str:
        return f"{self.source} in {self.cells}"


def in_grid(drawing: Image.Image, cells: Iterable[int]) -> Image.Image:
    """Return RGB, twice the drawing's size: copies of it in cells (0-3, row by row) on white."""
    side = drawing.width
    grid = Image.new("RGB", (2 * side, 2 * side), "white")
    for cell in cells:
        grid.paste(drawing.convert("RGB"), (cell % 2 * side, cell // 2 * side))
    return grid


def _classes(names: list[str]) -> tuple[tuple[str, ...], list[int]]:
    classes = tuple(sorted(set(names)))
    index = {name: k for k, name in enumerate(classes)}
    return classes, [index[name] for name in names]


def _neighbours(names: set[str]) -> dict[str, str]:
    """Return for each name the next one by the alphabet, in a circle, that differs from it in one word."""
    alike: dict[tuple[str, int, str], list[str]] = {}
    for name in sorted(names):
        words = name.split()
        for k in range(len(words)):
            alike.setdefault((" ".join(words[:k]), k, " ".join(words[k + 1 :])), []).append(name)
    found: dict[str, str] = {}
    for group in alike.values():
        for name, following in zip(group, group[1:] + group[:1], strict=True):
            if following != name and len(name.split()) > 1:
                found.setdefault(name, following)
    return found


@cache
def _samples(folder: Path) -> list[tuple[dict[str, Any], OnWhiteImage]]:
    """Return each emoji's record and drawing in the order of the shards, which mixes the groups."""
    shards = sorted(folder.glob("emoji-*.tar*"))
    if not shards:
        raise MissingDataError(str(folder), "no emoji-*.tar shards", fix="reinstall cocabench")
    return [
        (info, OnWhiteImage(BytesImage(png, f"{shard}:{info['id']}.png")))
        for shard in shards
        for info, png in read_shards([shard])
    ]


def read_shards(paths: Iterable[Path]) -> Iterator[tuple[dict[str, Any], bytes]]:
    """Yield the record and the PNG of every emoji, in the order of the shards."""
    for path in paths:
        with tarfile.open(path) as tar:
            members = {member.name: tar.extractfile(member) for member in tar}
            content = {name: file.read() for name, file in members.items() if file is not None}
        for name, text in content.items():
            if name.endswith(".json"):
                yield json.loads(text), content[name.removesuffix(".json") + ".png"]


@dataclass(frozen=True, slots=True)
class NoiseImage:
    """Square RGB noise that its seed determines."""

    seed: int
    size: int

    def open(self) -> Image.Image:
        """Return the image."""
        pixels = np.random.default_rng(self.seed).integers(0, 256, (self.size, self.size, 3), dtype=np.uint8)
        return Image.fromarray(pixels)

    def __str__(self) -> str:
        return f"noise {self.seed}"


class Synthetic(Spec):
    """Noise. It needs no files.

    images: how many. size: their side in pixels. words: the length of the captions, one per image.
    """

    images: Annotated[int, Field(ge=1, le=ROWS.default)] = 6
    size: Annotated[int, Field(ge=1, le=10_000)] = 256
    words: Annotated[int, Field(ge=1, le=10_000)] = 10
    seed: Annotated[int, Field(ge=0)] = 0

    def build(self, root: Path, *, download: bool = False) -> Dataset:
        """Return the noise. root is ignored."""
        rng = random.Random(self.seed)
        examples = [
            Example(f"noise-{k}", NoiseImage(self.seed + k, self.size), (" ".join(rng.choices(WORDS, k=self.words)),))
            for k in range(self.images)
        ]
        return Dataset("synthetic", "noise", examples)
