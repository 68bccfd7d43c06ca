"""What a report says in sentences: the headline, a finding per kind of task, and a sentence for each section.

A sentence counts one thing: significant wins, or tasks on which a model is unbeaten, or (without tests) higher scores.
Equal printed numbers are no win. A model is best at a kind only if it is significantly better there than every other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from cocabench.core.formatting import plural, signed
from cocabench.kinds import find, in_words
from cocabench.report.content import Area, Report
from cocabench.report.differences import BEST, MAX_MODELS_IN_ALL_PAIRS, UNBEATEN, Differences, Subject
from cocabench.results.difference import Difference, Finding, up

EQUAL = 0.05
"""Smaller differences, in points, print as 0.0."""

MAX_NAMED = 3
"""Of more models the sentences name two, and count the rest."""

MAX_OTHER_TASKS = 2
"""Tasks outside a kind's score that a finding speaks about."""


class Name(NamedTuple):
    """A model inside a sentence; the page marks it."""

    model: str


class Strong(NamedTuple):
    """Emphasised words."""

    text: str


Part = str | Name | Strong
Sentence = tuple[Part, ...]


class KindFinding(NamedTuple):
    """What is found on a kind of task. ranking: the best models with their numbers; more: how many others there are."""

    kind: str
    title: str
    ranking: tuple[tuple[str, str], ...]
    more: int
    text: Sentence


class Count(NamedTuple):
    """Of two models: the tasks that each wins, those without a significant difference, those not tested."""

    wins: list[Subject]
    losses: list[Subject]
    same: list[Subject]
    untested: list[Subject]

    @property
    def total(self) -> int:
        return sum(map(len, self))


def plain_text(sentence: Sentence, names: Mapping[str, str]) -> str:
    """Return a sentence as text, with the models' short names."""
    return "".join(
        names[part.model] if isinstance(part, Name) else part.text if isinstance(part, Strong) else part
        for part in sentence
    )


def headline(report: Report, found: Differences) -> Sentence:
    """Return the headline."""
    models = report.models
    if len(models) == 1:
        return _alone(report, found)
    if len(models) == 2:
        return _two(*models, found.tasks)
    return _best(report, found) or _many(report, models, found)


def _alone(report: Report, found: Differences) -> Sentence:
    (model,) = report.models
    said = scores_of(report, found, model)
    return Name(model), f": {said}." if said else f" has no score on {plural(len(found.tasks), 'task')}."


def scores_of(report: Report, found: Differences, model: str) -> str:
    """Return a model's scores, ``30.0 % mean acc@1 on 2 tasks, 45.0 CIDEr``; '' without any."""
    said = []
    for subject in filter(None, map(found.of, report.areas)):
        if model in subject.scores:
            tasks = f" on {len(subject.rows)} tasks" if subject.mean else ""
            what = f"{'mean ' if subject.mean else ''}{subject.metric}{tasks}"
            said.append(f"{value(subject, model)}{unit(subject)} {what}{direction(subject)}")
    return ", ".join(said)


def value(subject: Subject, model: str) -> str:
    score = subject.scores[model]
    return f"{score.value:,.{score.places}f}"


def unit(subject: Subject) -> str:
    return " %" if subject.info.unit == "fraction" else ""


def direction(subject: Subject) -> str:
    """Return `` (lower is better)`` where it is; readers take a high number for a good one."""
    return "" if subject.info.higher_is_better else " (lower is better)"


def count(a: str, b: str, subjects: Iterable[Subject]) -> Count:
    """Return the tasks on which two models are compared, by outcome."""
    made = Count([], [], [], [])
    places = {Finding.FIRST: made.wins, Finding.SECOND: made.losses, Finding.NOTHING: made.same}
    for subject in subjects:
        if (gap := subject.gap(a, b)) is not None:
            places.get(gap.finding, made.untested).append(subject)
    return made


def _two(a: str, b: str, subjects: Sequence[Subject]) -> Sentence:
    found = count(a, b, subjects)
    if not found.total:
        return Name(a), " and ", Name(b), " have no comparable task in common."
    if len(found.untested) == found.total:
        return _untested(a, b, found.untested)
    if not found.wins and not found.losses:
        n = len(found.untested)
        tail = f"; {n} {'is' if n == 1 else 'are'} not tested." if n else "."
        return Name(a), " and ", Name(b), " do not differ significantly on ", *_any_of(found.same), tail
    first, second = (a, b) if len(found.wins) >= len(found.losses) else (b, a)
    most, least = sorted((found.wins, found.losses), key=len, reverse=True)
    back: Sentence = (", ", Name(second), " beats ", Name(first), f" on {len(least)}") if least else ()
    rest = [f"{len(some)} {'is' if len(some) == 1 else 'are'} {what}" for some, what in _rest(found) if some]
    tail = f"; {', '.join(rest)}." if rest else "."
    return Name(first), " beats ", Name(second), f" on {len(most)} of {plural(found.total, 'task')}", *back, tail


