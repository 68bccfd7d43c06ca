"""What users name as results: folders, Record files, and published numbers; and models of one name told apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from cocabench.core.signature import short
from cocabench.core.types import Record
from cocabench.results import published
from cocabench.results.store import RecordSet, load

PUBLISHED = "published:"


def read(*sources: str | Path) -> RecordSet:
    """Return the Records of folders, Record files and ``published:NAME:TAG``, in the order of the sources.

    Files of one folder count as one source. A model that several sources measured on the same task gets the source's
    name behind its own: ``demo/coca [old]``; several Records of one model and task, and nothing else, their
    signature's digits: ``demo/coca [0a1b2c3d4e5f]``.
    """
    groups = _by_source([str(source) for source in sources])
    if len(groups) == 1:
        (found,) = groups.values()
        return _told_apart_by_signature(found) if len(sources) > 1 else found
    seen = Counter(
        (r.model, r.task) for found in groups.values() for r in {(r.model, r.task): r for r in found}.values()
    )
    ambiguous = {model for (model, _), count in seen.items() if count > 1}
    named = [(_named(r, name, ambiguous), path) for name, found in groups.items() for r, path in _pairs(found)]
    return RecordSet(tuple(r for r, _ in named), tuple(path for _, path in named))


def _by_source(sources: Sequence[str]) -> dict[str, RecordSet]:
    named: dict[str, list[str]] = {}
    for source in sources:
        file = not source.startswith(PUBLISHED) and Path(source).is_file()
        named.setdefault(str(Path(source).parent) if file else source, []).append(source)
    return {name: _joined([_read(item) for item in items]) for name, items in named.items()}


def _joined(found: Sequence[RecordSet]) -> RecordSet:
    return RecordSet(
        tuple(r for results in found for r in results), tuple(p for results in found for p in results.paths)
    )


def _read(source: str) -> RecordSet:
    if not source.startswith(PUBLISHED):
        return load(source)
    records = tuple(published.as_records([source.removeprefix(PUBLISHED)]))
    return RecordSet(records, (None,) * len(records))


def _told_apart_by_signature(found: RecordSet) -> RecordSet:
    if len({(r.model, r.task) for r in found}) > 1 or len(found) < 2:
        return found
    return replace(found, records=tuple(_renamed(r, short(r.signature)) for r in found))


def _named(record: Record, source: str, ambiguous: set[str]) -> Record:
    return _renamed(record, source) if record.model in ambiguous else record


def _renamed(record: Record, label: str) -> Record:
    return record.model_copy(update={"model": f"{record.model} [{label}]"})


def _pairs(found: RecordSet) -> zip[tuple[Record, Path | None]]:
    return zip(found.records, found.paths, strict=True)
