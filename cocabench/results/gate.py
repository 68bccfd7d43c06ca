"""The gate: is the current run as good as the baseline? One Verdict per metric that is checked, by a test.

regressed      the drop exceeds the tolerance, and the one-sided test of "no drop" rejects
within noise   the drop exceeds the tolerance, and the test does not reject
cannot tell    no such drop, but the test cannot detect one of the tolerance's size, or nothing can be tested
improved       the gain exceeds the tolerance, and the one-sided test of "no gain" rejects
pass           none of these: the test would detect a drop of the tolerance's size, or no outcome changed
missing        the current run, or the baseline, does not have the number
incomparable   protocol parts of the signatures differ

Tests are paired if both sides have samples, else of two independent numbers; p-values are Holm-corrected for all
checked metrics.

A rules file says what is checked. The primary metric of every task in the baseline always is; rules add metrics and set
limits. Of several rules that match, the later one wins, key by key:

    [defaults]
    tolerance   = 0.2        # points: fractions and caption scores times 100; other units as they are
    confidence  = 0.95       # of the one-sided test, for all checked metrics together
    required    = true       # false: what the current run does not have is no failure
    cannot_tell = 0          # the exit code where the test cannot detect a drop of the tolerance's size

    [[rule]]
    task      = "emoji_*"    # a name or a pattern; "*" when left out
    model     = "demo/*"     # likewise
    metric    = "primary"    # "primary", a name or a pattern
    tolerance = 1.0
    required  = true         # written out, it also fails when the baseline has nothing that matches

A rule may hold a group of checkpoints that differ in their seeds (model, of the current run) to another one (against,
of the baseline); seeds and images are both drawn then, and fewer than three seeds of each cannot tell:

    [recipes]
    old = ["runs/old/seed*"]

    [[rule]]
    model   = "runs/new/seed*"
    against = "old"          # a name in [recipes], or a pattern of the baseline's models

Which direction is better is the metric's own.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated

from pydantic import Field, StrictBool, ValidationError

from cocabench.core.errors import SpecError
from cocabench.core.formatting import COST_UNITS, decimals, number, plural, points
from cocabench.core.types import Estimate, MetricInfo, Note, Record, Status, Verdict
from cocabench.metrics import paired, power
from cocabench.metrics.base import Paired
from cocabench.results.difference import Evidence, paired_or_independent
from cocabench.results.published import SUFFIX
from cocabench.results.recipes import Recipe, absent, over_seeds
from cocabench.results.recipes import check as check_seeds
from cocabench.results.records import (
    choose,
    comparable,
    first_reasons,
    incomparable,
    limit,
    measured_otherwise,
    published_by,
    resize_differences,
    standard,
    unknown_parts,
)
from cocabench.results.store import RecordSet
from cocabench.specs.spec import Spec, problems, read_toml

Points = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(gt=0.5, lt=1)]
ExitCode = Annotated[int, Field(ge=0, le=2, strict=True)]


class Limits(Spec):
    """The limits of one metric; as [defaults], those of metrics without a rule."""

    tolerance: Points = 0.2
    confidence: Share = 0.95
    required: StrictBool = True
    cannot_tell: ExitCode = 0


class Rule(Spec):
    """The metrics that it applies to, and the limits that it sets for them."""

    task: str = "*"
    model: str = "*"
    metric: str = "primary"
    against: str | None = None
    tolerance: Points | None = None
    confidence: Share | None = None
    required: StrictBool | None = None
    cannot_tell: ExitCode | None = None

    def matches(self, record: Record, metric: str) -> bool:
        """Return whether the rule applies to a metric. Health metrics have to be named; patterns do not match them."""
        wanted = record.primary if self.metric == "primary" else self.metric
        if metric != wanted and metric in record.definitions and record.definitions[metric].kind == "health":
            return False
        pairs = ((record.task, self.task), (record.model, self.model), (metric, wanted))
        return self.against is None and all(fnmatchcase(name, pattern) for name, pattern in pairs)

    def metrics_of(self, record: Record) -> list[str]:
        """Return the metrics of a baseline's Record that a rule of groups checks."""
        if not fnmatchcase(record.task, self.task):
            return []
        wanted = record.primary if self.metric == "primary" else self.metric
        return [m for m in record.metrics if m == wanted or (self.metric != "primary" and fnmatchcase(m, wanted))]


