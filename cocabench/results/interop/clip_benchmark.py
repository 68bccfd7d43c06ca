"""CLIP_benchmark's results: the JSON of ``clip_benchmark eval``, and the CSV of ``clip_benchmark build``."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from cocabench.core.errors import ResultsError, unreadable
from cocabench.core.signature import digest
from cocabench.core.types import Estimate, Record
from cocabench.kinds import every, find
from cocabench.kinds.shown import ClipBenchmark
from cocabench.results.interop.common import made, number, text_of
from cocabench.results.published import SUFFIX as PUBLISHED
from cocabench.specs.aliases import task_name

PROGRAM = "CLIP_benchmark"
SUFFIX = f" ({PROGRAM})"
COLUMNS = ("dataset", "model", "pretrained", "task", "language", "model_fullname")
LINEAR_PROBE = "linear_probe"
"""CLIP_benchmark's other task on data that it also classifies without training."""


def read_json(path: Path) -> list[Record]:
    """Return the Record of one evaluation's JSON, which may hold bare NaN."""
    try:
        table = json.loads(text_of(path))
    except json.JSONDecodeError as error:
        raise ResultsError(str(path), unreadable(error)) from None
    if not isinstance(table, dict) or not isinstance(table.get("metrics"), dict):
        raise ResultsError(str(path), "no 'metrics' in it", wanted="the JSON of clip_benchmark eval")
    return [_record(path, table, table["metrics"], str(path))]


def read_csv(path: Path) -> list[Record]:
    """Return a Record per row of a CSV."""
    rows = list(csv.DictReader(io.StringIO(text_of(path))))
    if not rows:
        raise ResultsError(str(path), "no rows", wanted="the CSV of clip_benchmark build")
    return [
        _record(path, row, {k: v for k, v in row.items() if _is_metric(k) and v not in ("", None)}, f"{path}:{line}")
        for line, row in enumerate(rows, 2)
    ]


def _is_metric(column: str) -> bool:
    return column not in (*COLUMNS, "classnames", "templates")


def _record(path: Path, table: Mapping[str, Any], metrics: Mapping[str, Any], where: str) -> Record:
    if missing := [key for key in ("dataset", "model", "pretrained", "task") if not isinstance(table.get(key), str)]:
        raise ResultsError(where, f"no {', '.join(missing)}", wanted="a result of CLIP_benchmark")
    if not metrics:
        raise ResultsError(where, "no metric")
    known = next((kind for kind in every() if kind.clip_benchmark and kind.clip_benchmark.task == table["task"]), None)
    kind = known.name if known else table["task"]
    words = _words(kind)
    values = {words.ours(name): number(value, f"{where}: {name}") for name, value in metrics.items()}
    model = ":".join(part for part in (table["model"], table["pretrained"]) if part)
    return made(
        PROGRAM,
        path,
        task=_task(table["dataset"], kind),
        evaluator=kind,
        model=model + SUFFIX,
        metrics={name: Estimate(value=value, low=None, high=None, n=0) for name, value in values.items()},
        protocol={"language": table.get("language") or "en", **_prompts(table)},
        model_parts={"name": table["model"], "pretrained": table["pretrained"]},
    )


def _prompts(table: Mapping[str, Any]) -> dict[str, JsonValue]:
    """Return the prompts' hash, as ours, where class names and templates were dumped."""
    names, templates = table.get("classnames"), table.get("templates")
    if not isinstance(names, list) or not isinstance(templates, list):
        return {}
    return {"prompts": digest([[name, *(t.replace("{c}", name) for t in templates)] for name in names])}


def _task(dataset: str, kind: str) -> str:
    """Return our name of a data set, with the kind where it is measured in two ways."""
    return f"{task_name(dataset)}{_words(kind).suffix}"


def _words(kind: str) -> ClipBenchmark:
    """Return how CLIP_benchmark names a kind and its metrics; a kind that is not installed has its names."""
    suffix = f"_{LINEAR_PROBE}" if kind == LINEAR_PROBE else ""
    return find(kind).clip_benchmark or ClipBenchmark(kind, suffix=suffix)


def to_csv(records: Iterable[Record]) -> str:
    """Return Records as the CSV of clip_benchmark build: a row each, a column per metric, values as they are."""
    rows = [_row(record) for record in records]
    metrics = dict.fromkeys(name for row in rows for name in row if name not in COLUMNS)
    stream = io.StringIO()
    writer = csv.DictWriter(stream, [*COLUMNS, *metrics], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


def _row(record: Record) -> dict[str, object]:
    name = record.model.removesuffix(SUFFIX).removesuffix(PUBLISHED)
    model, _, pretrained = name.partition(":")
    words = _words(record.evaluator)
    values = {words.theirs(metric): e.value for metric, e in record.metrics.items() if e.value is not None}
    return {
        "dataset": record.task.removesuffix(words.suffix).removesuffix(f"_{LINEAR_PROBE}"),
        "model": model,
        "pretrained": pretrained,
        "task": words.task,
        "language": record.signature.protocol.get("language", "en"),
        "model_fullname": f"{model} {pretrained}",
        **values,
    }
