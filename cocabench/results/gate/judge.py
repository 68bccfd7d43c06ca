"""A baseline and a current run in, Verdicts out."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from cocabench.core.formatting import COSTS, decimals, number, points
from cocabench.core.types import Estimate, MetricInfo, Record, Status, Verdict
from cocabench.metrics import paired, power
from cocabench.metrics.base import Paired
from cocabench.results.compare import (
    Evidence,
    brief,
    choose,
    incomparable,
    limit,
    published_by,
    standard,
    unknown_parts,
)
from cocabench.results.compare.difference import held_against
from cocabench.results.gate.rules import Limits, Rules
from cocabench.results.published import SUFFIX
from cocabench.results.store import RecordSet

ABSENT = "required, but not in the baseline"


@dataclass(frozen=True)
class Check:
    """One metric of the baseline that is to be held: the Record of the current run, if any, and what may not be."""

    before: Record
    now: Record | None
    metric: str
    limits: Limits

    @property
    def info(self) -> MetricInfo:
        return self.before.definitions[self.metric]

    def says(self, status: Status, *, exit_code: int = 0, detail: str = "") -> Verdict:
        return Verdict(
            task=self.before.task,
            model=self.before.model,
            metric=self.metric,
            status=status,
            baseline=self.before.metrics.get(self.metric),
            current=self.now.metrics.get(self.metric) if self.now else None,
            tolerance=self.limits.tolerance,
            exit_code=exit_code,
            detail=detail,
            evaluator=self.before.evaluator,
            notes=unknown_parts(self.before, self.now, self.metric) if self.now else (),
        )


@dataclass(frozen=True)
class Tested:
    """A check with the test of baseline minus now, on the metric's own scale. unpaired as in compare.Difference."""

    check: Check
    test: Paired | None
    unpaired: str

    @property
    def p_drop(self) -> float | None:
        """One-sided p-value of "no drop"."""
        if self.test is None:
            return None
        return self.test.higher if self.check.info.higher_is_better else self.test.lower

    @property
    def p_gain(self) -> float | None:
        """One-sided p-value of "no gain"."""
        if self.test is None:
            return None
        return self.test.lower if self.check.info.higher_is_better else self.test.higher


def gate(baseline: Iterable[Record], current: Iterable[Record], rules: Rules) -> list[Verdict]:
    """Return a Verdict for every metric of the baseline that is checked, in the baseline's order.

    Of several current Records for a model and task, the one that the baseline can be compared with is taken. Where
    each side holds one model, these are compared whatever they are called: a new checkpoint has a new name. Of a
    published baseline only the tasks count that the current run has, and those that a rule requires.
    """
    found = list(current)
    wanted = [r for r in choose(baseline).records if _counts(r, found, rules)]
    evidence = Evidence(*(side for side in (baseline, current) if isinstance(side, RecordSet)))
    checks = [
        Check(record, match(record, found, wanted), metric, limits)
        for record in wanted
        for metric in dict.fromkeys((record.primary, *record.metrics))
        if (limits := rules.limits(record, metric)) is not None
    ]
    settled = {i: verdict for i, check in enumerate(checks) if (verdict := _settled(check)) is not None}
    tested = {i: _tested(check, evidence) for i, check in enumerate(checks) if i not in settled}
    settled |= dict(zip(tested, judged(list(tested.values())), strict=True))
    absent = [
        Verdict(rule.task, rule.model, rule.metric, Status.MISSING, exit_code=1, detail=ABSENT)
        for rule in rules.unmatched(wanted)
    ]
    return [*(settled[i] for i in range(len(checks))), *absent]


def _counts(record: Record, current: Sequence[Record], rules: Rules) -> bool:
    return not published_by(record) or any(r.task == record.task for r in current) or rules.insist(record)


def match(record: Record, current: Sequence[Record], wanted: Sequence[Record]) -> Record | None:
    """Return the current Record that a Record of the baseline is held against, None where there is none."""
    single = len({r.model for r in wanted}) == len({r.model for r in current}) == 1
    name = record.model.removesuffix(SUFFIX) if published_by(record) else record.model
    same = [r for r in current if r.task == record.task and (single or r.model == name)]
    like = [r for r in same if not apart(record, r, record.primary)]
    return next(iter(choose(like or same).records), None)


def apart(before: Record, now: Record, metric: str) -> tuple[str, ...]:
    """Return why a metric of the two cannot be compared. Of a published baseline, only its images are counted."""
    if not published_by(before) or published_by(now):
        return incomparable(before, now, metric)
    published = {e.n for e in before.metrics.values()} - {0}
    measured = {e.n for e in now.metrics.values()} - {0}
    reasons = []
    if (n := limit(now)) is not None:
        reasons.append(f"limited to {n} samples, the published number is not")
    elif published and measured and not published & measured:
        reasons.append(f"images: {min(published)} published, {max(measured)} measured")
    if not standard(now):
        reasons.append("not the standard protocol")
    return tuple(reasons)


