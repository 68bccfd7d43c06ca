"""The gate: is the current run as good as the baseline, within a tolerance? One Verdict per metric that is checked.

The primary metric of every task in the baseline is always checked. Rules in a TOML file add metrics and set
tolerances; of several rules that match, the later one wins, key by key:

    [defaults]
    tolerance = 0.2          # points: fractions and caption scores times 100; ranks as they are
    required  = true         # false: what the current run does not have is not held against it

    [[rule]]
    task      = "emoji_*"    # a name or a pattern; "*" when left out
    model     = "demo/*"     # likewise
    metric    = "primary"    # "primary", a name or a pattern
    tolerance = 1.0
    required  = true         # written out, it also fails when the baseline has nothing that matches
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, NamedTuple

from junitparser import Error, Failure, JUnitXml, TestCase, TestSuite
from pydantic import Field, StrictBool, ValidationError

from cocabench.compare import brief, choose, incomparable
from cocabench.errors import SpecError
from cocabench.report.text import escape, number, points, signed, table
from cocabench.spec import Spec, problems, read_toml
from cocabench.types import Estimate, Record, Status, Verdict

Points = Annotated[float, Field(ge=0, allow_inf_nan=False)]
FAILED = (Status.REGRESSED, Status.MISSING)
ORDER = (Status.REGRESSED, Status.MISSING, Status.INCOMPARABLE, Status.CANNOT_TELL, Status.WITHIN_NOISE)
"""What needs attention, first things first; improved and pass follow."""


HEADER = ["verdict", "task", "model", "metric", "baseline → now, or why not", "difference", "tolerance"]


class Defaults(Spec):
    """Used where no rule says otherwise."""

    tolerance: Points = 0.2
    required: StrictBool = True


class Rule(Spec):
    """Which metrics it is about, and what holds for them (None: not said)."""

    task: str = "*"
    model: str = "*"
    metric: str = "primary"
    tolerance: Points | None = None
    required: StrictBool | None = None

    def matches(self, record: Record, metric: str) -> bool:
        wanted = record.primary if self.metric == "primary" else self.metric
        return (
            fnmatchcase(record.task, self.task)
            and fnmatchcase(record.model, self.model)
            and fnmatchcase(metric, wanted)
        )


class Rules(Spec):
    """A rules file."""

    defaults: Defaults = Defaults()
    rule: tuple[Rule, ...] = ()


class Limits(NamedTuple):
    """What holds for one metric: tolerance in points, and whether the current run must have it."""

    tolerance: float
    required: bool


def read_rules(path: Path) -> Rules:
    """Return the rules of a TOML file; SpecError with everything that is wrong with it."""
    try:
        return Rules.model_validate(read_toml(path))
    except ValidationError as error:
        known = sorted({*Rules.model_fields, *Defaults.model_fields, *Rule.model_fields})
        raise SpecError(str(path), problems(error, known)) from None


def gate(baseline: Iterable[Record], current: Iterable[Record], rules: Rules) -> list[Verdict]:
    """Return a Verdict for every metric of the baseline that is checked, in the baseline's order.

    Of several current Records for a model and task, the one that the baseline can be compared with is taken. Where
    each side holds one model, these are compared whatever they are called: a new checkpoint has a new name.
    """
    wanted, found = choose(baseline).records, list(current)
    single = len({r.model for r in wanted}) == len({r.model for r in found}) == 1
    verdicts = [
        _verdict(record, metric, limits, _match(record, found, any_model=single))
        for record in wanted
        for metric in dict.fromkeys((record.primary, *record.metrics))
        if (limits := _limits(record, metric, rules)) is not None
    ]
    return [*verdicts, *_unmatched(wanted, rules)]


def _limits(record: Record, metric: str, rules: Rules) -> Limits | None:
    """Return what holds for a metric, or None where it is not checked."""
    matching = [rule for rule in rules.rule if rule.matches(record, metric)]
    if not matching and metric != record.primary:
        return None
    tolerances = [rule.tolerance for rule in matching if rule.tolerance is not None]
    required = [rule.required for rule in matching if rule.required is not None]
    return Limits([rules.defaults.tolerance, *tolerances][-1], [rules.defaults.required, *required][-1])


def _match(record: Record, current: Sequence[Record], *, any_model: bool) -> Record | None:
    same = [r for r in current if r.task == record.task and (any_model or r.model == record.model)]
    like = [r for r in same if not incomparable(record, r)]
    return next(iter(choose(like or same).records), None)


def _unmatched(records: Sequence[Record], rules: Rules) -> list[Verdict]:
    return [
        Verdict(rule.task, rule.model, rule.metric, Status.MISSING, detail="required, but not in the baseline")
        for rule in rules.rule
        if rule.required and not any(rule.matches(r, metric) for r in records for metric in r.metrics)
    ]


def _verdict(before: Record, metric: str, limits: Limits, now: Record | None) -> Verdict:
    old = before.metrics.get(metric)
    new = now.metrics.get(metric) if now else None

    def say(status: Status, detail: str = "", gap: float | None = None) -> Verdict:
        return Verdict(before.task, before.model, metric, status, old, new, gap, limits.tolerance, detail)

    if now is not None and (reasons := incomparable(before, now)):
        return say(Status.INCOMPARABLE, brief(reasons))
    if old is None or old.value is None or new is None or new.value is None:
        why = _absence(metric, old, now)
        return say(Status.MISSING, why) if limits.required else say(Status.PASS, f"{why}; not required")
    info = before.definitions[metric]
    gap = points(new.value - old.value, info)
    gain = gap if info.higher_is_better else -gap
    return say(_status(gain, limits.tolerance), f"{number(old, info)} → {number(new, info)}", gap)


def _absence(metric: str, old: Estimate | None, now: Record | None) -> str:
    if old is None or old.value is None:
        return "undefined in the baseline" if old else "not in the baseline"
    if now is None:
        return "no current Record of this model and task"
    if reason := now.skipped_metrics.get(metric):
        return f"skipped: {reason}"
    if metric not in now.metrics:
        return "not measured now"
    return "undefined now (n=0)"


def _status(gain: float, tolerance: float) -> Status:
    """Beyond the tolerance counts, at the tolerance passes; 1e-9 points absorb the rounding of floats."""
    if gain < -tolerance - 1e-9:
        return Status.REGRESSED
    return Status.IMPROVED if gain > tolerance + 1e-9 else Status.PASS


def exit_code(verdicts: Iterable[Verdict]) -> int:
    """Return 1 if anything regressed or is missing, else 2 if anything is incomparable or nothing was checked; or 0."""
    found = {v.status for v in verdicts}
    if found & set(FAILED):
        return 1
    return 2 if Status.INCOMPARABLE in found or not found else 0


def sentence(verdict: Verdict) -> str:
    """Return ``58.4 ± 1.3 (n=5000) → 56.1 ± 1.3 (n=5000): −2.3, tolerance 0.2``, or why there is no difference."""
    if verdict.difference is None:
        return verdict.detail
    return f"{verdict.detail}: {signed(verdict.difference)}, tolerance {verdict.tolerance:g}"


def to_junit(verdicts: Sequence[Verdict]) -> str:
    """Return JUnit XML: a suite per model, a case per task and metric; incomparable is an error, not a failure."""
    document = JUnitXml("cocabench gate")
    for model in dict.fromkeys(v.model for v in verdicts):
        suite = TestSuite(model)
        suite.add_testcases([_case(v) for v in verdicts if v.model == model])
        document.add_testsuite(suite)
    document.update_statistics()  # type: ignore[no-untyped-call]
    return str(document.tostring().decode())  # type: ignore[no-untyped-call]


def _case(verdict: Verdict) -> TestCase:
    case = TestCase(verdict.metric, classname=verdict.task, time=0)
    message = "".join(c if c.isprintable() else " " for c in f"{verdict.status}: {sentence(verdict)}")
    if verdict.status in FAILED:
        case.result = [Failure(message, type_=verdict.status.value)]
    elif verdict.status is Status.INCOMPARABLE:
        case.result = [Error(message, type_=verdict.status.value)]
    else:
        case.system_out = message
    return case


def headline(verdicts: Sequence[Verdict]) -> str:
    """Return ``Gate failed: 1 regressed, 1 missing, 18 pass.``"""
    counts = Counter(v.status for v in verdicts)
    said = ", ".join(f"{counts[s]} {s}" for s in sorted(counts, key=_rank)) or "nothing was checked"
    return f"Gate {('passed', 'failed', 'cannot be judged')[exit_code(verdicts)]}: {said}."


def _rank(status: Status) -> tuple[int, str]:
    return (ORDER.index(status) if status in ORDER else len(ORDER)), status


def row(verdict: Verdict) -> list[str]:
    """Return what stands below HEADER, unescaped."""
    gap = "" if verdict.difference is None else signed(verdict.difference)
    tolerance = "" if verdict.tolerance is None else f"{verdict.tolerance:g}"
    return [verdict.status.value, verdict.task, verdict.model, verdict.metric, verdict.detail, gap, tolerance]


def to_markdown(verdicts: Sequence[Verdict]) -> str:
    """Return a summary for a CI page: the headline, and a line per Verdict, what needs attention first."""
    lines = [[escape(cell) for cell in row(v)] for v in sorted(verdicts, key=lambda v: _rank(v.status)[0])]
    marked = [[f"**{line[0]}**" if line[0] in ORDER else line[0], *line[1:]] for line in lines]
    return f"**{headline(verdicts)}**\n\n{table(HEADER, marked, left=5)}"
