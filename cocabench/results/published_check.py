"""Measured numbers beside published ones: inside the tolerance, or outside with the likely causes."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any, NamedTuple

import pandas as pd
from pydantic import JsonValue

from cocabench.core.formatting import points
from cocabench.core.types import Estimate, MetricInfo, Record
from cocabench.kinds import find
from cocabench.results.published import SOURCES, read

Table = Mapping[str, JsonValue]
BROKEN = "broken run"
MODEL_PARTS = {
    "preprocess": ("preprocessing", "other resolution, resize mode, mean or std than the tag's"),
    "architecture": ("tokenizer and context length", "another architecture than the tag's"),
    "vocabulary": ("vocabulary", "another vocabulary file"),
}
"""Parts of a model's signature that can explain a difference, and what it means that they differ."""

TOLERANCE = 0.2
"""Points: two published evaluations of the same weights differ by up to 0.12 on ImageNet and 0.18 on recall@5."""


class Expected(NamedTuple):
    """What a run as published would have in its signature, as far as it is known: leaves may be absent.

    protocol: prompts, decoding, and data with the counts of the standard protocol. model: architecture (with text
    tower, context length and tokenizer), vocabulary, quick_gelu, preprocess.
    """

    protocol: Table = MappingProxyType({})
    model: Table = MappingProxyType({})


class State(StrEnum):
    SAME = "as published"
    DIFFERS = "differs"
    UNKNOWN = "not known"


class Cause(NamedTuple):
    """One thing that could explain a difference, and whether it does."""

    what: str
    state: State
    detail: str = ""


def _causes(record: Record, n: int, expected: Expected) -> tuple[Cause, ...]:
    """Return every likely cause with its state: a broken run first, then what differs.

    n: the published number of images, 0 if unknown.
    """
    broken = [Cause(BROKEN, State.DIFFERS, note.text) for note in record.notes if note.code == "near_chance"]
    found = [_counts(record, n, expected), *broken[:1], *_protocol(record, expected), *_model(record, expected)]
    order = (State.DIFFERS, State.UNKNOWN, State.SAME)
    return tuple(sorted(found, key=lambda cause: (cause.what != BROKEN, order.index(cause.state))))


def _counts(record: Record, n: int, expected: Expected) -> Cause:
    """Split and counts: a limit, skipped images, other counts than the standard protocol's or the published ones."""
    protocol, what = record.signature.protocol, "split and counts"
    data, standard = _table(protocol.get("data")), _table(expected.protocol.get("data"))
    said = [f"limited to {protocol['limit']} images"] if "limit" in protocol else []
    said += [f"{len(record.skipped_images)} images skipped"] if record.skipped_images else []
    other = [key for key in standard if data.get(key) != standard[key]]
    said += [f"{data.get(key, 'no')} {key}, standard {standard[key]}" for key in other]
    if n and not said and (images := data.get("images")) not in (None, n):
        said.append(f"{images} images, {n} published")
    if protocol.get("standard") is False and not said:
        said.append("not the standard protocol")
    if said:
        return Cause(what, State.DIFFERS, "; ".join(said))
    return Cause(what, State.SAME if n or standard else State.UNKNOWN)


def _same(what: str, ours: JsonValue, theirs: JsonValue, detail: str = "") -> Cause:
    """Return the cause that two leaves decide; None is one that is not known."""
    if ours is None or theirs is None:
        return Cause(what, State.UNKNOWN)
    return Cause(what, State.SAME) if ours == theirs else Cause(what, State.DIFFERS, detail or f"{ours}, not {theirs}")


def _protocol(record: Record, expected: Expected) -> Iterator[Cause]:
    """Yield a cause for each part of the protocol (a group of leaves is one) that the kind wants checked."""
    kind = find(record.evaluator)
    for name in dict.fromkeys(leaf.partition(".")[0] for leaf, part in kind.parts.items() if part.differs):
        ours, theirs = record.signature.protocol.get(name), expected.protocol.get(name)
        part = kind.part(name)
        detail = part.differs if part else ""
        if isinstance(theirs, dict):
            held = _table(ours)
            said = [f"{key} {held.get(key)}, not {value}" for key, value in theirs.items() if held.get(key) != value]
            detail = "; ".join(said)
        yield _same(name.replace("_", " "), ours or None, theirs or None, detail)


def _model(record: Record, expected: Expected) -> Iterator[Cause]:
    """Yield the causes that lie in the model: precision, then what builds it and feeds it."""
    model = record.signature.model
    precision = model.get("precision")  # published runs are in fp32 or amp, which agree to about 0.1 points
    yield _same("precision", precision, "fp32", f"{precision}; run again with --precision fp32")
    for key, (what, detail) in MODEL_PARTS.items():
        yield _same(what, model.get(key), expected.model.get(key), detail)
    ours, theirs = model.get("quick_gelu"), expected.model.get("quick_gelu")
    built, trained = ("with" if side else "without" for side in (ours, theirs))
    yield _same("quick-GELU", ours, theirs, f"built {built} quick-GELU, the tag was trained {trained} it")


def _table(value: JsonValue) -> Table:
    return value if isinstance(value, dict) else {}


@dataclass(frozen=True, slots=True)
class Match:
    """One measured metric beside one published value of it, in points.

    difference: measured minus published. inside: the published value is in the measured 95 % interval widened by
    TOLERANCE. causes: of one outside, each likely cause with its state; else empty.
    """

    record: Record
    metric: str
    info: MetricInfo
    measured: Estimate
    published: float
    source: str
    note: str
    difference: float
    inside: bool
    causes: tuple[Cause, ...]


def check(records: Iterable[Record], expected: Callable[[Record], Expected] = lambda _: Expected()) -> list[Match]:
    """Return a Match per metric and source that published it; none for models that nobody published.

    expected: what a run of that model on that task should have in its signature, called where a number is outside.
    """
    table = read()
    matches = []
    for record in records:
        mine = table[(table["task"] == record.task) & table["spec"].isin(_names(record))]
        for row in sorted(mine.to_dict("records"), key=lambda row: SOURCES.index(row["source"])):
            estimate = record.metrics.get(row["metric"])
            if estimate is not None and estimate.value is not None:
                matches.append(_match(record, estimate, row, expected))
    return matches


def _names(record: Record) -> list[str]:
    """Return the names that a Record's model is published under: open_clip's tables name quick-GELU in the model."""
    name, _, tag = record.model.partition(":")
    return [record.model, f"{name}-quickgelu:{tag}"] if record.signature.model.get("quick_gelu") else [record.model]


def _match(
    record: Record, estimate: Estimate, row: Mapping[Hashable, Any], expected: Callable[[Record], Expected]
) -> Match:
    metric, info = row["metric"], record.definitions[row["metric"]]
    value, published = points(estimate.value or 0.0, info), points(row["value"], info)
    low, high = (value if side is None else points(side, info) for side in (estimate.low, estimate.high))
    inside = low - TOLERANCE - 1e-9 <= published <= high + TOLERANCE + 1e-9
    n = 0 if pd.isna(row["n"]) else int(row["n"])
    causes = () if inside else _causes(record, n, expected(record))
    return Match(
        record, metric, info, estimate, published, row["source"], row["note"], value - published, inside, causes
    )
