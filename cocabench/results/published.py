"""Published results: the tidy tables of results/published, and the same numbers as Records.

A model is named NAME:TAG. ViT-L-14:laion_blog is the blog's own CLIP baseline, CoCa:paper the paper's model; both
have no open_clip weights.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import pandas as pd

from cocabench.core.errors import UnknownNameError
from cocabench.core.types import Estimate, MetricInfo, Note, Record, Signature
from cocabench.kinds import every, find

SOURCES = ("open_clip", "CLIP_benchmark", "LAION blog", "CoCa paper")
"""Whom to believe first where several published a number: most models, newest, most digits."""

SUFFIX = " (published)"
"""Ends the model's name in a published Record, so that it stands beside a measured one of the same model."""


def folder() -> Path:
    """Return the folder of the tables: the wheel's copy, or the checkout's."""
    package = Path(str(resources.files("cocabench")))
    return next(p for p in (package / "_published", package.parent / "results" / "published") if p.is_dir())


@cache
def _read(name: str) -> pd.DataFrame:
    text = dict.fromkeys(("pretrained", "version", "note", "column"), "string")
    table = pd.read_csv(folder() / name, dtype={**text, "n": "Int64"}, keep_default_na=False, na_values={"n": [""]})
    if {"model", "pretrained"} <= set(table.columns):
        table.insert(0, "spec", table["model"] + ":" + table["pretrained"])
    return table


def read() -> pd.DataFrame:
    """Return every published number, a row each: spec (NAME:TAG), task, metric, value (0-1), n (images), source …"""
    return _read("published.csv").copy()


def profile() -> pd.DataFrame:
    """Return parameters (millions) and GFLOPs per model and tower, a row each."""
    return _read("profile.csv").copy()


def rows(model_spec: str) -> pd.DataFrame:
    """Return the published numbers of NAME:TAG, every source's. UnknownNameError where there are none."""
    table = _read("published.csv")
    found = table[table["spec"] == model_spec]
    if found.empty:
        known = sorted(table["spec"].unique())
        raise UnknownNameError("published model", model_spec, known, fix="wanted NAME:TAG")
    return found.copy()


def definitions() -> dict[str, MetricInfo]:
    """Return what is known of every published metric."""
    table = _read("metrics.csv")
    return {row.pop("metric"): MetricInfo.model_validate(row) for row in table.to_dict("records")}


def as_records(model_specs: Sequence[str]) -> list[Record]:
    """Return a Record per model and task, so that published numbers go through the tables of measured ones.

    All metrics of a Record come from one source: the one that has this task for most of the models asked for, then
    the first of SOURCES. Its protocol part is that source, so that numbers of two sources are not taken for like.
    Estimates have no interval, and n = 0 where n was not published.
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
            protocol={"published": first["source"]},
            model={"name": first["model"], "pretrained": first["pretrained"], "version": first["version"]},
        ),
        metrics=metrics,
        definitions={name: info[name] for name in metrics},
        notes=tuple(Note("published", text) for text in sorted(set(found["note"]) - {""})),
        parameters=parameters(first["model"]),
        created=first["date"],
    )


def primary_of(evaluator: str, metrics: Sequence[str]) -> str:
    """Return the usual primary metric of a kind; of a kind that is not installed, of any kind; else the first one."""
    usual = find(evaluator).primaries or [name for kind in every() for name in kind.primaries]
    return next((name for name in usual if name in metrics), metrics[0])


def _estimate(value: float, n: Any) -> Estimate:
    return Estimate(value=value, low=None, high=None, n=0 if pd.isna(n) else int(n))


def describe(records: Iterable[Record]) -> str:
    """Return whose numbers published Records hold, as a figure's title should say it; '' if none is published.

    A CLIP beside a CoCa is not the blog's own baseline, which saw the same data, unless it is ViT-L-14:laion_blog.
    """
    found = [r for r in records if r.model.endswith(SUFFIX)]
    if not found:
        return ""
    names = {r.model for r in found}
    other = [name for name in names if not name.startswith("coca_") and name != f"ViT-L-14:laion_blog{SUFFIX}"]
    text = "published by " + " and ".join(dict.fromkeys(str(r.signature.protocol["published"]) for r in found))
    return text + ("; another CLIP baseline than the blog's" if 0 < len(other) < len(names) else "")


def parameters(model: str) -> dict[str, int]:
    """Return {tower: number of parameters} of an architecture, to the 10,000 that are published; empty if unknown."""
    table = _read("profile.csv")
    found = table[(table["model"] == model) & (table["quantity"] == "params_millions") & (table["tower"] != "total")]
    towers: dict[str, int] = {}
    for row in found.to_dict("records"):
        towers.setdefault(row["tower"], round(row["value"] * 1e6))
    return towers
