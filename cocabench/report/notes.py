"""What was skipped and noted, one line a cause: metrics that were skipped, results that are absent, notes by code."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import NamedTuple

from cocabench.core.formatting import plural
from cocabench.core.notes import CODES
from cocabench.core.types import Record
from cocabench.kinds import find
from cocabench.report.content import Report
from cocabench.report.differences import Differences
from cocabench.report.headline import listed
from cocabench.results import published as publications
from cocabench.results.compare import Row
from cocabench.results.epochs import epoch_of
from cocabench.results.published import plain
from cocabench.results.records import notes as record_notes

MAX_TASKS_NAMED = 3

MAX_WHERE = 6
"""Lines of detail of a note."""

LOST_SKILL_FRACTION = 0.5
"""A skill counts as lost below this fraction of the scores of the same architecture with other weights."""


class Skip(NamedTuple):
    """Metrics that were skipped for one cause: ``SPICE and 6 parts of it``, and on which models and tasks."""

    cause: str
    metrics: str
    where: str


class Noted(NamedTuple):
    """The notes of one code: their number, what the code means, what to do, and details."""

    code: str
    number: int
    meaning: str
    advice: str
    where: tuple[str, ...]


def skips(report: Report) -> list[Skip]:
    """Return a Skip per cause."""
    found: dict[str, dict[str, list[Record]]] = {}
    for record in report.by_key.values():
        for metric, cause in record.skipped_metrics.items():
            found.setdefault(cause, {}).setdefault(metric, []).append(record)
    return [
        Skip(cause, _metrics(list(metrics)), _where(report, [r for records in metrics.values() for r in records]))
        for cause, metrics in found.items()
    ]


def _metrics(names: Sequence[str]) -> str:
    """Return names, with the parts of a metric (``SPICE-color``) counted behind it."""
    whole = [name for name in names if not any(name.startswith(f"{other}-") for other in names)]
    parts = {name: sum(other.startswith(f"{name}-") for other in names) for name in whole}
    return listed([name + (f" and {plural(n, 'part')} of it" if (n := parts[name]) else "") for name in whole])


def _where(report: Report, records: Iterable[Record]) -> str:
    """Return ``captions, 2 models``: one task by name or their number, and likewise models."""
    found = list(records)
    tasks, models = (list(dict.fromkeys(getattr(r, name) for r in found)) for name in ("task", "model"))
    where = report.labels.get(tasks[0], tasks[0]) if len(tasks) == 1 else plural(len(tasks), "task")
    who = report.names.get(models[0], models[0]) if len(models) == 1 else plural(len(models), "model")
    return f"{where}, {who}"


def absent(report: Report) -> list[str]:
    """Return a phrase per model that lacks results which others have: ``clip on captions and pairs likelihood``."""
    return [
        f"{report.names[model]} on {_tasks(report, rows)}"
        for model in report.models
        if (rows := _lacking(report, model))
    ]


def undecoded(report: Report) -> list[str]:
    """Return a phrase per model without a text decoder, on the tasks that need one."""
    return [
        f"{report.names[model]}, on {_tasks(report, rows)}"
        for model in report.models
        if (rows := [row for row in report.comparison.rows if report.cannot(model, row)])
    ]


def _lacking(report: Report, model: str) -> list[Row]:
    """Return the rows of which a model has no result, though it could."""
    rows = report.comparison.rows
    return [row for row in rows if report.record(model, row.task) is None and not report.cannot(model, row)]


def _tasks(report: Report, rows: Sequence[Row]) -> str:
    return listed([report.labels[row.task] for row in rows]) if len(rows) <= 3 else plural(len(rows), "task")


def notes(report: Report, found: Differences) -> list[Noted]:
    """Return all notes by code, then those on the comparison: unpaired tests, lost skills, left-out Records."""
    by_code: dict[str, dict[str, list[Record]]] = {}
    for record in report.by_key.values():
        for note in record_notes(record):
            by_code.setdefault(note.code, {}).setdefault(note.text, []).append(record)
    made = []
    for code, texts in by_code.items():
        meaning, advice = CODES.get(code, CODES["other"])
        where = [f"{text} ({_where(report, records)})" for text, records in texts.items()]
        made.append(Noted(code, sum(map(len, texts.values())), meaning, advice, _cut(where)))
    made += _unpaired(report, found)
    if lost := list(lost_skills(report)):
        made.append(Noted("lost_skill", len(lost), *CODES["lost_skill"], _cut(lost)))
    if left := report.comparison.left_out:
        made.append(Noted("left_out_records", len(left), *CODES["left_out_records"], _cut(left)))
    return made


def _cut(lines: Sequence[str]) -> tuple[str, ...]:
    more = len(lines) - MAX_WHERE
    return (*lines[:MAX_WHERE], f"and {more} more") if more > 0 else tuple(lines)


def _unpaired(report: Report, found: Differences) -> Iterator[Noted]:
    reasons: dict[str, list[str]] = {}
    for subject in (*found.tasks, *found.means):
        for (a, b), gap in subject.gaps.items():
            if gap.unpaired and gap.p_value is not None:
                where = f"{report.names[a]} and {report.names[b]} on {subject.label}"
                reasons.setdefault(gap.unpaired, []).append(where)
    if reasons:
        lines = [
            f"{reason}: {places[0]}{f' and {len(places) - 1} more' if places[1:] else ''}"
            for reason, places in reasons.items()
        ]
        yield Noted("unpaired", sum(map(len, reasons.values())), *CODES["unpaired"], _cut(lines))


# Skills that fine-tuning destroyed.


class Sibling(NamedTuple):
    """Another checkpoint of the same architecture; values: {(task, metric): value}."""

    name: str
    values: Mapping[tuple[str, str], float]


def lost_skills(report: Report) -> Iterator[str]:
    """Yield a sentence per model whose contrastive or generative scores are far below those of other weights."""
    for model in report.models:
        yield from lost_skills_of(report, model)


def lost_skills_of(report: Report, model: str) -> Iterator[str]:
    """Yield a sentence for each skill of a model that is far below that of other weights."""
    mine = [r for r in report.records if r.model == model]
    for skill, generative in (("contrastive skill", False), ("generative skill", True)):
        records = [r for r in mine if find(r.evaluator).decodes(r.signature.protocol) is generative]
        if sentence := _lost(report, model, skill, records):
            yield sentence


def _lost(report: Report, model: str, skill: str, records: Sequence[Record]) -> str:
    """Return a sentence if the primary metrics are far below a sibling's; of several siblings, about the best."""
    worst: tuple[float, str] | None = None
    for sibling in _siblings(report, model):
        pairs = [
            (e.value, sibling.values[r.task, r.primary])
            for r in records
            if (e := r.metrics.get(r.primary)) and e.value is not None and (r.task, r.primary) in sibling.values
        ]
        own, theirs = sum(value for value, _ in pairs), sum(other for _, other in pairs)
        if theirs and own < LOST_SKILL_FRACTION * theirs and (worst is None or own / theirs < worst[0]):
            means = f"mean {100 * own / len(pairs):.1f} on {plural(len(pairs), 'shared task')}"
            worst = own / theirs, f"{model}: {skill}: {means}, {100 * theirs / len(pairs):.1f} for {sibling.name}"
    return worst[1] if worst else ""


