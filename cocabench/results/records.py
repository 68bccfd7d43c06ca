"""Records to compare: read them, choose one per model and task, and tell why two cannot be compared.

An imported Record comes from another program's file, a published one from a paper or repository; both have no samples.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from pydantic import JsonValue

from cocabench.core.files import parse_json
from cocabench.core.formatting import plural
from cocabench.core.signature import flat, known_differences, protocol_differences, short
from cocabench.core.types import Note, Record
from cocabench.kinds import find
from cocabench.kinds.shown import UNKNOWN, Absent
from cocabench.results import published
from cocabench.results.store import RecordSet, load

PUBLISHED = "published:"
"""Begins the name of a published model, which may stand wherever a results folder may."""

MEANING_OF_ABSENCE: Mapping[str, JsonValue] = {"limit": None, "published": "", "imported": "", "standard": True}
"""The values of these parts in a protocol that does not have them."""


def read(*sources: str | Path) -> RecordSet:
    """Return the Records of folders, Record files and ``published:NAME:TAG``, in the order of the sources.

    Files of one folder count as one source. A model that several sources measured on the same task gets the source's
    name behind its own: ``demo/coca [old]``. Several Records of one model and task, and nothing else, get the digits
    of their signatures: ``demo/coca [0a1b2c3d4e5f]``. ResultsError if a source cannot be read.
    """
    groups: dict[str, list[RecordSet]] = {}
    for source in map(str, sources):
        is_file = not source.startswith(PUBLISHED) and Path(source).is_file()
        groups.setdefault(str(Path(source).parent) if is_file else source, []).append(_read(source))
    found = {name: joined(group) for name, group in groups.items()}
    if len(found) == 1:
        (only,) = found.values()
        one_result = len(only) > 1 and len({(r.model, r.task) for r in only}) == 1
        return _labelled(only, lambda r: short(r.signature)) if one_result and len(sources) > 1 else only
    seen = Counter(key for records in found.values() for key in {(r.model, r.task) for r in records})
    shared = {model for (model, _), count in seen.items() if count > 1}
    return joined(_labelled(records, _source_of(shared, name)) for name, records in found.items())


def _source_of(models: Collection[str], source: str) -> Callable[[Record], str]:
    """Return a label for the Records of some models: their source."""
    return lambda record: source if record.model in models else ""


def _read(source: str) -> RecordSet:
    if not source.startswith(PUBLISHED):
        return load(source)
    records = tuple(published.as_records([source.removeprefix(PUBLISHED)]))
    return RecordSet(records, (None,) * len(records))


def joined(parts: Iterable[RecordSet]) -> RecordSet:
    """Return the Records of several sets as one, with their files and samples."""
    sets = list(parts)
    return RecordSet(
        tuple(record for part in sets for record in part.records),
        tuple(path for part in sets for path in part.paths),
        tuple(frame for part in sets for frame in part.held or (None,) * len(part)),
    )


def _labelled(records: RecordSet, label: Callable[[Record], str]) -> RecordSet:
    """Append each Record's label to its model's name, unless the label is ''."""
    named = ((record, f" [{text}]" if (text := label(record)) else "") for record in records)
    return replace(records, records=tuple(r.model_copy(update={"model": r.model + tail}) for r, tail in named))


class Choice(NamedTuple):
    """One Record per model and task, and a phrase for each that was left out."""

    records: tuple[Record, ...]
    left_out: tuple[str, ...]


def choose(records: Iterable[Record], models: Collection[str] = ()) -> Choice:
    """Return one Record per model and task: of those that are comparable with one of another model, if there are any,
    full before limited, standard before not, with the task's own prompts before others, without --resize fast before
    with it, then the newest.

    models: if given, only these count as other models. Models and tasks keep the order of their first appearance.
    Published numbers of a set in many languages count beside measured ones in the languages that were measured.
    """
    groups: dict[tuple[str, str], list[Record]] = {}
    for record in _beside_measured(tuple(records)):
        groups.setdefault((record.model, record.task), []).append(record)
    of_task: dict[str, list[Record]] = {}
    for (model, task), group in groups.items():
        if not models or model in models:
            of_task.setdefault(task, []).extend(group)
    chosen = [
        max(comparable(group, (r for r in of_task.get(task, ()) if r.model != model)), key=_preference)
        for (model, task), group in groups.items()
    ]
    left_out = [
        f"{r.model} on {r.task}: {short(r.signature)} ({_why(r, best)}; {short(best.signature)} is used)"
        for best, group in zip(chosen, groups.values(), strict=True)
        for r in group
        if r is not best
    ]
    return Choice(tuple(chosen), tuple(left_out))


def comparable(
    group: Sequence[Record],
    others: Iterable[Record],
    differences: Callable[[Record, Record, str], Sequence[str]] | None = None,
) -> Sequence[Record]:
    """Return which Records of a model and task are comparable with one of others, by their primary metric; all of the
    group if none is. differences: why two are incomparable, in that order; by default ``incomparable``.
    """
    if len(group) == 1:
        return group
    why, beside = differences or incomparable, list(others)
    return [r for r in group if any(not why(r, other, r.primary) for other in beside)] or group


def _beside_measured(records: Sequence[Record]) -> Iterator[Record]:
    """Yield all but published Records in languages that no other Record has; all of them if there are no others."""
    tasks = {r.task for r in records if not published_by(r)}
    yield from (r for r in records if not tasks or r.task in tasks or not published_by(r) or not set_of(r))


def _preference(record: Record) -> tuple[bool, bool, bool, bool, str]:
    own = not prompts_label(params_given(record))
    return limit(record) is None, standard(record), own, resize(record) == OWN_RESIZE, record.created


def _why(loser: Record, winner: Record) -> str:
    if _preference(loser) > _preference(winner):
        return "comparable with no other"
    reasons = ("fewer samples", "not the standard protocol", "other prompts than the task's", "--resize fast", "older")
    pairs = zip(_preference(loser), _preference(winner), reasons, strict=True)
    return next((reason for a, b, reason in pairs if a != b), reasons[-1])


GIVEN_PARAMS = "params"
"""The key of a Record's environment that holds, as JSON, the params that replaced those of the task file."""

