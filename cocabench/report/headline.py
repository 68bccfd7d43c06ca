"""What the data say first: one sentence, and one for each kind of task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from cocabench.core.formatting import plural, signed
from cocabench.kinds import find
from cocabench.results.compare import Comparison, Row
from cocabench.results.difference import Finding
from cocabench.results.published import SUFFIX


class Headline(NamedTuple):
    """sentence: the page's first line. details: a sentence per kind of task."""

    sentence: str
    details: tuple[str, ...]


def headline(comparison: Comparison) -> Headline:
    """Return who wins: for two models how often and by how much, for more how often each is best.

    ``A is ahead of B on 8 of 11 tasks; 3 of the differences pass a paired test.``
    """
    models = _names(comparison.models)
    if len(models) == 1:
        return Headline(f"{models[0]} on {plural(len(comparison.rows), 'task')}.", ())
    say = _two if len(models) == 2 else _many
    return Headline(say(models, comparison.rows), tuple(_details(comparison)))


def _names(models: Sequence[str]) -> list[str]:
    """Return the models' names, without the mark of published numbers where that leaves them different."""
    short = [model.removesuffix(SUFFIX) for model in models]
    return short if len(set(short)) == len(short) else list(models)


def _details(comparison: Comparison) -> list[str]:
    kinds: dict[str, list[Row]] = {}
    for row in comparison.rows:
        kinds.setdefault(row.evaluator, []).append(row)
    say = _kind_of_two if len(comparison.models) == 2 else _kind_of_many
    return [text for kind, rows in kinds.items() if (text := say(_names(comparison.models), kind, rows))]


def gains(rows: Sequence[Row]) -> list[float]:
    """Return the first model's lead per comparable row, in points: positive where it is better."""
    return [row.difference.value * (1 if row.info.higher_is_better else -1) for row in rows if row.difference]


def _score(rows: Sequence[Row]) -> tuple[int, int, int]:
    found = gains(rows)
    return sum(g >= 0.05 for g in found), sum(g <= -0.05 for g in found), len(found)


def _two(models: Sequence[str], rows: Sequence[Row]) -> str:
    ahead, behind, shared = _score(rows)
    if not shared:
        return f"{models[0]} and {models[1]} share no task whose numbers can be compared."
    tasks = plural(shared, "task")
    if ahead == behind:
        lead = f"{models[0]} and {models[1]} are level on {tasks}: each is ahead on {ahead}"
    else:
        first, second, wins = (*models, ahead) if ahead > behind else (models[1], models[0], behind)
        lead = f"{first} is ahead of {second} on {wins} of {tasks}"
    return f"{lead}; {_tested(rows)}."


def _tested(rows: Sequence[Row]) -> str:
    tested = [row for row in rows if row.finding is not Finding.UNTESTED]
    if not tested:
        return "without samples or intervals, none of the differences can be tested"
    real = sum(row.difference is not None and row.difference.significant for row in tested)
    of = f"{real} of the {len(tested)}" if real else "none of the"
    return f"{of} differences {'is' if real == 1 else 'are'} more than chance explains"


def _kind_of_two(models: Sequence[str], kind: str, rows: Sequence[Row]) -> str:
    ahead, behind, shared = _score(rows)
    if not shared:
        return ""
    mean = signed(sum(gains(rows)) / shared)
    real = [row.finding for row in rows if row.difference is not None and row.difference.significant]
    better, worse = real.count(Finding.FIRST), real.count(Finding.SECOND)
    sure = f"; {better} better and {worse} worse beyond chance" if real else ""
    lead = f"{models[0]} ahead on {ahead}, behind on {behind} of {shared}"
    return f"{find(kind).title()}: {lead}, {mean} points on average{sure}."


def _best(rows: Sequence[Row], side: int) -> int:
    return sum(row.cells[side].best for row in rows)


def _many(models: Sequence[str], rows: Sequence[Row]) -> str:
    wins = sorted(((_best(rows, i), -i) for i in range(len(models))), reverse=True)
    most, total = wins[0][0], sum(any(cell.best for cell in row.cells) for row in rows)
    if not most:
        return f"{len(models)} models, and no task on which their numbers can be compared."
    leaders = [models[-i] for n, i in wins if n == most]
    if len(leaders) > 1:
        return f"{', '.join(leaders[:-1])} and {leaders[-1]} are each best on {most} of {plural(total, 'task')}."
    next_best, second = wins[1][0], models[-wins[1][1]]
    behind = f", {second} on {next_best}" if next_best else ""
    return f"{leaders[0]} is best on {most} of {plural(total, 'task')}{behind}."


def _kind_of_many(models: Sequence[str], kind: str, rows: Sequence[Row]) -> str:
    wins = [_best(rows, i) for i in range(len(models))]
    first = [model for model, n in zip(models, wins, strict=True) if n == max(wins)]
    count = f"{max(wins)} of {len(rows)}, ties included"
    return f"{find(kind).title()}: best most often {' and '.join(first[:3])} ({count})." if max(wins) else ""
