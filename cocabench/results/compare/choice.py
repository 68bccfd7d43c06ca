"""Which Records to take, what must be said beside them, and which of them may be held against each other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from pydantic import JsonValue

from cocabench.core.formatting import plural
from cocabench.core.signature import flat, known_differences, protocol_differences, short
from cocabench.core.types import Note, Record
from cocabench.kinds import find
from cocabench.kinds.shown import UNKNOWN, Absent


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


def notes(record: Record) -> tuple[Note, ...]:
    """Return what must stand beside each number of a Record."""
    found = list(record.notes)
    if program := imported_by(record):
        text = f"imported from {program}: no samples, and only a part of the protocol is known"
        found.append(Note("imported", text))
    codes = {note.code for note in found}
    if (n := limit(record)) is not None and "limited" not in codes:
        found.append(Note("limited", f"limited to {plural(n, 'sample')}"))
    if not standard(record) and "not_standard" not in codes:
        found.append(Note("not_standard", "not the standard protocol"))
    if skipped := record.skipped_images:
        found.append(Note("skipped_images", f"{plural(len(skipped), 'image')} skipped, for example {skipped[0]}"))
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


def incomparable(a: Record, b: Record, metric: str) -> tuple[str, ...]:
    """Return why a metric of two Records of one task cannot be compared; empty where it can.

    Parts of the protocol that do not concern the metric may differ, and one that only one side holds is unknown, not
    different (``unknown_parts``). Of an imported Record, only what its file tells of the protocol can differ.
    """
    sources = published_by(a), published_by(b)
    if sources[0] == sources[1]:
        if imported_by(a) or imported_by(b):
            return tuple(known_differences(a.signature, b.signature))
        skipped = [] if a.skipped_images == b.skipped_images else [_skipped(a, b)]
        return (*_differences(a, b, metric), *_versions(a, b, metric), *skipped)
    if all(sources):
        return (f"published by {sources[0]} and by {sources[1]}",)
    return (f"published by {''.join(sources)}, protocol not recorded",)


def unknown_parts(a: Record, b: Record, metric: str) -> tuple[Note, ...]:
    """Return a note where parts of the protocol that concern a metric are held by one of two own Records only."""
    if any(published_by(r) or imported_by(r) for r in (a, b)):
        return ()
    names = [name for name, sides in _parts(a, b, metric) if UNKNOWN in sides]
    text = f"only one side's signature holds {', '.join(names)}: whether these parts differ is unknown"
    return (Note("protocol_part_unknown", text),) if names else ()


ABSENT: Mapping[str, JsonValue] = {"limit": None, "published": "", "imported": "", "standard": True}
"""What it means that these parts of any protocol are absent."""


def _parts(a: Record, b: Record, metric: str) -> Iterator[tuple[str, tuple[JsonValue | Absent, JsonValue | Absent]]]:
    """Yield the parts of two protocols that are not the same and that concern a metric, with both values."""
    kind, left, right = find(a.evaluator), flat(a.signature.protocol), flat(b.signature.protocol)
    for name in sorted(left.keys() | right.keys()):
        part = kind.part(name)
        absent: JsonValue | Absent = ABSENT.get(name, part.absent if part else UNKNOWN)
        sides = left.get(name, absent), right.get(name, absent)
        if sides[0] != sides[1] and kind.concerns(name, metric):
            yield name, sides


def _differences(a: Record, b: Record, metric: str) -> list[str]:
    """Return a phrase for each part that concerns a metric, if any is held by both sides and differs."""
    parts = dict(_parts(a, b, metric))
    if all(UNKNOWN in sides for sides in parts.values()):
        return []
    return [said for said in protocol_differences(a.signature, b.signature) if said.partition(": ")[0] in parts]


def _versions(a: Record, b: Record, metric: str) -> list[str]:
    one, other = (r.definitions[metric].version if metric in r.definitions else None for r in (a, b))
    return [f"version of {metric}: {one} against {other}"] if one and other and one != other else []


def _skipped(a: Record, b: Record) -> str:
    return f"skipped images: {len(a.skipped_images)} against {len(b.skipped_images)}, not the same"


def brief(reasons: Sequence[str], shown: int = 2) -> str:
    """Return the first reasons, and how many more there are."""
    more = len(reasons) - shown
    return "; ".join([*reasons[:shown], *([f"{more} more"] if more > 0 else [])])