class Rules(Spec):
    """A rules file."""

    defaults: Limits = Limits()
    rule: tuple[Rule, ...] = ()
    recipes: dict[str, tuple[str, ...]] = Field(default_factory=dict)

    def in_group(self, model: str, name: str) -> bool:
        """Return whether a model is of a recipe, by its name in [recipes] or a pattern."""
        return any(model == pattern or fnmatchcase(model, pattern) for pattern in self.recipes.get(name, (name,)))

    def grouped(self, record: Record) -> bool:
        """Return whether a baseline's Record is judged as one of a group."""
        return any(rule.against and self.in_group(record.model, rule.against) for rule in self.rule)

    def limits(self, record: Record, metric: str) -> Limits | None:
        """Return the limits of a metric of a baseline's Record, None if it is not checked."""
        matching = [rule for rule in self.rule if rule.matches(record, metric)]
        if not matching and metric != record.primary:
            return None
        return self.with_limits(matching)

    def with_limits(self, matching: Iterable[Rule]) -> Limits:
        """Return the defaults with what rules say; of several the later one wins, key by key."""
        pairs = ((name, getattr(rule, name)) for rule in matching for name in Limits.model_fields)
        return self.defaults.model_copy(update={name: value for name, value in pairs if value is not None})

    def requires(self, record: Record) -> bool:
        """Return whether a rule with ``required = true`` applies to one of a Record's metrics."""
        return any(rule.required and rule.matches(record, metric) for rule in self.rule for metric in record.metrics)

    def unmatched(self, records: Iterable[Record]) -> list[Rule]:
        """Return the rules with ``required = true`` that apply to nothing in the baseline."""
        found = [(record, metric) for record in records for metric in record.metrics]
        own = [rule for rule in self.rule if rule.required and not rule.against]
        return [rule for rule in own if not any(rule.matches(r, m) for r, m in found)]


def read_rules(path: Path) -> Rules:
    """Return the rules of a TOML file; SpecError with all of its errors."""
    try:
        return Rules.model_validate(read_toml(path))
    except ValidationError as error:
        known = sorted({*Rules.model_fields, *Limits.model_fields, *Rule.model_fields})
        raise SpecError(str(path), problems(error, known)) from None


@dataclass(frozen=True)
class Check:
    """One metric of a baseline's Record, its limits, and the current Record to compare, None if there is none."""

    before: Record
    now: Record | None
    metric: str
    limits: Limits

    @property
    def info(self) -> MetricInfo:
        return self.before.definitions[self.metric]

    def _notes(self) -> tuple[Note, ...]:
        if self.now is None:
            return ()
        return (*unknown_parts(self.before, self.now, self.metric), *measured_otherwise(self.before, self.now))

    def verdict(self, status: Status, *, exit_code: int = 0, detail: str = "") -> Verdict:
        model = self.now.model if self.now else self.before.model
        return Verdict(
            task=self.before.task,
            model=model,
            against=self.before.model if self.before.model != model else "",
            metric=self.metric,
            status=status,
            baseline=self.before.metrics.get(self.metric),
            current=self.now.metrics.get(self.metric) if self.now else None,
            tolerance=self.limits.tolerance,
            exit_code=exit_code,
            detail=detail,
            evaluator=self.before.evaluator,
            notes=self._notes(),
        )


