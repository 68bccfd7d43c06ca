"""Which Records to take, what must be said beside them, and which of them may be held against each other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from cocabench.core.formatting import plural
from cocabench.core.signature import known_differences, protocol_differences, short
from cocabench.core.types import Record


class Choice(NamedTuple):
    """One Record per model and task, and a phrase for each that was left out."""

    records: tuple[Record, ...]
    left_out: tuple[str, ...]


def published_by(record: Record) -> str:
    """Return the source of a published Record, '' for a measured one."""
    return str(record.signature.protocol.get("published", ""))


def imported_by(record: Record) -> str:
    """Return the program whose file an imported Record was read from, '' for others."""
    return str(record.signature.protocol.get("imported", ""))


def limit(record: Record) -> int | None:
    """Return the number of samples that ``--limit`` left, or None for a full run."""
    value = record.signature.protocol.get("limit")
    return value if isinstance(value, int) else None


def standard(record: Record) -> bool:
    """Return whether the data are those of the standard protocol, as far as the task file says."""
    return record.signature.protocol.get("standard", True) is not False


def notes(record: Record) -> tuple[str, ...]:
    """Return what must stand beside each number of a Record, in words."""
    found = list(record.warnings)
    if program := imported_by(record):
        found.append(f"imported from {program}: no samples, and only a part of the protocol is known")
    said = " ".join(found).lower()
    if (n := limit(record)) is not None and "limit" not in said:
        found.append(f"limited to {plural(n, 'sample')}")
    if not standard(record) and "standard" not in said:
        found.append("not the standard protocol")
    if record.skipped_images:
        found.append(f"{plural(len(record.skipped_images), 'image')} skipped, for example {record.skipped_images[0]}")
    return tuple(found)


def choose(records: Iterable[Record]) -> Choice:
    """Return one Record per model and task: full before limited, standard before not, then the newest.

    Models and tasks keep the order of their first appearance.
    """
    groups: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        groups.setdefault((record.model, record.task), []).append(record)
    chosen = [max(group, key=_preference) for group in groups.values()]
    left_out = [
        f"{r.model} on {r.task}: {short(r.signature)} ({_why(r, best)} than {short(best.signature)})"
        for best, group in zip(chosen, groups.values(), strict=True)
        for r in group
        if r is not best
    ]
    return Choice(tuple(chosen), tuple(left_out))


def _preference(record: Record) -> tuple[bool, bool, str]:
    return limit(record) is None, standard(record), record.created


def _why(loser: Record, winner: Record) -> str:
    reasons = ("fewer samples", "further from the standard protocol", "not newer")
    pairs = zip(_preference(loser), _preference(winner), reasons, strict=True)
    return next((reason for a, b, reason in pairs if a != b), reasons[-1])


def incomparable(a: Record, b: Record) -> tuple[str, ...]:
    """Return why the numbers of two Records of one task cannot be compared; empty where they can.

    Of an imported Record, only what its file tells of the protocol can differ.
    """
    sources = published_by(a), published_by(b)
    if sources[0] == sources[1]:
        if imported_by(a) or imported_by(b):
            return tuple(known_differences(a.signature, b.signature))
        skipped = [] if a.skipped_images == b.skipped_images else [_skipped(a, b)]
        return (*protocol_differences(a.signature, b.signature), *skipped)
    if all(sources):
        return (f"published by {sources[0]} and by {sources[1]}",)
    return (f"published by {''.join(sources)}, protocol not recorded",)


def _skipped(a: Record, b: Record) -> str:
    return f"skipped images: {len(a.skipped_images)} against {len(b.skipped_images)}, not the same"


def brief(reasons: Sequence[str], shown: int = 2) -> str:
    """Return the first reasons, and how many more there are."""
    more = len(reasons) - shown
    return "; ".join([*reasons[:shown], *([f"{more} more"] if more > 0 else [])])
