"""Why a measured number may be another than the published one: the likely causes, checked one by one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple

from pydantic import JsonValue

from cocabench.core.types import Record

Table = Mapping[str, JsonValue]


BROKEN = "broken run"


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


def causes(record: Record, n: int, expected: Expected) -> tuple[Cause, ...]:
    """Return every likely cause with its state: a broken run first, then what differs.

    n: the published number of images, 0 if unknown.
    """
    checked = (check(record, expected) for check in _CHECKS)
    found = [_counts(record, n, expected), *(cause for cause in checked if cause is not None)]
    order = (State.DIFFERS, State.UNKNOWN, State.SAME)
    return tuple(sorted(found, key=lambda cause: (cause.what != BROKEN, order.index(cause.state))))


def _counts(record: Record, n: int, expected: Expected) -> Cause:
    """Split and counts: a limit, skipped images, other counts than the standard protocol's or the published ones."""
    protocol, what = record.signature.protocol, "split and counts"
    data, standard = _table(protocol.get("data")), _table(expected.protocol.get("data"))
    said = [f"limited to {protocol['limit']} images"] if "limit" in protocol else []
    said += [f"{len(record.skipped_images)} images skipped"] if record.skipped_images else []
    said += [f"{data[key]} {key}, standard {standard[key]}" for key in standard if data.get(key) != standard[key]]
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


def _prompts(record: Record, expected: Expected) -> Cause | None:
    if record.evaluator != "classification":
        return None
    ours, theirs = record.signature.protocol.get("prompts"), expected.protocol.get("prompts")
    return _same("prompts", ours, theirs, "other class names or templates than the shipped task's")


def _decoding(record: Record, expected: Expected) -> Cause | None:
    if record.evaluator != "captioning":
        return None
    ours, theirs = _table(record.signature.protocol.get("decoding")), _table(expected.protocol.get("decoding"))
    said = [f"{key} {ours.get(key)}, not {value}" for key, value in theirs.items() if ours.get(key) != value]
    return _same("decoding", dict(ours) or None, dict(theirs) or None, "; ".join(said))


def _precision(record: Record, _: Expected) -> Cause:
    """Published runs are in fp32 or amp, which agree to 0.1 points or so; anything else may not."""
    ours = record.signature.model.get("precision")
    if ours is None:
        return Cause("precision", State.UNKNOWN)
    if ours == "fp32":
        return Cause("precision", State.SAME, "fp32")
    return Cause("precision", State.DIFFERS, f"{ours}; run again with --precision fp32")


def _model_part(what: str, key: str, detail: str) -> Callable[[Record, Expected], Cause | None]:
    def check(record: Record, expected: Expected) -> Cause | None:
        return _same(what, record.signature.model.get(key), expected.model.get(key), detail)

    return check


def _quick_gelu(record: Record, expected: Expected) -> Cause:
    ours, theirs = record.signature.model.get("quick_gelu"), expected.model.get("quick_gelu")
    built, trained = ("with" if side else "without" for side in (ours, theirs))
    detail = f"built {built} quick-GELU, the tag was trained {trained} it"
    return _same("quick-GELU", ours, theirs, detail)


def _chance(record: Record, _: Expected) -> Cause | None:
    said = [note.text for note in record.notes if note.code == "near_chance"]
    return Cause(BROKEN, State.DIFFERS, said[0]) if said else None


def _table(value: JsonValue) -> Table:
    return value if isinstance(value, dict) else {}


_CHECKS: tuple[Callable[[Record, Expected], Cause | None], ...] = (
    _chance,
    _prompts,
    _decoding,
    _precision,
    _model_part("preprocessing", "preprocess", "other resolution, resize mode, mean or std than the tag's"),
    _model_part("tokenizer and context length", "architecture", "another architecture than the tag's"),
    _model_part("vocabulary", "vocabulary", "another vocabulary file"),
    _quick_gelu,
)