@dataclass(frozen=True)
class Tested:
    """A check of two defined numbers with the test of baseline minus now, on the metric's own scale.

    test is None if there is no test. unpaired: as in ``difference.Difference``.
    """

    check: Check
    before: Estimate
    now: Estimate
    test: Paired | None
    unpaired: str

    @property
    def p_values(self) -> tuple[float, float]:
        """One-sided p-values of "no drop" and of "no gain"; 1 if there is no test."""
        if self.test is None:
            return 1.0, 1.0
        higher, lower = self.test.higher, self.test.lower
        return (higher, lower) if self.check.info.higher_is_better else (lower, higher)


def gate(baseline: Iterable[Record], current: Iterable[Record], rules: Rules) -> list[Verdict]:
    """Return a Verdict for every metric of the baseline that is checked, in the baseline's order.

    Of several Records of a model and task, in the baseline or now, one that is comparable with the other side is taken,
    by the order of ``records.choose``. If each side has one model, these are compared whatever their names: a new
    checkpoint has a new name. Of a published baseline, only tasks that the current run has or that a rule requires are
    checked.
    """
    found = list(current)
    tasks = {record.task for record in found}
    held = choose(_with_comparable(tuple(baseline), found)).records
    wanted = [r for r in held if not rules.grouped(r) and (not published_by(r) or r.task in tasks or rules.requires(r))]
    evidence = Evidence(*(side for side in (baseline, current) if isinstance(side, RecordSet)))
    groups = [_of_group(*group, evidence) for group in _groups(held, choose(found).records, rules)]
    checks = [
        Check(record, now, metric, limits)
        for record, now in zip(wanted, matches(wanted, found), strict=True)
        for metric in dict.fromkeys((record.primary, *record.metrics))
        if (limits := rules.limits(record, metric)) is not None
    ]
    untested = [_verdict_without_test(check) for check in checks]
    tested = [_tested(check, evidence) for check, verdict in zip(checks, untested, strict=True) if verdict is None]
    judged = iter(_judged([*tested, *(one for one in groups if isinstance(one, Tested))]))
    required = (
        Verdict(r.task, r.model, r.metric, Status.MISSING, exit_code=1, detail="required, but not in the baseline")
        for r in rules.unmatched(wanted)
    )
    singles = [verdict or next(judged) for verdict in untested]
    return [*singles, *(next(judged) if isinstance(one, Tested) else one for one in groups), *required]


def _groups(
    baseline: Sequence[Record], current: Sequence[Record], rules: Rules
) -> Iterator[tuple[Recipe, Recipe, str, str, Limits]]:
    """Yield what is checked of groups: the baseline's, the current run's, task, metric and limits.

    Of a rule that matches nothing in the baseline, the groups are empty and task and metric are its own.
    """
    checks: dict[tuple[str, str, str, str], list[Rule]] = {}
    for rule in rules.rule:
        if rule.against is None:
            continue
        known = [(r.task, m) for r in baseline if rules.in_group(r.model, rule.against) for m in rule.metrics_of(r)]
        for task, metric in dict.fromkeys(known) or [(rule.task, rule.metric)]:
            checks.setdefault((rule.against, rule.model, task, metric), []).append(rule)
    for (against, model, task, metric), own in checks.items():
        before = tuple(r for r in baseline if r.task == task and rules.in_group(r.model, against))
        now = tuple(r for r in current if r.task == task and rules.in_group(r.model, model))
        yield Recipe(against, before), Recipe(model, now), task, metric, rules.with_limits(own)