PROMPTS = ("templates", "classnames")
"""Params of prompts, by whose values a Record with other prompts than its task's is named."""


def given_params(params: Mapping[str, JsonValue]) -> dict[str, str]:
    """Return the entry of a Record's environment that names params; none without params."""
    return {GIVEN_PARAMS: json.dumps(params, sort_keys=True, ensure_ascii=False, default=str)} if params else {}


def params_given(record: Record) -> dict[str, JsonValue]:
    """Return the params that replaced those of the task file, as far as the Record says them."""
    try:
        found = parse_json(record.environment.get(GIVEN_PARAMS, "{}"))
    except json.JSONDecodeError:  # the environment is for people, and nobody checks it
        return {}
    return found if isinstance(found, dict) else {}


def prompts_label(params: Mapping[str, JsonValue]) -> str:
    """Return ``templates cifar10, class names my.txt``; '' for a task's own prompts."""
    named = zip(PROMPTS, ("templates", "class names"), strict=True)
    return ", ".join(f"{words} {params[name]}" for name, words in named if params.get(name))


def set_of(record: Record) -> str:
    """Return the set that a Record's task is one language of, '' if none: ``xtd10`` of ``xtd10/de``."""
    language = f"/{record.signature.protocol.get('language', '')}"
    return record.task.removesuffix(language) if record.task.endswith(language) else ""


def published_by(record: Record) -> str:
    """Return the source of a published Record, '' for a measured one."""
    return str(record.signature.protocol.get("published", ""))


def imported_by(record: Record) -> str:
    """Return the program whose file an imported Record was read from, '' for others."""
    return str(record.signature.protocol.get("imported", ""))


def limit(record: Record) -> int | None:
    """Return the number of samples of a run with ``--limit``, None for a full run."""
    value = record.signature.protocol.get("limit")
    return value if isinstance(value, int) else None


def standard(record: Record) -> bool:
    """Return whether the data are those of the standard protocol, by the task file."""
    return record.signature.protocol.get("standard", True) is not False


def notes(record: Record) -> tuple[Note, ...]:
    """Return the notes that belong beside each number of a Record."""
    found = list(record.notes)
    if program := imported_by(record):
        text = f"imported from {program}: no samples, and only part of the protocol is known"
        found.append(Note("imported", text))
    codes = {note.code for note in found}
    if (n := limit(record)) is not None and "limited" not in codes:
        found.append(Note("limited", f"limited to {plural(n, 'sample')}"))
    if not standard(record) and "not_standard" not in codes:
        found.append(Note("not_standard", "not the standard protocol"))
    if resize(record) != OWN_RESIZE:
        found.append(Note("fast_resize", f"--resize {resize(record)}: images resized by torch instead of Pillow"))
    if skipped := record.skipped_images:
        found.append(Note("skipped_images", f"{plural(len(skipped), 'image')} skipped, for example {skipped[0]}"))
    return tuple(found)


