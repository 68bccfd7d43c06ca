"""A results folder with samples and thumbnails: two models on a task of each kind, small enough to check by hand."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image

from cocabench.core.signature import digest
from cocabench.results.store import RecordSet, Store, load
from tests.report.records import estimate, record

NAMES = ("cat", "dog", "owl")
TASKS = ("named", "found", "captioned")
DATA: dict[str, Any] = {"images": 12, "hash": "0"}


def results(root: Path, *, models: tuple[str, ...] = ("one", "two"), text: str = "", images: int = 12) -> RecordSet:
    """Write and load them. Model i is wrong on every (i + 2)-th image; text is put into every caption and class."""
    store = Store(root)
    store.put_thumbnails(digest(DATA), {f"x{i}": _jpeg(i) for i in range(images)})
    for side, model in enumerate(models):
        for task, (evaluator, metric, rows) in _tasks(side, text, images).items():
            metrics = {metric: estimate(0.5 - side / 10, 0.1, images)}
            protocol = {"data": DATA, "task": task}
            made = record(model, task, metrics, evaluator=evaluator, primary=metric, protocol=protocol)
            store.put(made, pd.DataFrame(rows))
    return load(root)


def _jpeg(shade: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 48), (20 * shade % 256, 90, 200)).save(buffer, "JPEG")
    return buffer.getvalue()


def _tasks(side: int, text: str, images: int) -> dict[str, tuple[str, str, list[dict[str, Any]]]]:
    wrong = [i % (side + 2) == 0 for i in range(images)]
    return {
        "named": ("classification", "acc1", [_named(i, wrong[i], text) for i in range(images)]),
        "found": (
            "retrieval",
            "t2i_recall@5",
            [row for i in range(images) for row in _found(i, wrong[i], text, images)],
        ),
        "captioned": ("captioning", "CIDEr", [_captioned(i, wrong[i], text) for i in range(images)]),
    }


def _ranks(wrong: bool, prefix: str = "") -> dict[str, int]:
    counts = {"n_above": int(wrong), "tied_negatives": 0, "identical": 0, "tied_positives": 1}
    return {prefix + name: value for name, value in counts.items()}


def _named(i: int, wrong: bool, text: str) -> dict[str, Any]:
    label = i % 3
    order = [(label + 1) % 3, label, (label + 2) % 3] if wrong else [label, (label + 1) % 3, (label + 2) % 3]
    names = {"label_name": NAMES[label] + text, "top5_names": [NAMES[k] + text for k in order]}
    return {
        "id": f"x{i}",
        "image_id": f"x{i}",
        "label": label,
        **_ranks(wrong),
        **names,
        "top5": order,
        "top5_scores": [0.9, 0.8, 0.7],
    }


def _found(i: int, wrong: bool, text: str, images: int) -> list[dict[str, Any]]:
    other = f"x{(i + 1) % images}"
    query = {"text": f"picture {i}{text}", "t2i_wrong": [other], "t2i_wrong_scores": [0.4], **_ranks(wrong, "t2i_")}
    image = {
        "i2t_wrong": [f"{other}#0"],
        "i2t_wrong_texts": [f"not it{text}"],
        "i2t_wrong_scores": [0.3],
        **_ranks(wrong, "i2t_"),
    }
    return [{"id": f"x{i}#0", "image_id": f"x{i}", **query}, {"id": f"x{i}", "image_id": f"x{i}", **image}]


def _captioned(i: int, wrong: bool, text: str) -> dict[str, Any]:
    said = {
        "caption": f"a thing{text}" if wrong else f"a {NAMES[i % 3]}{text}",
        "references": [f"one {NAMES[i % 3]}{text}"],
    }
    return {"id": f"x{i}", "image_id": f"x{i}", **said, "domain": "", "cider": 0.1 if wrong else 1.2 + i / 100}
