"""Cards of models that contrast and decode, as CoCa does: both skills side by side, and how they compare."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from cocabench.core.types import Record
from cocabench.report.charts import Point
from cocabench.report.content import Area, Report
from cocabench.report.differences import Differences, Subject
from cocabench.report.headline import Name, Sentence
from cocabench.report.notes import lost_skills_of
from cocabench.results.records import notes

MAX_OTHER_TASKS = 2
"""Tasks of a kind outside its score that a card shows."""


class Skill(NamedTuple):
    """A score of a model: its number, its place among the models (``no. 2 of 3``), and whether it is near chance."""

    title: str
    metric: str
    point: Point
    place: str
    near_chance: bool


class SkillCard(NamedTuple):
    """A model's scores by embeddings and by the text decoder. same: both ways on the same items. lost: alarms."""

    model: str
    contrastive: tuple[Skill, ...]
    generative: tuple[Skill, ...]
    same: tuple[Sentence, ...]
    lost: tuple[str, ...]


def cards(report: Report, found: Differences) -> list[SkillCard]:
    """Return a card for each model in colour with scores of both skills, in page order."""
    subjects = [(area, subject) for area in report.areas for subject in _subjects(report, found, area)]
    made = (_card(report, model, subjects) for model in found.shown)
    return [card for card in made if card.contrastive and card.generative]


def _subjects(report: Report, found: Differences, area: Area) -> Iterator[Subject]:
    """Yield the score of a kind, unless it is a mean over both skills, then some of the tasks outside it."""
    score = found.of(area)
    if score and len({row.task in report.decoded for row in score.rows}) > 1:
        score = None
    yield from filter(None, [score])
    inside = {row.task for row in score.rows} if score else set()
    yield from [subject for subject in found.in_area(area) if subject.key not in inside][:MAX_OTHER_TASKS]


def _card(report: Report, model: str, subjects: list[tuple[Area, Subject]]) -> SkillCard:
    sides: tuple[list[Skill], list[Skill]] = ([], [])
    held: list[tuple[Area, Subject, Record]] = []
    for area, subject in subjects:
        records = [r for row in subject.rows if (r := report.record(model, row.task))]
        if records and model in subject.scores:
            sides[subject.rows[0].task in report.decoded].append(_skill(area, subject, model, records))
            held.append((area, subject, records[0]))
    same = tuple(_compared(held))
    return SkillCard(model, tuple(sides[False]), tuple(sides[True]), same, tuple(lost_skills_of(report, model)))


def _skill(area: Area, subject: Subject, model: str, records: list[Record]) -> Skill:
    whole = subject.mean or len(area.rows) == 1
    title = area.title if whole else f"{area.title}, {subject.label}"
    metric = f"mean {subject.metric} of {len(subject.rows)} tasks" if subject.mean else subject.metric
    place = f"no. {subject.places[model] + 1} of {n}" if (n := len(subject.scores)) > 1 else ""
    near = any(note.code == "near_chance" for r in records for note in notes(r))
    return Skill(title, metric, Point(model, subject.scores[model], subject.status(model)), place, near)


def _compared(held: list[tuple[Area, Subject, Record]]) -> Iterator[Sentence]:
    """Yield ``Caption selection, the same items: 81.2 by cosine, 76.1 by likelihood.`` for two ways on equal data."""
    for i, (area, one, first) in enumerate(held):
        for _, other, second in held[i + 1 :]:
            data = first.signature.protocol.get("data")
            alike = one.kind == other.kind and data is not None and data == second.signature.protocol.get("data")
            if alike and not (one.mean or other.mean) and one.info.unit == other.info.unit:
                ways = [str(r.signature.protocol.get("scoring", "")) for r in (first, second)]
                if all(ways) and len(set(ways)) == 2:
                    values = [Point(r.model, s.scores[r.model]).text for s, r in ((one, first), (other, second))]
                    said = " against ".join(f"{v} by {way}" for v, way in zip(values, ways, strict=True))
                    yield Name(first.model), f" on the same items of {area.title.lower()}: {said}."
