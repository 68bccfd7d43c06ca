"""A card per CoCa checkpoint: contrastive and generative results, and whether fine-tuning destroyed either skill."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import NamedTuple

from cocabench.core.formatting import plural
from cocabench.core.types import Record
from cocabench.kinds import find, in_words
from cocabench.report.content import Report, plain
from cocabench.report.grid import Entry, of_estimate
from cocabench.results import published as publications
from cocabench.results.epochs import epoch_of

LOST_SKILL_FRACTION = 0.5
"""A skill counts as lost below this fraction of the scores of the same architecture with other weights."""

MAX_TASKS_LISTED = 4
"""If a kind has more tasks, a card shows their mean instead."""

NEAR_CHANCE = "near_chance"


class Shown(NamedTuple):
    """A task of a card and its primary number."""

    task: str
    metric: str
    entry: Entry


class Sibling(NamedTuple):
    """Another checkpoint of the same architecture; values: {(task, metric): value}."""

    name: str
    values: dict[tuple[str, str], float]


@dataclass(frozen=True)
class Card:
    """contrastive, generative: the tasks of each side. verdicts: sentences about lost skills; empty if none is lost."""

    model: str
    contrastive: tuple[Shown, ...]
    generative: tuple[Shown, ...]
    verdicts: tuple[str, ...]


def cards(report: Report) -> list[Card]:
    """Return a card for every model that generates captions."""
    return [_card(report, model) for model in report.models if _is_coca(report, model)]


def _is_coca(report: Report, model: str) -> bool:
    mine = [r for r in report.records if r.model == model]
    named = plain(model).rpartition("/")[2].startswith("coca_")
    return named or any(_generative(r) or "text_decoder" in r.parameters for r in mine)


def _card(report: Report, model: str) -> Card:
    mine = [r for r in report.records if r.model == model]
    sides = [[r for r in mine if _generative(r) is side] for side in (False, True)]
    siblings = list(_siblings(report, model))
    verdicts = [
        verdict
        for skill, records in zip(("Contrastive skill", "Captioning"), sides, strict=True)
        for verdict in (_near_chance(skill, records), _lost_skill(skill, records, siblings))
        if verdict
    ]
    shown = [tuple(_summary(report, records)) for records in sides]
    return Card(model, shown[0], shown[1], tuple(verdicts))


def _generative(record: Record) -> bool:
    """Return whether the text decoder produced a Record: it generated captions or scored given ones."""
    return find(record.evaluator).decodes(record.signature.protocol)


def _summary(report: Report, records: Sequence[Record]) -> Iterator[Shown]:
    """Yield one mean per kind with many tasks, else each task."""
    for kind in dict.fromkeys(r.evaluator for r in records):
        mine = [r for r in records if r.evaluator == kind]
        values = [_shown(report, r).entry.value for r in mine]
        known = [value for value in values if value is not None]
        if len(mine) > MAX_TASKS_LISTED and len(known) == len(mine):
            mean = sum(known) / len(known)
            yield Shown(f"{len(mine)} {in_words(kind)} tasks", "mean", Entry(f"{mean:.1f}", value=mean))
        else:
            yield from (_shown(report, r) for r in mine)


def _shown(report: Report, record: Record) -> Shown:
    estimate, info = record.metrics.get(record.primary), record.definitions.get(record.primary)
    if estimate is None or info is None:
        return Shown(record.task, record.primary, Entry("not measured"))
    made = report.keys[record.model, record.task]
    return Shown(record.task, record.primary, replace(of_estimate(estimate, info), record=made, metric=record.primary))


def _near_chance(skill: str, records: Sequence[Record]) -> str:
    found = [r.task for r in records if any(note.code == NEAR_CHANCE for note in r.notes)]
    where = ", ".join(found[:3]) + (" …" if len(found) > 3 else "")
    return f"{skill} is near chance on {len(found)} of {plural(len(records), 'task')} ({where})." if found else ""


def _siblings(report: Report, model: str) -> Iterator[Sibling]:
    """Yield other checkpoints of the same architecture, measured and published, except epochs of the same run."""
    architecture, mine = plain(model).partition(":")[0], epoch_of(plain(model))
    for other in report.models:
        same_run = mine is not None and (theirs := epoch_of(plain(other))) is not None and theirs.run == mine.run
        if plain(other).partition(":")[0] == architecture and plain(other) != plain(model) and not same_run:
            yield Sibling(other, _values(r for r in report.records if r.model == other))
    table = publications.read()
    for spec in dict.fromkeys(table.loc[table["model"] == architecture, "spec"]):
        if spec != plain(model) and spec + publications.SUFFIX not in report.models:
            yield _published(spec)


@cache
def _published(spec: str) -> Sibling:
    """Return a published checkpoint; cached, since cards of one architecture share it."""
    return Sibling(spec + publications.SUFFIX, _values(publications.as_records([spec])))


def _values(records: Iterator[Record] | Sequence[Record]) -> dict[tuple[str, str], float]:
    return {(r.task, m): e.value for r in records for m, e in r.metrics.items() if e.value is not None}


def _lost_skill(skill: str, records: Sequence[Record], siblings: Sequence[Sibling]) -> str:
    """Return a sentence if the primary metrics are far below a sibling's; of several siblings, about the best."""
    worst: tuple[float, str] | None = None
    for sibling in siblings:
        pairs = [
            (e.value, sibling.values[r.task, r.primary])
            for r in records
            if (e := r.metrics.get(r.primary)) and e.value is not None and (r.task, r.primary) in sibling.values
        ]
        if not pairs or not (theirs := sum(other for _, other in pairs)):
            continue
        own, shared = sum(value for value, _ in pairs), plural(len(pairs), "shared task")
        means = f"mean {100 * own / len(pairs):.1f} on {shared}, {100 * theirs / len(pairs):.1f}"
        if own < LOST_SKILL_FRACTION * theirs and (worst is None or own / theirs < worst[0]):
            worst = own / theirs, f"{skill} is lost: {means} for {sibling.name}."
    return worst[1] if worst else ""