def _siblings(report: Report, model: str) -> Iterator[Sibling]:
    """Yield other checkpoints of the same architecture, measured and published, except epochs of the same run."""
    architecture, mine = plain(model).partition(":")[0], epoch_of(plain(model))
    for other in report.comparison.models:
        same_run = mine is not None and (theirs := epoch_of(plain(other))) is not None and theirs.run == mine.run
        if plain(other).partition(":")[0] == architecture and plain(other) != plain(model) and not same_run:
            yield Sibling(other, report.numbers[other])
    for sibling in _published(architecture):
        if sibling.name not in (plain(model) + publications.SUFFIX, *report.comparison.models):
            yield sibling


@cache
def _published(architecture: str) -> tuple[Sibling, ...]:
    """Return the published checkpoints of an architecture."""
    table = publications.read()
    specs = dict.fromkeys(table.loc[table["model"] == architecture, "spec"])
    return tuple(Sibling(spec + publications.SUFFIX, publications.numbers(spec)) for spec in specs)


COMMAND = re.compile(r"`([^`]+)`")


def with_commands(text: str) -> list[tuple[str, bool]]:
    """Return the parts of a text, and whether each is a command (in backticks)."""
    return [(part, bool(i % 2)) for i, part in enumerate(COMMAND.split(text)) if part]
