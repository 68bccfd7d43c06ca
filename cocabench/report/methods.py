"""The methods appendix: protocols, models, metrics, machines, and the signature of every result."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from pydantic import JsonValue

from cocabench.core.signature import short
from cocabench.report.content import Report
from cocabench.report.grid import Entry, Line, Table
from cocabench.results.records import GIVEN_PARAMS, published_by


class Part(NamedTuple):
    """A part that several Records share: the tasks or models that have it, and its fields as text."""

    key: str
    names: tuple[str, ...]
    fields: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Methods:
    protocols: tuple[Part, ...]
    models: tuple[Part, ...]
    machines: tuple[Part, ...]
    metrics: tuple[tuple[str, str], ...]
    made: Table


def methods(report: Report) -> Methods:
    """Return the appendix; equal protocols, models and machines are listed once."""
    records = list(report.by_key.values())
    protocols = _parts("p", ((r.task, _fields(r.signature.protocol)) for r in records))
    models = _parts("m", ((r.model, _fields(r.signature.model)) for r in records))
    machines = _parts(
        "e",
        (
            (r.model, _fields({key: value for key, value in r.environment.items() if key != GIVEN_PARAMS}))
            for r in records
            if r.environment
        ),
    )
    summaries = {name: info.summary for r in records for name, info in r.definitions.items()}
    return Methods(protocols, models, machines, tuple(sorted(summaries.items())), signatures(report))


def signatures(report: Report) -> Table:
    """Return a row per result: its signature, or the source of a published one, and when it was made."""
    lines = [
        Line(
            (
                Entry(r.task),
                Entry(r.model),
                Entry(published_by(r) or short(r.signature)),
                Entry("" if published_by(r) else r.created[:16].replace("T", " ")),
            )
        )
        for r in report.by_key.values()
    ]
    return Table("signatures", "Signatures", ("task", "model", "signature", "created"), tuple(lines), heads=2)


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
