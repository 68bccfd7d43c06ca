"""The exam that cocabench and clip-benchmark both sit: the demo's drawings, with the prompts and captions spelled out.

A folder with ``images/*.png``, ``exam.json``, and the demo's model folders; the referee needs nothing of cocabench.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from cocabench import demo
from cocabench.core.types import Dataset, Example
from cocabench.data.builtin import Emoji

CAPTIONED = 60
TEMPLATES = ("{c}", "an emoji of {c}", "a drawing of {c}", "a picture of {c}")
"""Several, so that the mean over prompts is examined; the demo's own tasks use the bare name."""
NOBODY = "a class that no image has"


def datasets() -> dict[str, Dataset]:
    """Return the data of each part. Captions repeat between images, so that ties are real."""
    root = Path()
    groups, subgroups = Emoji(target="name", group="food-drink").build(root), Emoji(target="subgroup").build(root)
    captions = Emoji(target="captions").build(root)
    subset = Emoji(target="captions", caption_subset=True).build(root)
    return {
        "classification": replace(groups, templates=TEMPLATES),
        "subgroups": replace(subgroups, templates=TEMPLATES),
        "multilabel": _multilabel(subgroups),
        "retrieval": _with_shared_captions(captions),
        "captioning": Dataset("captioning", "twemoji", subset.examples[:CAPTIONED]),
    }


def _multilabel(subgroups: Dataset) -> Dataset:
    """Each image's subgroup and, as a second label, whether the subgroup's name has a space; one class has no image."""
    n = len(subgroups.classes)
    classes = (*subgroups.classes, "several words", "one word", NOBODY)
    examples = []
    for e in subgroups.examples[:600]:
        assert isinstance(e.label, int)
        examples.append(Example(e.id, e.image, label=(e.label, n if " " in subgroups.classes[e.label] else n + 1)))
    return Dataset("multilabel", "twemoji", examples, classes, TEMPLATES)


def _with_shared_captions(captions: Dataset) -> Dataset:
    """Give every 50th image the caption of the one before it as well."""
    examples = list(captions.examples)
    for i in range(50, len(examples), 50):
        examples[i] = Example(examples[i].id, examples[i].image, (*examples[i].texts, examples[i - 1].texts[0]))
    return Dataset("retrieval", "twemoji", examples)


def write(folder: Path) -> Path:
    """Write the exam and return its folder."""
    (folder / "images").mkdir(parents=True)
    parts: dict[str, Any] = {}
    for name, dataset in datasets().items():
        for example in dataset.examples:
            path = folder / "images" / f"{example.id}.png"
            if not path.exists():
                example.image.open().convert("RGB").save(path)
        parts[name] = {
            "classes": list(dataset.classes),
            "templates": list(dataset.templates),
            "rows": [{"id": e.id, "label": e.label, "texts": list(e.texts)} for e in dataset.examples],
        }
    (folder / "exam.json").write_text(json.dumps(parts), encoding="utf-8")
    for name in demo.PAIR:
        shutil.copytree(demo.model_folder(name), folder / "models" / name)
    return folder
