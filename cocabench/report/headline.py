"""The headline of a report: one sentence, and one per kind of task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from cocabench.core.formatting import plural, signed
from cocabench.kinds import find
from cocabench.results.compare import Comparison, Row
from cocabench.results.difference import Finding
from cocabench.results.published import SUFFIX


class Headline(NamedTuple):
    """sentence: the first line of the page. details: a sentence per kind of task."""

    sentence: str
    details: tuple[str, ...]


def headline(comparison: Comparison) -> Headline:
    """Return the headline: of two models, how often each scores better; of more, how often each is best.

    ``A scores better than B on 8 of 11 tasks; 3 of the 11 differences are significant.``
    """
    models = _names(comparison.models)
    if len(models) == 1:
        return Headline(f"{models[0]} on {plural(len(comparison.rows), 'task')}.", ())
    say = _two if len(models) == 2 else _many
    return Headline(say(models, comparison.rows), tuple(_details(comparison)))


def _names(models: Sequence[str]) -> list[str]:
    """Return the models' names, without the mark of published numbers if they stay distinct."""
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
    n_better, n_worse, shared = _score(rows)
    if not shared:
        return f"{models[0]} and {models[1]} have no comparable task in common."
    tasks = plural(shared, "task")
    if n_better == n_worse:
        lead = f"{models[0]} and {models[1]} each score better on {n_better} of {tasks}"
    else:
        first, second, wins = (*models, n_better) if n_better > n_worse else (models[1], models[0], n_worse)
        lead = f"{first} scores better than {second} on {wins} of {tasks}"
    return f"{lead}; {_tested(rows)}."


def _tested(rows: Sequence[Row]) -> str:
    tested = [row for row in rows if row.finding is not Finding.UNTESTED]
    if not tested:
        return "without samples or intervals no difference can be tested"
    significant = sum(row.difference is not None and row.difference.significant for row in tested)
    of = f"{significant} of the {len(tested)}" if significant else "none of the"
    return f"{of} differences {'is' if significant == 1 else 'are'} significant"


def _kind_of_two(models: Sequence[str], kind: str, rows: Sequence[Row]) -> str:
    n_better, n_worse, shared = _score(rows)
    if not shared:
        return ""
    mean = signed(sum(gains(rows)) / shared)
    significant = [row.finding for row in rows if row.difference is not None and row.difference.significant]
    better, worse = significant.count(Finding.FIRST), significant.count(Finding.SECOND)
    tested = f"; significantly better on {better}, worse on {worse}" if significant else ""
    lead = f"{models[0]} scores better on {n_better}, worse on {n_worse} of {plural(shared, 'task')}"
    return f"{find(kind).title()}: {lead}, mean difference {mean} points{tested}."


def _best(rows: Sequence[Row], side: int) -> int:
    return sum(row.cells[side].best for row in rows)


def _many(models: Sequence[str], rows: Sequence[Row]) -> str:
    wins = sorted(((_best(rows, i), -i) for i in range(len(models))), reverse=True)
    most, total = wins[0][0], sum(any(cell.best for cell in row.cells) for row in rows)
    if not most:
        return f"{len(models)} models without a comparable task in common."
    leaders = [models[-i] for n, i in wins if n == most]
    if len(leaders) > 1:
        return f"{_joined(leaders)} are each best on {most} of {plural(total, 'task')}."
    next_best, second = wins[1][0], models[-wins[1][1]]
    runner_up = f", {second} on {next_best}" if next_best else ""
    return f"{leaders[0]} is best on {most} of {plural(total, 'task')}{runner_up}."


def _kind_of_many(models: Sequence[str], kind: str, rows: Sequence[Row]) -> str:
    wins = [_best(rows, i) for i in range(len(models))]
    if not max(wins):
        return ""
    leaders = [model for model, n in zip(models, wins, strict=True) if n == max(wins)]
    verb = "is" if len(leaders) == 1 else "are each"
    named = leaders if len(leaders) <= 3 else [*leaders[:2], f"{len(leaders) - 2} more"]
    return f"{find(kind).title()}: {_joined(named)} {verb} best on {max(wins)} of {plural(len(rows), 'task')}."


def _joined(names: Sequence[str]) -> str:
    """Return ``a``, ``a and b``, ``a, b and c``."""
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last
