"""Measured numbers beside published ones: inside the tolerance, or outside with the likely causes."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any, NamedTuple

import pandas as pd
from pydantic import JsonValue

from cocabench.core.formatting import plural, points
from cocabench.core.types import Estimate, MetricInfo, Record
from cocabench.kinds import find
from cocabench.results.published import SOURCES, read
from cocabench.results.records import limit

Table = Mapping[str, JsonValue]
BROKEN, BROKEN_CODES = "broken run", ("near_chance", "one_answer")
MODEL_PARTS = {
    "preprocess": ("preprocessing", "resolution, resize mode, mean or std differ from the tag's"),
    "architecture": ("tokenizer and context length", "differ from the tag's"),
    "vocabulary": ("vocabulary", "vocabulary file differs from the tag's"),
}
"""Parts of a model's signature that can explain a difference: their names, and the text if they differ."""

TOLERANCE = 0.2
"""Points: two published evaluations of the same weights differ by up to 0.12 on ImageNet and 0.18 on recall@5."""

MIN_IMAGES = round(100 / TOLERANCE)
"""Of fewer images a single one moves a share by more than the tolerance."""


class Expected(NamedTuple):
    """The expected signature of a run as published; unknown parts are absent.

    protocol: prompts, decoding, and data with the counts of the standard protocol. model: architecture (with text
    tower, context length and tokenizer), vocabulary, quick_gelu, preprocess.
    """

    protocol: Table = MappingProxyType({})
    model: Table = MappingProxyType({})


class State(StrEnum):
    SAME = "as published"
    DIFFERS = "differs"
    UNKNOWN = "unknown"


class Cause(NamedTuple):
    """A possible cause of a difference, and whether it applies."""

    what: str
    state: State
    detail: str = ""


def _causes(record: Record, n: int, expected: Expected) -> tuple[Cause, ...]:
    """Return every likely cause with its state: a broken run first, then parts that differ.

    n: the published number of images, 0 if unknown.
    """
    broken = [Cause(BROKEN, State.DIFFERS, note.text) for note in record.notes if note.code in BROKEN_CODES]
    found = [_counts(record, n, expected), *broken[:1], *_protocol(record, expected), *_model(record, expected)]
    order = (State.DIFFERS, State.UNKNOWN, State.SAME)
    return tuple(sorted(found, key=lambda cause: (cause.what != BROKEN, order.index(cause.state))))


def _counts(record: Record, n: int, expected: Expected) -> Cause:
    """Compare split and counts: limit, skipped images, counts of the standard protocol and of the publication."""
    protocol, what = record.signature.protocol, "split and counts"
    data, standard = _table(protocol.get("data")), _table(expected.protocol.get("data"))
    texts = [f"limited to {plural(few, 'image')}"] if (few := limit(record)) is not None else []
    texts += [f"{plural(len(record.skipped_images), 'image')} skipped"] if record.skipped_images else []
    other = [key for key in standard if data.get(key) != standard[key]]
    texts += [f"{data.get(key, 'no')} {key}, standard {standard[key]}" for key in other]
    if n and not texts and (images := data.get("images")) not in (None, n):
        texts.append(f"{images} images, {n} published")
    if protocol.get("standard") is False and not texts:
        texts.append("not the standard protocol")
    if texts:
        return Cause(what, State.DIFFERS, "; ".join(texts))
    return Cause(what, State.SAME if n or standard else State.UNKNOWN)


def _same(what: str, ours: JsonValue, theirs: JsonValue, detail: str = "") -> Cause:
    """Return the cause of one part, by our value and the published one; None is unknown."""
    if ours is None or theirs is None:
        return Cause(what, State.UNKNOWN)
    return Cause(what, State.SAME) if ours == theirs else Cause(what, State.DIFFERS, detail or f"{ours}, not {theirs}")


def _protocol(record: Record, expected: Expected) -> Iterator[Cause]:
    """Yield a cause for each part of the protocol that the kind declares (a group of leaves is one part)."""
    kind = find(record.evaluator)
    for name in dict.fromkeys(leaf.partition(".")[0] for leaf, part in kind.parts.items() if part.differs):
        ours, theirs = record.signature.protocol.get(name), expected.protocol.get(name)
        part = kind.part(name)
        detail = part.differs if part else ""
        if isinstance(theirs, dict):
            held = _table(ours)
            detail = "; ".join(
                f"{key} {held.get(key)}, not {value}" for key, value in theirs.items() if held.get(key) != value
            )
        yield _same(name.replace("_", " "), ours or None, theirs or None, detail)


