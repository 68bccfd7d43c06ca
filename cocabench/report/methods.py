"""The methods appendix: protocols, models, metrics, machines, and a row per Record."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from pydantic import JsonValue

from cocabench.core.signature import short
from cocabench.core.types import Record
from cocabench.report.content import Report
from cocabench.results.records import published_by


class Part(NamedTuple):
    """A part that several Records share: the tasks or models that have it, and its fields as text."""

    key: str
    names: tuple[str, ...]
    fields: tuple[tuple[str, str], ...]


class RecordRow(NamedTuple):
    """One Record's row: its id on the page, and the ids of its protocol, model and machine."""

    key: str
    record: Record
    signature: str
    protocol: str
    model: str
    machine: str


@dataclass(frozen=True)
class Methods:
    protocols: tuple[Part, ...]
    models: tuple[Part, ...]
    machines: tuple[Part, ...]
    metrics: tuple[tuple[str, str], ...]
    made: tuple[RecordRow, ...]


def methods(report: Report) -> Methods:
    """Return the appendix; equal protocols, models and machines are listed once."""
    records = list(report.by_key.values())
    protocols = _parts("p", ((r.task, _fields(r.signature.protocol)) for r in records))
    models = _parts("m", ((r.model, _fields(r.signature.model)) for r in records))
    machines = _parts("e", ((r.model, _fields(dict(r.environment))) for r in records if r.environment))
    found = [{part.fields: part.key for part in parts} for parts in (protocols, models, machines)]
    made = [
        RecordRow(
            key,
            r,
            published_by(r) or short(r.signature),
            found[0][_fields(r.signature.protocol)],
            found[1][_fields(r.signature.model)],
            found[2].get(_fields(dict(r.environment)), ""),
        )
        for key, r in report.by_key.items()
    ]
    summaries = {name: info.summary for r in records for name, info in r.definitions.items()}
    return Methods(protocols, models, machines, tuple(sorted(summaries.items())), tuple(made))


def _parts(letter: str, items: Iterable[tuple[str, tuple[tuple[str, str], ...]]]) -> tuple[Part, ...]:
    found: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for name, fields in items:
        found.setdefault(fields, []).append(name)
    return tuple(
        Part(f"{letter}{i}", tuple(dict.fromkeys(names)), fields) for i, (fields, names) in enumerate(found.items())
    )


def _fields(tree: dict[str, JsonValue], prefix: str = "") -> tuple[tuple[str, str], ...]:
    """Return (``data images``, ``1000``) for each leaf; long values are cut, data.json has them in full."""
    said: list[tuple[str, str]] = []
    for key, value in sorted(tree.items()):
        if isinstance(value, dict):
            said += _fields(value, f"{prefix}{key} ")
        else:
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            said.append((f"{prefix}{key}", text if len(text) <= 160 else text[:159] + "…"))
    return tuple(said)