def _of_group(
    before: Recipe, now: Recipe, task: str, metric: str, limits: Limits, evidence: Evidence
) -> Tested | Verdict:
    """Return the test of the mean over seeds of one group against another's, or the Verdict where there is none."""

    def verdict(status: Status, exit_code: int, detail: str) -> Verdict:
        code = exit_code if limits.required or status is not Status.MISSING else 0
        return Verdict(task, now.name, metric, status, exit_code=code, detail=detail, against=before.name)

    if not before.records:
        return verdict(Status.MISSING, 1, f"no model of the baseline matches {before.name!r}")
    if not now.records:
        return verdict(Status.MISSING, 1, f"no model of the current run matches {now.name!r} on this task")
    for side, where in ((before, f"against = {before.name!r}"), (now, f"model = {now.name!r}")):
        check_seeds(side, where)
    if why := absent(before.records, now.records, metric):
        incomparables = why.startswith("incomparable")
        return verdict(Status.INCOMPARABLE if incomparables else Status.MISSING, 2 if incomparables else 1, why)
    found, unpaired = over_seeds([(before.records, now.records, metric)], evidence)
    old, new = (_mean_of(side, metric) for side in (before, now))
    checked = Check(_named(before, metric, old), _named(now, metric, new), metric, limits)
    return Tested(checked, old, new, found.test if found else None, unpaired)


def _named(side: Recipe, metric: str, mean: Estimate) -> Record:
    """Return a Record of a group that stands for all of them, with their mean."""
    return side.records[0].model_copy(update={"model": side.name, "metrics": {metric: mean}})


def _mean_of(side: Recipe, metric: str) -> Estimate:
    """Return the mean over checkpoints, without an interval of its own."""
    numbers = [r.metrics[metric] for r in side.records]
    value = math.fsum(e.value or 0.0 for e in numbers) / len(numbers)
    return Estimate(value=value, low=None, high=None, n=min(e.n for e in numbers))


def matches(baseline: Sequence[Record], current: Sequence[Record]) -> Iterator[Record | None]:
    """Yield for each Record of the baseline the current one to compare, None where there is none."""
    for record, same in _candidates(baseline, current):
        like = [r for r in same if not _incomparable(record, r, record.primary)]
        yield next(iter(choose(like or same).records), None)


def _candidates(baseline: Sequence[Record], current: Sequence[Record]) -> Iterator[tuple[Record, Sequence[Record]]]:
    """Yield each Record of the baseline with the current ones of its task and model, or of the only one."""
    single = len({r.model for r in baseline}) == len({r.model for r in current}) == 1
    of_task: dict[tuple[str, str], list[Record]] = {}
    for r in current:
        of_task.setdefault((r.task, "" if single else r.model), []).append(r)
    for record in baseline:
        name = record.model.removesuffix(SUFFIX) if published_by(record) else record.model
        yield record, of_task.get((record.task, "" if single else name), [])


def _with_comparable(baseline: Sequence[Record], current: Sequence[Record]) -> Iterator[Record]:
    """Yield the baseline's Records; of several of a model and task those with a comparable current one, if any."""
    groups: dict[tuple[str, str], list[tuple[Record, Sequence[Record]]]] = {}
    for record, same in _candidates(baseline, current):
        groups.setdefault((record.model, record.task), []).append((record, same))
    for group in groups.values():
        yield from comparable([record for record, _ in group], group[0][1], _incomparable)


def _incomparable(before: Record, now: Record, metric: str) -> tuple[str, ...]:
    """Return why a metric of the two cannot be compared. Of a published one only images and --resize are checked."""
    if not published_by(before) or published_by(now):
        return incomparable(before, now, metric)
    published = {e.n for e in before.metrics.values()} - {0}
    measured = {e.n for e in now.metrics.values()} - {0}
    reasons = []
    if (n := limit(now)) is not None:
        reasons.append(f"limited to {plural(n, 'sample')}, unlike the published number")
    elif published and measured and not published & measured:
        reasons.append(f"images: {min(published)} published, {max(measured)} measured")
    if not standard(now):
        reasons.append("not the standard protocol")
    return (*reasons, *resize_differences(before, now))


def _verdict_without_test(check: Check) -> Verdict | None:
    """Return the Verdict if the two numbers cannot be compared or one is missing, else None."""
    if check.now is not None and (reasons := _incomparable(check.before, check.now, check.metric)):
        return check.verdict(Status.INCOMPARABLE, exit_code=2, detail=first_reasons(reasons))
    if why := _absence(check):
        tail = "" if check.limits.required else "; not required"
        return check.verdict(Status.MISSING, exit_code=int(check.limits.required), detail=why + tail)
    return None