def _model(record: Record, expected: Expected) -> Iterator[Cause]:
    """Yield the causes in the model: precision, preprocessing, architecture, vocabulary, quick-GELU."""
    model = record.signature.model
    precision = model.get("precision")  # published runs are in fp32 or amp, which agree to about 0.1 points
    yield _same("precision", precision, "fp32", f"{precision}; rerun with --precision fp32")
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
    TOLERANCE. cannot_tell: why that says nothing, '' if it does. causes: of one outside, each likely cause with its
    state; else empty.
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
    cannot_tell: str = ""

    @property
    def verdict(self) -> str:
        """``inside``, ``outside`` or ``cannot tell``."""
        return "cannot tell" if self.cannot_tell else "inside" if self.inside else "outside"


def check(records: Iterable[Record], expected: Callable[[Record], Expected] = lambda _: Expected()) -> list[Match]:
    """Return a Match per metric and source that published it; none for unpublished models.

    expected: returns the signature that a run as published would have; called for numbers outside.
    """
    table = read()
    matches = []
    for record in records:
        mine = table[(table["task"] == record.task) & table["spec"].isin(_names(record))]
        rows = sorted(mine.to_dict("records"), key=lambda row: SOURCES.index(row["source"]))
        for row in rows:
            estimate = record.metrics.get(row["metric"])
            if estimate is not None and estimate.value is not None:
                matches.append(_match(record, estimate, row, rows, expected))
    return matches


def _names(record: Record) -> list[str]:
    """Return the names that a Record's model is published under: open_clip's tables name quick-GELU in the model."""
    name, _, tag = record.model.partition(":")
    return [record.model, f"{name}-quickgelu:{tag}"] if record.signature.model.get("quick_gelu") else [record.model]


def _match(
    record: Record,
    estimate: Estimate,
    row: Mapping[Hashable, Any],
    rows: Iterable[Mapping[Hashable, Any]],
    expected: Callable[[Record], Expected],
) -> Match:
    """rows: all that is published of the model on the task."""
    metric, info = row["metric"], record.definitions[row["metric"]]
    value, published = points(estimate.value or 0.0, info), points(row["value"], info)
    low, high = (value if side is None else points(side, info) for side in (estimate.low, estimate.high))
    inside = low - TOLERANCE - 1e-9 <= published <= high + TOLERANCE + 1e-9
    n = 0 if pd.isna(row["n"]) else int(row["n"])
    wanted = expected(record)
    cannot_tell = _cannot_tell(estimate, inside, (high - low) / 2, _counts(record, n, wanted))
    known = inside or cannot_tell
    causes = () if known else (*_sources(row, rows, info), *_causes(record, n, wanted))
    return Match(
        record,
        metric,
        info,
        estimate,
        published,
        row["source"],
        row["note"],
        value - published,
        inside,
        tuple(sorted(causes, key=lambda cause: cause.what != BROKEN)),
        cannot_tell,
    )


def _cannot_tell(estimate: Estimate, inside: bool, half: float, counts: Cause) -> str:
    """Return why a number inside could not be outside by the tolerance alone, '' if it could.

    On the published images a difference is no chance; on others it shows if the interval is narrow enough.
    """
    if 0 < estimate.n < MIN_IMAGES and (inside or estimate.low is None):
        return f"n={estimate.n}: one image is worth {100 / estimate.n:.1f} points"
    if inside and counts.state is State.DIFFERS and half > TOLERANCE:
        return f"{counts.detail}: ± {half:.1f} points"
    return ""


def _sources(row: Mapping[Hashable, Any], rows: Iterable[Mapping[Hashable, Any]], info: MetricInfo) -> Iterator[Cause]:
    """Yield a cause for each other source that published a value farther away than the tolerance."""
    mine = points(row["value"], info)
    for other in rows:
        theirs = points(other["value"], info)
        if other["metric"] == row["metric"] and abs(theirs - mine) > TOLERANCE + 1e-9:
            said = f"{row['source']} says {mine:.1f}, {other['source']} {theirs:.1f}"
            yield Cause("published sources disagree", State.DIFFERS, said)
