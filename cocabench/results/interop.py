"""Convert results of CLIP_benchmark, DataComp and open_clip's trainer to Records, and Records to CLIP_benchmark's CSV.

It reads the JSON of ``clip_benchmark eval``, the CSV of ``clip_benchmark build``, the ``eval_results.jsonl`` of
DataComp's evaluator, and the validation results that open_clip_train appends to
``logs/RUN/checkpoints/results.jsonl``; it writes the CSV. An imported Record has the
program's name after the model's, no samples, and only the parts of the protocol that the file gives; it is compared
with other Records by the parts that both have.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from cocabench.core.errors import ResultsError, unreadable
from cocabench.core.files import parse_json, read_text
from cocabench.core.signature import digest, short
from cocabench.core.types import Estimate, MetricInfo, Note, Record, Signature
from cocabench.kinds import every, find
from cocabench.kinds.base import Kind
from cocabench.kinds.shown import ClipBenchmark
from cocabench.metrics.intervals import of_proportion_like
from cocabench.results import published
from cocabench.results.records import set_of
from cocabench.specs.aliases import spellings, task_name
from cocabench.specs.groups import datacomp
from cocabench.specs.registry import all_tasks

CLIP_BENCHMARK, DATACOMP, TRAINER = "CLIP_benchmark", "DataComp", "open_clip_train"
SUFFIX = f" ({CLIP_BENCHMARK})"
COLUMNS = ("dataset", "model", "pretrained", "task", "language", "model_fullname")
ZERO_SHOT = {"imagenet": "imagenet1k", "imagenetv2": "imagenetv2"}
VALIDATION = "open_clip_train_val"
"""The task of ``--val-data``: retrieval among all pairs of the validation set, in both directions."""

DIRECTIONS = {"image_to_text": "i2t", "text_to_image": "t2i"}


def read(path: Path) -> list[Record]:
    """Return the Records of CLIP_benchmark's JSON, a folder of it, or CSV, or of a .jsonl: the trainer's or DataComp's.

    Of DataComp's a single model is in a file, which names it.
    """
    if path.is_dir():
        files = sorted(path.glob("*.json"))
        if not files:
            raise ResultsError(str(path), "no JSON files", wanted="what clip_benchmark eval wrote")
        return [record for file in files for record in _read_json(file)]
    wanted = "CLIP_benchmark's .json or .csv, or a .jsonl of open_clip_train or DataComp"
    if not path.exists():
        raise ResultsError(str(path), "no such file or folder", wanted=wanted)
    readers: dict[str, Callable[[Path], list[Record]]] = {
        ".json": _read_json,
        ".csv": _read_csv,
        ".jsonl": _read_jsonl,
    }
    if path.suffix not in readers:
        raise ResultsError(
            str(path), f"a {path.suffix} file" if path.suffix else "a file without suffix", wanted=wanted
        )
    return readers[path.suffix](path)


def _text(path: Path) -> str:
    try:
        return read_text(path)
    except (OSError, UnicodeDecodeError) as error:
        raise ResultsError(str(path), unreadable(error)) from None


def _parsed(text: str, where: str) -> Any:
    try:
        return parse_json(text)
    except json.JSONDecodeError as error:
        raise ResultsError(where, unreadable(error)) from None


def _number(value: object, where: str) -> float | None:
    """Return a metric's value, None if it is empty; ResultsError if it is not a number."""
    if value is None or value == "":
        return None
    try:
        return float(str(value))
    except ValueError:
        raise ResultsError(where, f"got {value!r}", wanted="a number") from None


def _imported(
    program: str,
    path: Path,
    *,
    task: str,
    evaluator: str,
    model: str,
    metrics: Mapping[str, Estimate],
    protocol: Mapping[str, JsonValue],
    model_parts: Mapping[str, JsonValue],
    notes: tuple[Note, ...] = (),
) -> Record:
    """Return the Record of one imported result; it has the date of the file."""
    names = list(metrics)
    return Record(
        task=task,
        model=model,
        evaluator=evaluator,
        primary=published.primary_of(evaluator, names),
        groups=("imported",),
        signature=Signature(
            protocol={"imported": program, "task": task, "evaluator": evaluator, **protocol},
            model=dict(model_parts),
        ),
        metrics=dict(metrics),
        definitions={name: _definition(evaluator, name, program) for name in names},
        notes=notes,
        environment={"imported_from": path.name},
        created=datetime.fromtimestamp(path.stat().st_mtime, UTC).isoformat(timespec="milliseconds"),
    )