def incomparable(a: Record, b: Record, metric: str) -> tuple[str, ...]:
    """Return why a metric of two Records of one task cannot be compared; empty if it can.

    Parts of the protocol that do not concern the metric may differ, and so may the order of the data. A part that only
    one side has is unknown, not different (``unknown_parts``). An imported Record can differ only in the parts that its
    file gives, and in --resize, which other programs do not have.
    """
    sources = published_by(a), published_by(b)
    if sources[0] != sources[1]:
        both = f"published by {sources[0]} and by {sources[1]}"
        return (both if all(sources) else f"published by {''.join(sources)}, protocol not recorded",)
    if imported_by(a) or imported_by(b):
        return (*known_differences(a.signature, b.signature), *resize_differences(a, b))
    reasons = [*_protocol_differences(a, b, metric), *resize_differences(a, b)]
    one, other = (r.definitions[metric].version if metric in r.definitions else None for r in (a, b))
    if one and other and one != other:
        reasons.append(f"version of {metric}: {one} against {other}")
    if a.pictures_by_id and b.pictures_by_id and a.pictures_by_id != b.pictures_by_id and _same_rows(a, b):
        reasons.append("other images under the same names")
    if a.skipped_images != b.skipped_images:
        reasons.append(f"different skipped images: {len(a.skipped_images)} against {len(b.skipped_images)}")
    return tuple(reasons)


def unknown_parts(a: Record, b: Record, metric: str) -> tuple[Note, ...]:
    """Return a note if only one of two measured Records has a part of the protocol that concerns a metric."""
    if any(published_by(r) or imported_by(r) for r in (a, b)):
        return ()
    names = [name for name, sides in _differing_parts(a, b, metric) if UNKNOWN in sides]
    names += ["pictures (a hash of the images)"] if bool(a.pictures_by_id) != bool(b.pictures_by_id) else []
    text = f"only one of the two results has {', '.join(names)}; whether these parts differ is unknown"
    return (Note("protocol_part_unknown", text),) if names else ()


def measured_otherwise(a: Record, b: Record) -> tuple[Note, ...]:
    """Return a note if two measured Records differ in packages, precision or device, which are not the protocol."""
    if any(published_by(r) or imported_by(r) for r in (a, b)):
        return ()
    one, other = (_circumstances(r) for r in (a, b))
    differing = [name for name in one if name in other and one[name] != other[name]]
    if not differing:
        return ()
    text = "; ".join(f"{name} {one[name]} against {other[name]}" for name in differing)
    return (Note("measured_otherwise", f"not measured alike: {text}"),)


OWN_RESIZE = "own"


def resize(record: Record) -> str:
    """Return the value of --resize, of which a signature holds others than the default."""
    return str(record.signature.model.get("resize", OWN_RESIZE))


def resize_differences(a: Record, b: Record) -> list[str]:
    """Return a phrase if only one of two Records was measured with --resize fast."""
    return [f"--resize: {resize(a)} against {resize(b)}"] if resize(a) != resize(b) else []


def _circumstances(record: Record) -> dict[str, str]:
    """Return packages, precision, compilation and device of a measured Record, as far as it says them."""
    model = flat(record.signature.model)
    packages = {name.removeprefix("packages."): value for name, value in model.items() if name.startswith("packages.")}
    compiled = {"--compile": "yes" if model.get("compile") else "no"}
    said = {**packages, "precision": model.get("precision"), **compiled, "device": record.environment.get("device")}
    return {name: str(value) for name, value in said.items() if value}


def _same_rows(a: Record, b: Record) -> bool:
    """Return whether both say that they measured the same data, in whatever order."""
    return bool(a.rows) and a.rows == b.rows


def _protocol_differences(a: Record, b: Record, metric: str) -> list[str]:
    """Return a phrase for each differing part that concerns a metric; none if no such part is on both sides."""
    parts = dict(_differing_parts(a, b, metric))
    if all(UNKNOWN in sides for sides in parts.values()):
        return []
    return [text for text in protocol_differences(a.signature, b.signature) if text.partition(": ")[0] in parts]


def _differing_parts(
    a: Record, b: Record, metric: str
) -> Iterator[tuple[str, tuple[JsonValue | Absent, JsonValue | Absent]]]:
    """Yield the differing parts of two protocols that concern a metric, with both values.

    Of equal data in another order only hashes of the rows differ; they do not count. With a limit, CIDEr's document
    frequencies are those of the whole set, which equal rows say nothing about.
    """
    if a.signature.protocol == b.signature.protocol:
        return
    reordered = _same_rows(a, b)
    of_whole = limit(a) is None and limit(b) is None
    kind, left, right = find(a.evaluator), flat(a.signature.protocol), flat(b.signature.protocol)
    for name in sorted(left.keys() | right.keys()):
        part = kind.part(name)
        absent: JsonValue | Absent = MEANING_OF_ABSENCE.get(name, part.absent if part else UNKNOWN)
        sides = left.get(name, absent), right.get(name, absent)
        of_rows = name == "data.hash" or (name.startswith("extra_data.") and name.endswith(".hash"))
        of_rows |= name == "document_frequencies" and of_whole
        if sides[0] != sides[1] and kind.concerns(name, metric) and not (reordered and of_rows):
            yield name, sides


def first_reasons(reasons: Sequence[str], shown: int = 2) -> str:
    """Return the first reasons in one line, and the number of further ones."""
    more = len(reasons) - shown
    return "; ".join([*reasons[:shown], *([f"{more} more"] if more > 0 else [])])
