"""Records of schema 1: warnings, which were sentences, become notes; samples without a digest are checked."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from cocabench import kinds
from cocabench.core.formatting import plural
from cocabench.core.types import Record

SENTENCES = {
    "is near chance (": "near_chance",
    "captions are empty": "empty_captions",
    "distinct captions for": "few_distinct_captions",
    "repeat a phrase at once": "repeated_phrases",
    "are cut at max length": "truncated_captions",
    "not the standard protocol": "not_standard",
    "limited to": "limited",
    "classes without images": "classes_without_images",
    "classes have no images": "classes_without_images",
    "with equal captions: they tie": "equal_captions",
    "random weights": "random_weights",
    "text tower is not causal": "not_causal",
    "out of memory at": "halved_batch",
    "no training step measured": "not_profiled",
    "features are kept for this run only": "cache",
    "no caption scores are kept": "cache",
    "images that changed while they were read": "changed_images",
    "no pictures for reports": "no_pictures",
    "malformed key": "data",
    "the file does not say which epoch": "imported",
}
"""Part of a sentence of version 0.1, and its code."""


def upgraded(table: dict[str, Any]) -> dict[str, Any]:
    """Return the JSON table of a schema 1 Record as schema 2. Only the warnings change."""
    warnings = table.get("warnings", ())
    rest = {key: value for key, value in table.items() if key != "warnings"}
    notes = [{"code": _code(str(text)), "text": str(text)} for text in warnings]
    return {**rest, "schema_version": 2, "notes": notes}


def _code(sentence: str) -> str:
    return next((code for part, code in SENTENCES.items() if part in sentence), "other")


def damage(samples: pd.DataFrame, record: Record) -> str:
    """Return how samples differ from what a Record that says no digest was made of, '' where nothing tells."""
    if not {"id", "image_id"} <= set(samples):
        return ""
    n = max((e.n for e in record.metrics.values() if e.value is not None), default=0)
    if samples[["id", "image_id"]].isna().any(axis=None):
        return "rows without an id"
    if twice := int(samples.duplicated(["image_id", "id"]).sum()):
        return f"{plural(twice, 'row')} twice"
    if (found := samples["image_id"].nunique()) < n:
        return f"{plural(found, 'image')}, its Record says {n}"
    return next((f"they give another {name}" for name in record.metrics if _differs(samples, record, name)), "")


SAME = 1e-6
"""Relative: smaller differences of a metric are rounding between machines."""


def _differs(samples: pd.DataFrame, record: Record, name: str) -> bool:
    """Tell whether samples give another value of a metric, or of fewer images, than their Record says."""
    metric, stored = kinds.find(record.evaluator).metric(name), record.metrics[name]
    if metric is None or metric.version != record.definitions[name].version or not metric.readable(samples.columns):
        return False
    rows = metric.rows(samples)
    if rows.empty or stored.value is None:
        return stored.value is not None
    value = metric.statistic.value(rows)
    return rows["image_id"].nunique() < stored.n or not math.isclose(value, stored.value, rel_tol=SAME, abs_tol=SAME)