def _definition(evaluator: str, name: str, program: str) -> MetricInfo:
    """Return the definition of a metric: ours, that of published numbers, or else a fraction or rank."""
    if found := find(evaluator).metric(name):
        return found.info
    rank = name.endswith("_rank")
    return published.definitions().get(name) or MetricInfo(
        unit="rank" if rank else "fraction", higher_is_better=not rank, summary=f"As defined by {program}."
    )


# CLIP_benchmark


def _read_json(path: Path) -> list[Record]:
    """Return the Record of one evaluation's JSON, which may hold bare NaN."""
    table = _parsed(_text(path), str(path))
    if isinstance(table, dict) and "metrics" in table and table["metrics"] is None:
        got = "'metrics' is null: CLIP_benchmark found too few training images for its shots, and measured nothing"
        raise ResultsError(str(path), got, wanted="another --fewshot_k")
    if not isinstance(table, dict) or not isinstance(table.get("metrics"), dict):
        raise ResultsError(str(path), "no 'metrics'", wanted="the JSON of clip_benchmark eval")
    return [_of_clip_benchmark(path, table, table["metrics"], str(path))]


def _read_csv(path: Path) -> list[Record]:
    """Return a Record per row of a CSV."""
    try:
        rows = list(csv.DictReader(io.StringIO(_text(path))))
    except csv.Error as error:
        raise ResultsError(str(path), f"not a table ({error})", wanted="the CSV of clip_benchmark build") from None
    if not rows:
        raise ResultsError(str(path), "no rows", wanted="the CSV of clip_benchmark build")
    others = (*COLUMNS, "classnames", "templates")
    metrics = [{k: v for k, v in row.items() if k not in others and v not in ("", None)} for row in rows]
    numbered = enumerate(zip(rows, metrics, strict=True), 2)
    return [_of_clip_benchmark(path, row, values, f"{path}:{line}") for line, (row, values) in numbered]


def _of_clip_benchmark(path: Path, table: Mapping[str, Any], metrics: Mapping[str, Any], where: str) -> Record:
    if missing := [key for key in ("dataset", "model", "pretrained", "task") if not isinstance(table.get(key), str)]:
        raise ResultsError(where, f"no {', '.join(missing)}", wanted="a result of CLIP_benchmark")
    if not metrics:
        raise ResultsError(where, "no metric")
    known = next((kind for kind in every() if kind.clip_benchmark and kind.clip_benchmark.task == table["task"]), None)
    kind = known.name if known else table["task"]
    names = _names(kind)
    try:
        found = names.read(metrics)
    except ValueError as error:
        raise ResultsError(where, str(error), wanted=f"the metrics of {CLIP_BENCHMARK}'s {names.task}") from None
    values = {name: _number(value, f"{where}: {name}") for name, value in found.metrics.items()}
    language = str(table.get("language") or "en")
    task, language = _in_language(f"{task_name(table['dataset'])}{names.suffix}", language)
    return _imported(
        CLIP_BENCHMARK,
        path,
        task=task,
        evaluator=kind,
        model=":".join(part for part in (table["model"], table["pretrained"]) if part) + SUFFIX,
        metrics={name: Estimate(value=value, low=None, high=None, n=0) for name, value in values.items()},
        protocol={"language": language, **_prompts(table), **found.protocol},
        model_parts={"name": table["model"], "pretrained": table["pretrained"]},
        notes=(Note("imported", found.said),) if found.said else (),
    )


def _in_language(name: str, language: str) -> tuple[str, str]:
    """Return the task of a data set in a language, and our code of it; English alone may be no language of a set."""
    spoken = f"{name}/{language}"
    if found := next((one for one in spellings(spoken) if one in all_tasks()), spoken if language != "en" else ""):
        return found, found.rpartition("/")[2]
    return name, language


def _prompts(table: Mapping[str, Any]) -> dict[str, JsonValue]:
    """Return the hash of the prompts, equal to ours, if the file has class names and templates."""
    names, templates = table.get("classnames"), table.get("templates")
    if not isinstance(names, list) or not isinstance(templates, list):
        return {}
    return {"prompts": digest([[name, *(t.replace("{c}", name) for t in templates)] for name in names])}


