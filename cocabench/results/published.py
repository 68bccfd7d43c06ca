"""Published results: the tables of results/published, and their numbers as Records.

A model is named NAME:TAG. ViT-L-14:laion_blog is the blog's own CLIP baseline, CoCa:paper the paper's model; both
have no open_clip weights.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import pandas as pd

from cocabench.core.errors import UnknownNameError
from cocabench.core.types import Estimate, MetricInfo, Note, Record, Signature
from cocabench.kinds import every, find

SOURCES = ("open_clip", "CLIP_benchmark", "LAION blog", "CoCa paper", "MobileCLIP", "SugarCrepe paper", "ECCV Caption")
"""By precedence if several published a number: most models, newest, most digits."""

SUFFIX = " (published)"
"""Suffix of the model's name in a published Record, to distinguish it from a measured one."""


def plain(model: str) -> str:
    """Return a model's name without its source (`` [old]``) and without the mark of published numbers."""
    return re.sub(r" \[[^\]]*\]$", "", model.removesuffix(SUFFIX))


def folder() -> Path:
    """Return the folder of the tables, in the wheel or the checkout."""
    package = Path(str(resources.files("cocabench")))
    return next(p for p in (package / "_published", package.parent / "results" / "published") if p.is_dir())


@cache
def _read(name: str) -> pd.DataFrame:
    text = dict.fromkeys(("pretrained", "version", "note", "column"), "string")
    table = pd.read_csv(folder() / name, dtype={**text, "n": "Int64"}, keep_default_na=False, na_values={"n": [""]})
    if {"model", "pretrained"} <= set(table.columns):
        table.insert(0, "spec", table["model"] + ":" + table["pretrained"])
    return table


@cache
def _numbers() -> pd.DataFrame:
    """Return published.csv, and below it languages.csv, whose columns of languages become rows of ``task/language``."""
    alone, wide = _read("published.csv").assign(language=""), _read("languages.csv")
    keys = [name for name in wide.columns if name in alone.columns]
    tidy = wide.melt(keys, var_name="language")
    tidy = tidy[tidy["value"] != ""].astype({"value": float})
    tidy["task"] += "/" + tidy["language"]
    tidy["column"] += " " + tidy["language"]
    return pd.concat([alone, tidy[alone.columns]], ignore_index=True)


def read() -> pd.DataFrame:
    """Return every published number, one per row: spec (NAME:TAG), task, metric, value (0-1), n (images), source …

    language: that of the task's texts, of a set in several; else ''.
    """
    return _numbers().copy()


def profile() -> pd.DataFrame:
    """Return parameters (millions) and GFLOPs per model and tower, one per row."""
    return _read("profile.csv").copy()


def rows(model_spec: str) -> pd.DataFrame:
    """Return the published numbers of NAME:TAG from all sources. UnknownNameError if there are none."""
    table = _numbers()
    found = table[table["spec"] == model_spec]
    if found.empty:
        known = sorted(table["spec"].unique())
        raise UnknownNameError("published model", model_spec, known, fix="wanted NAME:TAG")
    return found.copy()


def numbers(model_spec: str) -> dict[tuple[str, str], float]:
    """Return {(task, metric): value} of NAME:TAG, those of as_records. UnknownNameError if there are none."""
    found = rows(model_spec)
    columns = (found[name].tolist() for name in ("task", "metric", "value", "source"))
    listed = [
        (task, metric, value, SOURCES.index(source)) for task, metric, value, source in zip(*columns, strict=True)
    ]
    first: dict[str, int] = {}
    for task, _, _, source in listed:
        first[task] = min(source, first.get(task, source))
    return {(task, metric): value for task, metric, value, source in listed if source == first[task]}


def definitions() -> dict[str, MetricInfo]:
    """Return the definition of every published metric."""
    table = _read("metrics.csv")
    return {row.pop("metric"): MetricInfo.model_validate(row) for row in table.to_dict("records")}


def as_records(model_specs: Sequence[str]) -> list[Record]:
    """Return published numbers as Records, one per model and task.

    All metrics of a Record come from one source: the one that has this task for most of the given models, then the
    first of SOURCES. The source is part of the protocol, so numbers of two sources are not compared. Estimates have no
    interval, and n = 0 if n was not published.
    """
    table = pd.concat([rows(spec) for spec in dict.fromkeys(model_specs)])
    shared = table.groupby(["task", "source"])["spec"].nunique()
    records, info = [], definitions()
    for (spec, task), found in table.groupby(["spec", "task"], sort=False):
        present = [source for source in SOURCES if source in set(found["source"])]
        source = max(present, key=lambda source, task=task: shared[task, source])  # type: ignore[misc]
        records.append(_record(str(spec), str(task), found[found["source"] == source], info))
    return records


def _record(spec: str, task: str, found: pd.DataFrame, info: dict[str, MetricInfo]) -> Record:
    first = found.iloc[0]
    metrics = {row["metric"]: _estimate(row["value"], row["n"]) for row in found.to_dict("records")}
    return Record(
        task=task,
        model=spec + SUFFIX,
        evaluator=first["evaluator"],
        primary=primary_of(str(first["evaluator"]), list(metrics)),
        groups=("published",),
        signature=Signature(
            protocol={"published": first["source"]} | ({"language": first["language"]} if first["language"] else {}),
            model={"name": first["model"], "pretrained": first["pretrained"], "version": first["version"]},
        ),
        metrics=metrics,
        definitions={name: info[name] for name in metrics},
        notes=tuple(Note("published", text) for text in sorted(set(found["note"]) - {""})),
        parameters=parameters(first["model"]),
        created=first["date"],
    )


def primary_of(evaluator: str, metrics: Sequence[str]) -> str:
    """Return the usual primary metric of a kind, of any kind if it is not installed, else the first of metrics."""
    usual = find(evaluator).primaries or [name for kind in every() for name in kind.primaries]
    return next((name for name in usual if name in metrics), metrics[0])


def _estimate(value: float, n: Any) -> Estimate:
    return Estimate(value=value, low=None, high=None, n=0 if pd.isna(n) else int(n))


def describe(records: Iterable[Record]) -> str:
    """Return the sources of published Records for a figure's title; '' if none is published.

    The blog's own CLIP baseline, trained on the same data, is ViT-L-14:laion_blog; any other CLIP is named as another.
    """
    found = [r for r in records if r.model.endswith(SUFFIX)]
    if not found:
        return ""
    names = {r.model for r in found}
    other = [name for name in names if not name.startswith("coca_") and name != f"ViT-L-14:laion_blog{SUFFIX}"]
    text = "published by " + " and ".join(dict.fromkeys(str(r.signature.protocol["published"]) for r in found))
    return text + ("; not the blog's CLIP baseline" if 0 < len(other) < len(names) else "")


def parameters(model: str) -> dict[str, int]:
    """Return {tower: number of parameters} of an architecture, rounded to 10,000; empty if unknown."""
    table = _read("profile.csv")
    found = table[(table["model"] == model) & (table["quantity"] == "params_millions") & (table["tower"] != "total")]
    towers: dict[str, int] = {}
    for row in found.to_dict("records"):
        towers.setdefault(row["tower"], round(row["value"] * 1e6))
    return towers
