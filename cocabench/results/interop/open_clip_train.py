"""open_clip's trainer: the validation results that it appends to ``logs/RUN/checkpoints/results.jsonl``."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cocabench.core.errors import ResultsError, unreadable
from cocabench.core.types import Estimate, Note, Record
from cocabench.metrics.intervals import of_proportion_like
from cocabench.results.interop.common import kind_of, made, number, text_of

PROGRAM = "open_clip_train"
ZERO_SHOT = {"imagenet": "imagenet1k", "imagenetv2": "imagenetv2"}
VALIDATION = "open_clip_train_val"
"""The task of ``--val-data``: its text finds its image among all of the validation set, and the other way round."""

_DIRECTIONS = {"image_to_text": "i2t", "text_to_image": "t2i"}


def read_jsonl(path: Path) -> list[Record]:
    """Return a Record per epoch and task. Of an epoch that a resumed run measured again, the last line counts.

    Lines that do not say their epoch (zero-shot alone, without --val-data) are numbered by their place in the file.
    """
    lines = [line for line in text_of(path).splitlines() if line.strip()]
    if not lines:
        raise ResultsError(str(path), "no lines", wanted="what open_clip_train wrote")
    entries: dict[str, dict[str, Any]] = {}
    for i, line in enumerate(lines, 1):
        entry = _parsed(line, f"{path}:{i}")
        entries[f"epoch_{entry['epoch']}" if "epoch" in entry else f"entry_{i}"] = entry
    records = [record for label, entry in entries.items() for record in _records(path, label, entry)]
    if not records:
        raise ResultsError(str(path), "no metric that is known", wanted="what open_clip_train wrote")
    return records


def _parsed(line: str, where: str) -> dict[str, Any]:
    try:
        entry = json.loads(line)
    except json.JSONDecodeError as error:
        raise ResultsError(where, unreadable(error)) from None
    if not isinstance(entry, dict):
        raise ResultsError(where, "no JSON object", wanted="{metric: value}")
    return entry


def _records(path: Path, label: str, entry: Mapping[str, Any]) -> Iterator[Record]:
    where, model = f"{path}: {label}", f"{_run(path)} ({PROGRAM})/{label}"
    guessed = label.startswith("entry_")
    said = Note("imported", "the file does not say which epoch this is; entries are numbered by line")
    notes = (said,) if guessed else ()
    for name, task in ZERO_SHOT.items():
        metrics = {
            f"acc{k}": Estimate(value=number(entry[key], where), low=None, high=None, n=0)
            for k in (1, 5)
            if (key := f"{name}-zeroshot-val-top{k}") in entry
        }
        if metrics:
            yield made(
                PROGRAM,
                path,
                task=task,
                evaluator=kind_of(metrics),
                model=model,
                metrics=metrics,
                protocol={},
                model_parts={"run": _run(path), "checkpoint": label},
                notes=notes,
            )
    if metrics := dict(_retrieval(entry, where)):
        n = int(entry.get("num_samples") or 0)
        yield made(
            PROGRAM,
            path,
            task=VALIDATION,
            evaluator=kind_of(metrics),
            model=model,
            metrics=metrics,
            protocol={"data": {"images": n}} if n else {},
            model_parts={"run": _run(path), "checkpoint": label},
            notes=notes,
        )


def _run(path: Path) -> str:
    folder = path.resolve().parent
    return folder.parent.name if folder.name == "checkpoints" else folder.name


def _retrieval(entry: Mapping[str, Any], where: str) -> Iterator[tuple[str, Estimate]]:
    """Yield recalls with Wilson's interval (each image has one text), and ranks, which have none."""
    n = int(entry.get("num_samples") or 0)
    for key, raw in entry.items():
        if (found := re.fullmatch(r"(image_to_text|text_to_image)_(?:R@(\d+)|(mean_rank|median_rank))", key)) is None:
            continue
        direction, value = _DIRECTIONS[found[1]], number(raw, f"{where}: {key}")
        if value is None:
            yield f"{direction}_{found[3] or f'recall@{found[2]}'}", Estimate(value=None, low=None, high=None, n=0)
        elif found[3]:
            yield f"{direction}_{found[3]}", Estimate(value=value, low=None, high=None, n=n)
        else:
            low, high = of_proportion_like(value, 0.0, n) if n else (None, None)
            yield f"{direction}_recall@{found[2]}", Estimate(value=value, low=low, high=high, n=n)