def _rest(found: Count) -> tuple[tuple[list[Subject], str], ...]:
    return (found.same, "not significant"), (found.untested, "not tested")


def _any_of(subjects: Sequence[Subject]) -> Sentence:
    """Return ``any of 12 tasks (smallest detectable: 2.7 points)``."""
    tasks = f"any of {len(subjects)} tasks" if len(subjects) > 1 else subjects[0].label
    gaps = [gap for subject in subjects if subject.info.unit == "fraction" for gap in subject.gaps.values()]
    least = min((gap.detectable for gap in gaps if gap.detectable is not None), default=None)
    return (tasks, "" if least is None else f" (smallest detectable: {up(least, 1)} points)")


def _untested(a: str, b: str, subjects: Sequence[Subject]) -> Sentence:
    gains = [gain for subject in subjects if (gain := subject.gain(a, b)) is not None]
    higher, lower = sum(g >= EQUAL for g in gains), sum(g <= -EQUAL for g in gains)
    tail = f" of {plural(len(gains), 'task')}; without samples nothing can be tested."
    if higher == lower:
        return Name(a), " and ", Name(b), f" each score higher on {higher}{tail}"
    first, most = (a, higher) if higher > lower else (b, lower)
    return Name(first), f" scores higher on {most}{tail}"


def _best(report: Report, found: Differences) -> Sentence:
    """Return which models are best at which kinds; nothing if none is best at any."""
    areas = [area for area in report.areas if len(area.able) > 1]
    won: dict[str, list[Area]] = {}
    for area in areas:
        if subject := found.of(area):
            for model in (m for m in subject.scores if subject.status(m) == BEST):
                won.setdefault(model, []).append(area)
    if not won:
        return ()
    if len(won) == 1:
        ((model, mine),) = won.items()
        return Name(model), f" is best at {listed([in_words(area.kind) for area in mine])}."
    said: list[Part] = []
    for model, mine in won.items():
        verbs = [find(area.kind).shown.does for area in mine]
        what = f" {listed(verbs)} best" if all(verbs) else f" is best at {listed([in_words(a.kind) for a in mine])}"
        said += ["; " if said else "", Name(model), what]
    return (*said, ".")


def _many(report: Report, models: Sequence[str], found: Differences) -> Sentence:
    """Return which of several models lead, where none is best at a kind of task."""
    gaps = [(subject, pair, gap) for subject in found.tasks for pair, gap in subject.gaps.items()]
    if not any(gap.finding is not Finding.UNTESTED for _, _, gap in gaps):
        return _highest(models, found) if gaps else (f"{len(models)} models without a comparable task in common.",)
    if not any(gap.significant for _, _, gap in gaps):
        tested = [s for s in found.tasks if any(gap.finding is not Finding.UNTESTED for gap in s.gaps.values())]
        who: Sentence = named(models) if len(models) <= MAX_NAMED else (f"The {len(models)} models",)
        return *who, " do not differ significantly on ", *_any_of(tested), "."
    ordered = found.order(models)
    unbeaten = {model: found.unbeaten(model) for model in ordered}
    most = max(n for _, n in unbeaten.values())
    leaders = [m for m, (k, n) in unbeaten.items() if 2 * k > n and 2 * n >= most]
    few = len(models) <= MAX_MODELS_IN_ALL_PAIRS
    too_many = len(models) if few else len(models) // 2 + 1
    if len(leaders) >= too_many and (said := _by_score(report, models, found, too_many)):
        return said
    if len(leaders) == len(models):
        return (f"None of {len(models)} models leads: each is not significantly beaten on most tasks.",)
    if not leaders:
        k, n = unbeaten[ordered[0]]
        return "No model leads: ", Name(ordered[0]), f" is not significantly beaten on {k} of {plural(n, 'task')}."
    is_or_are = "is" if len(leaders) == 1 else "are"
    head = f"{len(leaders)} of {len(models)} models {'leads' if len(leaders) == 1 else 'lead'}: "
    return head, *named(leaders), f" {is_or_are} not significantly beaten on most tasks."


