"""Questions about the demo's emoji: colour, count and kind; for training, in other styles and about other emoji.

`python -m tools.demo.questions --training training.npz --output DIR` writes DIR/questions.tsv with its images, as
`cocabench train coca-vqa-finetune` takes it.
"""

import argparse
import io
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cocabench.data.builtin import Drawn, Emoji, half_of, in_grid, questions_about, read_shards
from cocabench.data.images import BytesImage, OnWhiteImage
from cocabench.demo import data_file, data_files
from tools.demo.pictures import TrainingSet, read_training_set
from tools.demo.sources import STYLES, mixed

Floats = NDArray[np.float64]

QUESTIONED = 300
"""Emoji of the test half that are asked about."""

DRAWINGS = 2
"""Styles in which an emoji of the training half is shown."""

CLEAR = 0.5
"""The share of a drawing's pixels that have its main colour, or more; of others the colour is not asked."""

HUES = (
    (15, "red"),
    (38, "orange"),
    (70, "yellow"),
    (165, "green"),
    (255, "blue"),
    (290, "purple"),
    (345, "pink"),
    (361, "red"),
)
"""Names of hues up to so many degrees."""


def colour_of(drawing: Image.Image) -> str:
    """Return the name of the colour that most opaque pixels of an RGBA drawing have; '' if it is white or not clear."""
    rgba = drawing.convert("RGBA")
    opaque = np.asarray(rgba)[..., 3] > 127
    hue, saturation, value = np.asarray(rgba.convert("RGB").convert("HSV"), np.float64)[opaque].T / 255
    if not hue.size:
        return ""
    names = np.array([name for _, name in HUES])[np.searchsorted([limit for limit, _ in HUES], 360 * hue, side="right")]
    named = np.select(
        [
            value < 0.25,
            (saturation < 0.15) & (value > 0.85),
            saturation < 0.15,
            _brown(360 * hue, value),
            _pink(names, saturation, value),
        ],
        ["black", "white", "gray", "brown", "pink"],
        names,
    )
    (name, n), *_ = Counter(named.tolist()).most_common(1)
    return name if n >= CLEAR * len(named) and name != "white" else ""


def _brown(degrees: Floats, value: Floats) -> NDArray[np.bool_]:
    return np.asarray((degrees >= 10) & (degrees < 40) & (value < 0.8))


def _pink(names: NDArray[np.str_], saturation: Floats, value: Floats) -> NDArray[np.bool_]:
    return np.asarray((names == "red") & (saturation < 0.5) & (value > 0.8))


def cells_of(key: str) -> list[int]:
    """Return one to four cells of the grid, in order, chosen by a hash of the key; each number is as likely."""
    value = int(mixed(key)[:8], 16)
    count, value = 1 + value % 4, value // 4
    return sorted(sorted(range(4), key=lambda cell: mixed(f"{key} {value} {cell}"))[:count])


def drawn(key: str, drawing: Image.Image) -> Drawn | None:
    """Return what an image of questions shows, None if the drawing has no clear colour."""
    colour = colour_of(drawing)
    return {"colour": colour, "cells": cells_of(key)} if colour else None


def write_questions(out: Path) -> Path:
    """Write what is asked about the first QUESTIONED of the test half of the shards in `out`, and return it."""
    found: dict[str, Drawn] = {}
    for info, png in read_shards(sorted(out.glob("emoji-*.tar.gz"))):
        in_test = half_of(OnWhiteImage(BytesImage(png, info["id"]))) == "test"
        if len(found) < QUESTIONED and in_test and (own := drawn(info["id"], Image.open(io.BytesIO(png)))):
            found[info["id"]] = own
    path = out / data_file("questions").name
    lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(own)}" for key, own in found.items())
    path.write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")
    return path


def training_rows(data: TrainingSet) -> Iterator[tuple[str, Image.Image, list[str]]]:
    """Yield (name, image, captions: a question and its answer) of the training half's emoji, in DRAWINGS styles."""
    groups = {info["id"]: info["group"] for info, _ in read_shards(data_files())}
    half = {example.id for example in Emoji(split="train").build(Path()).examples}
    there = data.drawn
    for row, key in enumerate(data.ids):
        names = {f"{key}-{STYLES[column]}": column for column in there[row].nonzero()[0].tolist() if key in half}
        for name in sorted(names, key=mixed)[:DRAWINGS]:
            drawing = Image.fromarray(data.pictures[row, names[name]], "RGBA")
            if own := drawn(name, drawing):
                white = Image.alpha_composite(Image.new("RGBA", drawing.size, "white"), drawing)
                asked = questions_about(groups[key], own).values()
                yield name, in_grid(white, own["cells"]), [f"{question} {answer}" for question, answer in asked]


def main() -> None:
    """Write the table and its images."""
    parser = argparse.ArgumentParser(prog="python -m tools.demo.questions", description=__doc__)
    parser.add_argument("--training", type=Path, required=True, help="what tools.demo.build --training wrote")
    parser.add_argument("--output", type=Path, required=True, help="folder of the table and its images")
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    rows = ["filepath\ttitle"]
    for name, image, captions in training_rows(read_training_set(args.training)):
        file = args.output / f"{name}.png"
        image.save(file)
        rows += [f"{file}\t{caption}" for caption in captions]
    (args.output / "questions.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    print(args.output / "questions.tsv", len(rows) - 1)


if __name__ == "__main__":
    main()