def _settled(check: Check) -> Verdict | None:
    """Return the Verdict where there is nothing to test."""
    if check.now is not None and (reasons := apart(check.before, check.now, check.metric)):
        return check.says(Status.INCOMPARABLE, exit_code=2, detail=brief(reasons))
    if why := _absence(check):
        tail = "" if check.limits.required else "; not required"
        return check.says(Status.MISSING, exit_code=int(check.limits.required), detail=why + tail)
    return None


def _absence(check: Check) -> str:
    """Return why one of the two numbers is not there, '' where both are."""
    old, now = check.before.metrics.get(check.metric), check.now
    if old is None or old.value is None:
        return "undefined in the baseline" if old else "not in the baseline"
    if now is None:
        return "no current Record of this model and task"
    if reason := now.skipped_metrics.get(check.metric):
        return f"skipped: {reason}"
    if check.metric not in now.metrics:
        return "not measured now"
    return "undefined now (n=0)" if now.metrics[check.metric].value is None else ""


def _tested(check: Check, evidence: Evidence) -> Tested:
    assert check.now, "a check without a current Record is settled"
    before = check.before
    if published_by(before):
        as_ours = _widened(before.metrics[check.metric], check.now.metrics[check.metric])
        before = before.model_copy(update={"metrics": {check.metric: as_ours}})
    return Tested(check, *held_against(before, check.now, check.metric, evidence))


def _widened(published: Estimate, ours: Estimate) -> Estimate:
    """Return a published number with the interval of ours about it: it comes without one, from as many images."""
    assert published.value is not None, "settled before"
    assert ours.value is not None, "settled before"
    if published.low is not None or ours.low is None or ours.high is None:
        return published
    shift = published.value - ours.value
    return published.model_copy(update={"low": ours.low + shift, "high": ours.high + shift})


def judged(tested: Sequence[Tested]) -> list[Verdict]:
    """Return the Verdicts of tests whose p-values hold for all of them together."""
    family = [i for i, one in enumerate(tested) if one.test is not None]
    drops = dict(zip(family, paired.holm([tested[i].p_drop or 0.0 for i in family]), strict=True))
    gains = dict(zip(family, paired.holm([tested[i].p_gain or 0.0 for i in family]), strict=True))
    return [_judged(one, drops.get(i), gains.get(i), len(family)) for i, one in enumerate(tested)]


def _judged(tested: Tested, p_drop: float | None, p_gain: float | None, family: int) -> Verdict:
    """p_drop, p_gain: after Holm, None where nothing can be tested."""
    check = tested.check
    old, new = check.before.metrics[check.metric], check.now.metrics[check.metric] if check.now else None
    assert old.value is not None, "settled before"
    assert new is not None, "settled before"
    assert new.value is not None, "settled before"
    gap = points(new.value - old.value, check.info)
    least = _detectable(tested, family)
    status = status_of(
        gap if check.info.higher_is_better else -gap,
        check.limits,
        p_drop=p_drop,
        p_gain=p_gain,
        detectable=least,
        unchanged=_unchanged(tested, gap),
    )
    exit_code = {Status.REGRESSED: 1, Status.CANNOT_TELL: check.limits.cannot_tell}.get(status, 0)
    low, high = (None, None) if tested.test is None else (tested.test.high, tested.test.low)
    return replace(
        check.says(status, exit_code=exit_code, detail=f"{number(old, check.info)} → {number(new, check.info)}"),
        difference=gap,
        places=decimals(points(max(abs(old.value), abs(new.value)), check.info), check.info),
        low=None if low is None else -points(low, check.info),
        high=None if high is None else -points(high, check.info),
        p_value=p_drop,
        family=family,
        detectable=least,
        changed=tested.test.changed if tested.test else None,
        unpaired=tested.unpaired,
    )


def _unchanged(tested: Tested, gap: float) -> bool:
    """Return whether no outcome differs; costs that come without an interval are exact."""
    if tested.test is None:
        return gap == 0 and tested.check.info.unit in COSTS
    return tested.test.changed == 0


def _detectable(tested: Tested, family: int) -> float | None:
    """Return the smallest true drop, in points, that the gate finds in 80 of 100 cases, None where unknown."""
    if tested.test is None or math.isnan(tested.test.error):
        return None
    level = (1 - tested.check.limits.confidence) / family
    return points(power.detectable(tested.test, level=level), tested.check.info)


def status_of(
    gain: float,
    limits: Limits,
    *,
    p_drop: float | None,
    p_gain: float | None,
    detectable: float | None,
    unchanged: bool = False,
) -> Status:
    """Return what a difference means. gain: in points, positive is better; the other numbers as in Verdict.

    Beyond the tolerance counts, at the tolerance does not; 1e-9 points absorb the rounding of floats.
    """
    alpha = 1 - limits.confidence
    beyond = abs(gain) > limits.tolerance + 1e-9
    if beyond and gain < 0 and p_drop is not None:
        return Status.REGRESSED if p_drop <= alpha else Status.WITHIN_NOISE
    if beyond and gain > 0 and p_gain is not None and p_gain <= alpha:
        return Status.IMPROVED
    if unchanged:
        return Status.PASS
    return Status.PASS if detectable is not None and detectable <= limits.tolerance else Status.CANNOT_TELL