def _by_score(report: Report, models: Sequence[str], found: Differences, too_many: int) -> Sentence:
    """Return whom no model beats on the mean of the page's only kind of task, which tells more models apart.

    Nothing for several kinds, or where too many are not beaten.
    """
    score = found.of(report.areas[0]) if len(report.areas) == 1 else None
    leaders = [m for m in score.ranking() if score.status(m) in (BEST, UNBEATEN)] if score and score.mean else []
    if score is None or not 0 < len(leaders) < too_many:
        return ()
    head, is_or_are = f"{len(leaders)} of {len(models)} models lead", "is" if len(leaders) == 1 else "are"
    tail = f" {is_or_are} not significantly beaten on the {score.label}."
    return f"{head}{'s' if len(leaders) == 1 else ''}: ", *named(leaders), tail


def _highest(models: Sequence[str], found: Differences) -> Sentence:
    """Return who has the highest number on most tasks; an equal printed number is no win."""
    wins = dict.fromkeys(models, 0)
    shared = [subject for subject in found.tasks if len(subject.scores) > 1]
    for subject in shared:
        first, second = (subject.scores[model].value for model in subject.ranking()[:2])
        wins[subject.ranking()[0]] += abs(first - second) >= EQUAL
    most = max(wins.values())
    leaders = [model for model, n in wins.items() if n == most]
    each = "each score highest" if len(leaders) > 1 else "scores highest"
    tail = f" {each} on {most} of {plural(len(shared), 'task')}; without samples nothing can be tested."
    return *named(leaders), tail


def named(models: Sequence[str]) -> Sentence:
    """Return ``a, b and c``, or ``a, b and 4 more``."""
    shown = list(models) if len(models) <= MAX_NAMED else [*models[: MAX_NAMED - 1]]
    parts: list[Part] = []
    for i, model in enumerate(shown):
        last = i == len(shown) - 1 and len(shown) == len(models)
        parts += [" and " if last and parts else ", " if parts else "", Name(model)]
    return (*parts, f" and {len(models) - len(shown)} more") if len(shown) < len(models) else tuple(parts)


def listed(words: Sequence[str]) -> str:
    """Return ``a``, ``a and b``, ``a, b and c``."""
    *others, last = words
    return f"{', '.join(others)} and {last}" if others else last


# A finding per kind.

MAX_RANKED = 4


def findings(report: Report, found: Differences) -> list[KindFinding]:
    """Return a finding for each kind of task."""
    return [_finding(report, found, area) for area in report.areas]


def _finding(report: Report, found: Differences, area: Area) -> KindFinding:
    subject = found.of(area)
    ranking = subject.ranking() if subject else []
    said: list[Part] = []
    if subject:
        said.append(f"{_capital(_score_name(subject))}.")
        said += _leading(subject, ranking)
        if subject.mean and len(ranking) > 1:
            a, b = ranking[:2]
            said += _by_task(count(a, b, found.in_area(area)), a, b)
    others = [s for s in found.in_area(area) if s is not subject and s.rows[0] not in area.shared]
    for other in others[:MAX_OTHER_TASKS]:
        said += _other(other)
    absent = [model for model in report.models if model not in area.able]
    unable = [model for model in absent if all(report.cannot(model, row) for row in area.rows)]
    if unable:
        said += [" ", *named(unable), f" {'has' if len(unable) == 1 else 'have'} no decoder."]
    if rest := [model for model in absent if model not in unable]:
        said += [" No result: ", *named(rest), "."]
    shown = tuple((model, value(subject, model)) for model in ranking[:MAX_RANKED]) if subject else ()
    return KindFinding(area.kind, area.title, shown, len(ranking) - len(shown), tuple(said))


def _score_name(subject: Subject) -> str:
    name = f"mean {subject.metric} of {len(subject.rows)} tasks" if subject.mean else subject.metric
    return f"{name}{direction(subject)}"


def _capital(text: str) -> str:
    return text if text[1:2].isupper() else f"{text[:1].upper()}{text[1:]}"


def _leading(subject: Subject, ranking: Sequence[str]) -> Sentence:
    """Return how the best model compares with the next one."""
    if len(ranking) < 2:
        return ()
    a, b = ranking[:2]
    gap = subject.gap(a, b)
    if gap is None or gap.finding is Finding.UNTESTED:
        return (" The differences are not tested." if gap else " The numbers cannot be compared.",)
    if not gap.significant:
        return " ", Name(a), " and ", Name(b), f": not significant{_detects(gap)}."
    every = len(ranking) > 2 and all(
        (g := subject.gap(x, y)) is not None and g.significant for i, x in enumerate(ranking) for y in ranking[i + 1 :]
    )
    tail = " points. Every difference is significant." if every else " points: significant."
    return " ", Name(a), " leads ", Name(b), f" by {_size(gap)}{tail}"