def _names(kind: str) -> ClipBenchmark:
    """Return CLIP_benchmark's names of a kind and its metrics."""
    return find(kind).clip_benchmark or ClipBenchmark(kind)


def to_csv(records: Iterable[Record]) -> str:
    """Return Records as the CSV of clip_benchmark build: a row per Record, a column per metric, unscaled values."""
    rows = [_row(record) for record in records]
    metrics = dict.fromkeys(name for row in rows for name in row if name not in COLUMNS)
    stream = io.StringIO()
    writer = csv.DictWriter(stream, [*COLUMNS, *metrics], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


TABLE = ("model", "task", "kind", "metric", "value", "low", "high", "n", "unit", "signature", "created")


def to_table(records: Iterable[Record]) -> str:
    """Return Records as a plain CSV: a row per metric, with unscaled value, 95 % interval, number of images, unit."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(TABLE)
    for r in records:
        for name, e in r.metrics.items():
            numbers = (e.value, e.low, e.high, e.n, r.definitions[name].unit)
            writer.writerow((r.model, r.task, r.evaluator, name, *numbers, short(r.signature), r.created))
    return stream.getvalue()


def _row(record: Record) -> dict[str, object]:
    name = record.model.removesuffix(SUFFIX).removesuffix(published.SUFFIX)
    model, _, pretrained = name.partition(":")
    names = _names(record.evaluator)
    if not names.has(record.signature.protocol):
        names = ClipBenchmark(record.evaluator, suffix=names.suffix)
    values = {names.theirs(metric): e.value for metric, e in record.metrics.items() if e.value is not None}
    return {
        "dataset": (set_of(record) or record.task).removesuffix(names.suffix).removesuffix(f"_{names.task}"),
        "model": model,
        "pretrained": pretrained,
        "task": names.task,
        "language": record.signature.protocol.get("language", "en"),
        "model_fullname": f"{model} {pretrained}",
        **values,
    }


# open_clip_train


def _read_jsonl(path: Path) -> list[Record]:
    """Return a Record per epoch and task. If a resumed run measured an epoch again, the last line is taken.

    Lines without an epoch (zero-shot only, without --val-data) are numbered by line.
    """
    lines = [line for line in _text(path).splitlines() if line.strip()]
    if not lines:
        raise ResultsError(str(path), "no lines", wanted="what open_clip_train or DataComp's evaluator wrote")
    first = _parsed(lines[0], f"{path}:1")
    if isinstance(first, dict) and {"key", "metrics"} <= first.keys():
        return [_of_datacomp(path, _parsed(line, f"{path}:{i}"), f"{path}:{i}") for i, line in enumerate(lines, 1)]
    entries: dict[str, dict[str, Any]] = {}
    for i, line in enumerate(lines, 1):
        entry = _parsed(line, f"{path}:{i}")
        if not isinstance(entry, dict):
            raise ResultsError(f"{path}:{i}", "no JSON object", wanted="{metric: value}")
        entries[f"epoch_{entry['epoch']}" if "epoch" in entry else f"entry_{i}"] = entry
    records = [record for label, entry in entries.items() for record in _of_epoch(path, label, entry)]
    if not records:
        raise ResultsError(str(path), "no known metric", wanted="what open_clip_train wrote")
    return records


def _of_epoch(path: Path, label: str, entry: Mapping[str, Any]) -> Iterator[Record]:
    folder = path.resolve().parent
    run = folder.parent.name if folder.name == "checkpoints" else folder.name
    where, n = f"{path}: {label}", int(entry.get("num_samples") or 0)
    unnumbered = Note("imported", "the file does not say which epoch this is; entries are numbered by line")
    measured: dict[str, dict[str, Estimate]] = {
        task: {
            f"acc{k}": Estimate(value=_number(entry[key], where), low=None, high=None, n=0)
            for k in (1, 5)
            if (key := f"{name}-zeroshot-val-top{k}") in entry
        }
        for name, task in ZERO_SHOT.items()
    }
    measured[VALIDATION] = dict(_ranks(entry, n, where))
    for task, metrics in measured.items():
        if metrics:
            yield _imported(
                TRAINER,
                path,
                task=task,
                evaluator=_kind_of(metrics),
                model=f"{run} ({TRAINER})/{label}",
                metrics=metrics,
                protocol={"data": {"images": n}} if n and task == VALIDATION else {},
                model_parts={"run": run, "checkpoint": label},
                notes=(unnumbered,) if label.startswith("entry_") else (),
            )


def _kind_of(metrics: Iterable[str]) -> str:
    """Return the first installed kind of task that declares any of the metrics."""
    names = list(metrics)
    found = next((kind for kind in every() if any(kind.metric(name) for name in names)), None)
    if found is None:
        raise ResultsError(
            "import", f"no kind of task has {', '.join(names)}", fix="install the package with that kind"
        )
    return found.name


def _ranks(entry: Mapping[str, Any], n: int, where: str) -> Iterator[tuple[str, Estimate]]:
    """Yield recalls with Wilson's interval (each image has one text), and ranks without one."""
    for key, raw in entry.items():
        if (found := re.fullmatch(r"(image_to_text|text_to_image)_(?:R@(\d+)|(mean_rank|median_rank))", key)) is None:
            continue
        direction, value = DIRECTIONS[found[1]], _number(raw, f"{where}: {key}")
        low, high = of_proportion_like(value, 0.0, n) if n and value is not None and found[2] else (None, None)
        name = f"{direction}_{found[3] or f'recall@{found[2]}'}"
        yield name, Estimate(value=value, low=low, high=high, n=0 if value is None else n)


# DataComp

OTHER_KEYS = {"retrieval/flickr30k": "retrieval/flickr_1k_test_image_text_retrieval"}
"""Keys of DataComp's newer task list."""

SUGAR_CREPE, LONG = "comp/sugarcrepe_", "longclip/"
"""Keys that Apple's evaluations of MobileCLIP add to DataComp's."""


def _of_datacomp(path: Path, entry: object, where: str) -> Record:
    """Return the Record of a line: ``{"key": …, "dataset": …, "metrics": {…}}``, bare NaN allowed.

    Values of single groups (``acc_slide:3``) and counts are left out; NaN is undefined, never 0.
    """
    wanted = "a line of DataComp's eval_results.jsonl"
    if not isinstance(entry, dict) or not isinstance(entry.get("metrics"), dict) or not isinstance(entry["key"], str):
        raise ResultsError(where, "no 'key' with 'metrics'", wanted=wanted)
    table = {k: v for k, v in entry["metrics"].items() if k != "main_metric" and ":" not in k}
    task, kind, names = _datacomp_task(str(entry["key"]), table, where)
    theirs = _names(kind)
    found = {names.get(name) or theirs.ours(name): _number(value, f"{where}: {name}") for name, value in table.items()}
    if not found:
        raise ResultsError(where, "no metric", wanted=wanted)
    return _imported(
        DATACOMP,
        path,
        task=task,
        evaluator=kind,
        model=f"{path.stem} ({DATACOMP})",
        metrics={name: Estimate(value=value, low=None, high=None, n=0) for name, value in found.items()},
        protocol={},
        model_parts={"name": path.stem},
    )


def _datacomp_task(key: str, metrics: Mapping[str, Any], where: str) -> tuple[str, str, Mapping[str, str]]:
    """Return our task of a key, its kind, and {DataComp's metric: ours} where the kind does not say it."""
    key = OTHER_KEYS.get(key, key)
    if (member := next((m for m in datacomp() if m.key == key), None)) is not None:
        return (
            member.task,
            member.kind,
            DATACOMP_METRICS | ({member.main_metric: member.metric} if member.metric else {}),
        )
    task = f"sugar_crepe/{key.removeprefix(SUGAR_CREPE)}" if key.startswith(SUGAR_CREPE) else key.removeprefix(LONG)
    counts = {kind.name: _known(kind, metrics) for kind in every() if kind.clip_benchmark}
    if not max(counts.values()):
        raise ResultsError(where, f"the key {key!r}, without a known metric", wanted="a task of DataComp's list")
    return task, max(counts, key=lambda name: counts[name]), {}


DATACOMP_METRICS = {
    "avg_jaccard_score": "jaccard_mean",
    **{f"jaccard_score_{n}": f"jaccard_{n}" for n in ("5", "6", "10", "12", "5-6", "10-12")},
    "F1-macro_all": "f1_macro",
}


def _known(kind: type[Kind], metrics: Iterable[str]) -> int:
    """Return how many of CLIP_benchmark's metrics the kind declares."""
    return sum(kind.metric(_names(kind.name).ours(name)) is not None for name in metrics)