def _absence(check: Check) -> str:
    """Return why one of the two numbers is missing, '' if none is."""
    old, now = check.before.metrics.get(check.metric), check.now
    if old is None or old.value is None:
        return "undefined in the baseline" if old else "not in the baseline"
    if now is None:
        return "no result of this model and task in the current run"
    if reason := now.skipped_metrics.get(check.metric):
        return f"skipped: {reason}"
    if check.metric not in now.metrics:
        return "not in the current run"
    return "undefined in the current run (n=0)" if now.metrics[check.metric].value is None else ""


def _tested(check: Check, evidence: Evidence) -> Tested:
    assert check.now, "a check without a current Record has its verdict"
    before, metric = check.before, check.metric
    old, new = before.metrics[metric], check.now.metrics[metric]
    compared = before
    if published_by(before):
        compared = before.model_copy(update={"metrics": {metric: _with_interval_of(new, old)}})
    return Tested(check, old, new, *paired_or_independent(compared, check.now, metric, evidence))


def _with_interval_of(ours: Estimate, published: Estimate) -> Estimate:
    """Give a published number, which has no interval, the width of ours: it was measured on as many images."""
    if published.value is None or ours.value is None or published.low is not None:
        return published
    if ours.low is None or ours.high is None:
        return published
    shift = published.value - ours.value
    return published.model_copy(update={"low": ours.low + shift, "high": ours.high + shift})


def _judged(tested: Sequence[Tested]) -> list[Verdict]:
    """Return the Verdicts of tests, with p-values corrected for all of them."""
    raw = [one.p_values for one in tested if one.test is not None]
    drops, gains = ([pair[side] for pair in raw] for side in (0, 1))
    adjusted = zip(paired.holm(drops), paired.holm(gains), strict=True)
    return [_verdict(one, next(adjusted) if one.test else None, len(raw)) for one in tested]


def _verdict(tested: Tested, p_values: tuple[float, float] | None, family: int) -> Verdict:
    """p_values: of no drop and of no gain, Holm-corrected; None if there is no test."""
    p_drop, p_gain = p_values or (None, None)
    check, old, new, test = tested.check, tested.before, tested.now, tested.test
    assert old.value is not None, "a check of an undefined number has its verdict"
    assert new.value is not None, "a check of an undefined number has its verdict"
    info, gap = check.info, points(new.value - old.value, check.info)
    detectable = _detectable(tested, family)
    status = status_of(
        gap if info.higher_is_better else -gap,
        check.limits,
        p_drop=p_drop,
        p_gain=p_gain,
        detectable=detectable,
        unchanged=test.changed == 0 if test else gap == 0 and info.unit in COST_UNITS,
    )
    exit_code = {Status.REGRESSED: 1, Status.CANNOT_TELL: check.limits.cannot_tell}.get(status, 0)
    return replace(
        check.verdict(status, exit_code=exit_code, detail=f"{number(old, info)} → {number(new, info)}"),
        difference=gap,
        places=decimals(points(max(abs(old.value), abs(new.value)), info), info),
        low=-points(test.high, info) if test else None,
        high=-points(test.low, info) if test else None,
        p_value=p_drop,
        family=family,
        detectable=detectable,
        changed=test.changed if test else None,
        unpaired=tested.unpaired,
    )


def _detectable(tested: Tested, family: int) -> float | None:
    """Return the smallest true drop, in points, that the gate finds in 80 of 100 cases, None if unknown."""
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
    """Return the status of a difference. gain: in points, positive is better; the other numbers as in Verdict.

    unchanged: no outcome differs (costs without an interval are exact). A difference of exactly the tolerance is within
    it; 1e-9 points absorb the rounding of floats.
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