def _size(gap: Difference) -> str:
    """Return ``5.1 ± 2.2``."""
    return str(gap).lstrip("+−")


def _detects(gap: Difference) -> str:
    return "" if gap.detectable is None else f" (detects {up(gap.detectable, gap.places)} points or more)"


def _by_task(found: Count, a: str, b: str) -> Sentence:
    """Return on which tasks one of two models beats the other."""
    tested = found.total - len(found.untested)
    if not tested:
        return ()
    if not found.wins and not found.losses:
        none = "the only difference is not" if tested == 1 else f"none of the {tested} differences is"
        return (f" Task by task {none} significant.",)
    said: list[Part] = [" Task by task "]
    for first, second, wins in ((a, b, found.wins), (b, a, found.losses)):
        if wins:
            alone = len(wins) == 1
            gain = signed(wins[0].gain(first, second) or 0.0)
            where: Sentence = (
                (Strong(wins[0].label), f" alone ({gain})") if alone else (f"{len(wins)} of {tested} tasks",)
            )
            said += [", " if len(said) > 1 else "", Name(first), " beats ", Name(second), " on ", *where]
    if found.same:
        n = len(found.same)
        said.append(f"; {n} difference{' is' if n == 1 else 's are'} not significant")
    return (*said, ".")


def _other(subject: Subject) -> Sentence:
    """Return the numbers of a task that is not part of the kind's score."""
    ranking, where = subject.ranking(), f" On {subject.label}{direction(subject)} "
    if len(ranking) < 2:
        return (where, Name(ranking[0]), f" alone: {value(subject, ranking[0])}.") if ranking else ()
    a, b = ranking[:2]
    gap = subject.gap(a, b)
    tested = gap is not None and gap.finding is not Finding.UNTESTED
    how = (
        "not tested"
        if gap is None or not tested
        else "significant"
        if gap.significant
        else f"not significant{_detects(gap)}"
    )
    return where, Name(a), f" reaches {value(subject, a)}, ", Name(b), f" {value(subject, b)}: {how}."


# A sentence per section.


def section(report: Report, found: Differences, area: Area, chances: Mapping[str, float]) -> Sentence:
    """Return who is unbeaten on how many tasks, and whether intervals include chance. chances: {task: in points}."""
    subjects = found.in_area(area)
    tested = [subject for subject in subjects if any(subject.status(m) for m in subject.scores)]
    said: list[Part] = []
    if len(tested) > 1:
        said += _unbeaten(tested, found.order(area.able))
    elif tested:
        said += _of_task(tested[0])
    return (*said, *_chance(subjects, chances, bool(said)))


def _unbeaten(subjects: Sequence[Subject], models: Sequence[str]) -> Sentence:
    """Return ``clip is unbeaten on 10 of 10 tasks, coca on 9 of 10.``"""
    parts: list[Part] = []
    for model in models[: MAX_NAMED + 1]:
        status = [s for subject in subjects if (s := subject.status(model))]
        k, tasks = sum(s != "beaten" for s in status), plural(len(status), "task") if not parts else f"{len(status)}"
        parts += [", " if parts else "", Name(model), f"{' is unbeaten' if not parts else ''} on {k} of {tasks}"]
    return (*parts, ".")


def _of_task(subject: Subject) -> Sentence:
    best = [model for model in subject.ranking() if subject.status(model) == BEST]
    if best:
        others = [model for model in subject.scores if model != best[0]]
        whom: Sentence = (Name(others[0]),) if len(others) == 1 else ("every other model",)
        return Name(best[0]), " is significantly better than ", *whom, "."
    unbeaten = [model for model in subject.ranking() if subject.status(model) not in ("", "beaten")]
    if len(unbeaten) == len(subject.scores):
        return ("No difference is significant.",)
    return *named(unbeaten), f" {'is' if len(unbeaten) == 1 else 'are'} not significantly beaten."


def _chance(subjects: Sequence[Subject], chances: Mapping[str, float], more: bool) -> Sentence:
    """Return which intervals include chance."""
    intervals = [
        (subject, model, score.low <= chances[subject.key])
        for subject in subjects
        if subject.key in chances and subject.info.higher_is_better
        for model, score in subject.scores.items()
        if score.low is not None
    ]
    near = [(subject, model) for subject, model, includes in intervals if includes]
    space = " " if more else ""
    if not intervals:
        return ()
    if not near:
        return (f"{space}Every interval lies above chance.",)
    if len(near) == 1:
        ((subject, model),) = near
        return f"{space}On {subject.label} the interval of ", Name(model), " includes chance."
    return (f"{space}{len(near)} of {len(intervals)} intervals include chance.",)
