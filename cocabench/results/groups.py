"""The means of groups that publish one: datacomp_average over DataComp's 38 main metrics, and its parts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from cocabench.core.types import Estimate, Record
from cocabench.results.records import limit, standard
from cocabench.specs.groups import Member, means


class GroupMean(NamedTuple):
    """A model's plain mean over a group's main metrics.

    value: a fraction, None while a task is missing. half: half of its 95 % interval, by the intervals of the tasks,
    which share no images; None where one has none. n: how many tasks there are; of: how many make the mean. missing:
    the tasks without a number. other: those on other data than the standard protocol's.
    """

    value: float | None
    half: float | None
    n: int
    of: int
    missing: tuple[str, ...]
    other: tuple[str, ...]

    @property
    def text(self) -> str:
        """``58.1 ± 0.3``, or ``36 of 38 tasks``."""
        if self.value is None:
            return f"{self.n} of {self.of} tasks"
        return f"{100 * self.value:.1f}" + ("" if self.half is None else f" ± {math.ceil(1000 * self.half) / 10:.1f}")


def group_means(records: Iterable[Record]) -> Mapping[str, Mapping[str, GroupMean]]:
    """Return {mean: {model: GroupMean}} of records, one per model and task; without models that have none of a mean."""
    by_model: dict[str, dict[str, Record]] = {}
    for record in records:
        by_model.setdefault(record.model, {})[record.task] = record
    found = {name: {model: _mean(own, members) for model, own in by_model.items()} for name, members in means().items()}
    return {name: {model: mean for model, mean in own.items() if mean.n} for name, own in found.items()}


def estimate_of(records: Mapping[str, Record], member: Member) -> Estimate | None:
    """Return a member's main metric by {task: Record}; None where it is missing or undefined."""
    record = records.get(member.task)
    found = record.metrics.get(member.metric) if record else None
    return found if found is not None and found.value is not None else None


def _mean(records: Mapping[str, Record], members: tuple[Member, ...]) -> GroupMean:
    estimates = {member.task: estimate_of(records, member) for member in members}
    values = [e.value for e in estimates.values() if e and e.value is not None]
    halves = [(e.high - e.low) / 2 for e in estimates.values() if e and e.low is not None and e.high is not None]
    whole = len(values) == len(members)
    return GroupMean(
        math.fsum(values) / len(values) if whole else None,
        math.hypot(*halves) / len(halves) if whole and len(halves) == len(members) else None,
        len(values),
        len(members),
        tuple(task for task, e in estimates.items() if e is None),
        tuple(t for t, e in estimates.items() if e and (not standard(records[t]) or limit(records[t]) is not None)),
    )
