"""Verdicts as text: the headline, the table, the Markdown summary, JUnit XML; and the exit code."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from junitparser import Error, Failure, JUnitXml, Skipped, TestCase, TestSuite

from cocabench.core.formatting import escape, p_text, plural, table
from cocabench.core.types import Status, Verdict
from cocabench.metrics.power import POWER
from cocabench.results.compare import of_kinds
from cocabench.results.difference import detects, with_interval
from cocabench.results.records import first_reasons

ORDER = (
    Status.REGRESSED,
    Status.MISSING,
    Status.INCOMPARABLE,
    Status.CANNOT_TELL,
    Status.WITHIN_NOISE,
    Status.IMPROVED,
    Status.PASS,
)
"""What needs attention first."""

EMPHASISED = ORDER[:5]

HEADER = ["verdict", "task", "model", "metric", "baseline → now, or reason", "difference", "tolerance", "test"]


def exit_code(verdicts: Iterable[Verdict]) -> int:
    """Return 1 if a metric fails, else 2 if one is incomparable (or a rule says 2) or nothing was checked, else 0."""
    found = [v.exit_code for v in verdicts]
    return 1 if 1 in found else 2 if 2 in found or not found else 0


def sorted_for_reading(verdicts: Iterable[Verdict]) -> list[Verdict]:
    """Return the verdicts that need attention first; within a status, the smallest p-value first."""
    return sorted(verdicts, key=lambda v: (not v.exit_code, ORDER.index(v.status), v.p_value or 0.0))


def headline(verdicts: Sequence[Verdict]) -> str:
    """Return ``Gate failed: 1 regressed, 1 missing, 18 pass.``"""
    counts = Counter(v.status for v in verdicts)
    count = ", ".join(f"{counts[status]} {status}" for status in ORDER if counts[status]) or "nothing was checked"
    return f"Gate {('passed', 'failed', 'undecided')[exit_code(verdicts)]}: {count}."


def difference_text(verdict: Verdict) -> str:
    """Return ``−2.3 ± 0.8``, without an interval if none is known."""
    if verdict.difference is None:
        return ""
    return with_interval(verdict.difference, verdict.low, verdict.high, verdict.places)


def outcome_of_test(verdict: Verdict) -> str:
    """Return ``p=0.012, 31 images changed (detects a drop of 1.9 or more)``: the test of "no drop" and its power."""
    if verdict.difference is None:
        return ""
    if verdict.p_value is None:
        return f"not tested ({verdict.unpaired})"
    if verdict.changed == 0:
        return "no image changed"
    kind = "unpaired" if verdict.unpaired else "paired"
    images = kind if verdict.changed is None else f"{plural(verdict.changed, 'image')} changed"
    significant = verdict.status in (Status.REGRESSED, Status.IMPROVED)
    power = "" if significant else detects("drop", verdict.detectable, verdict.places)
    return f"{p_text(verdict.p_value)}, {images}{power}"


def sentence(verdict: Verdict) -> str:
    """Return ``58.4 ± 1.3 (n=5000) → 56.1 ± 1.3 (n=5000): −2.3 ± 0.8, tolerance 0.2; p=0.001, …``, or the reason."""
    if verdict.difference is None:
        return verdict.detail
    return f"{verdict.detail}: {difference_text(verdict)}, tolerance {verdict.tolerance:g}; {outcome_of_test(verdict)}"


def row(verdict: Verdict) -> list[str]:
    """Return the cells below HEADER, unescaped."""
    tolerance = "" if verdict.tolerance is None else f"{verdict.tolerance:g}"
    names = [verdict.task, verdict.judged, verdict.metric]
    return [verdict.status.value, *names, verdict.detail, difference_text(verdict), tolerance, outcome_of_test(verdict)]


def legend(verdicts: Sequence[Verdict]) -> tuple[str, ...]:
    """Return sentences that explain the column of tests, and the notes."""
    family = max((v.family for v in verdicts), default=0)
    notes = dict.fromkeys(f"Note: {note.text}." for v in verdicts for note in v.notes)
    if not family:
        return tuple(notes)
    sentences = [
        "p: one-sided test of “no drop”" + (f", Holm-corrected for {family} checked metrics." if family > 1 else "."),
        f"“detects x or more”: the test finds a true drop of x points in {100 * POWER:.0f} of 100 cases.",
        *of_kinds(v.evaluator for v in verdicts if v.evaluator),
    ]
    if reasons := list(dict.fromkeys(v.unpaired for v in verdicts if v.unpaired)):
        sentences.append(
            f"Unpaired: {first_reasons(reasons, 1)}. A baseline written by --update keeps the samples for pairing."
        )
    return (*sentences, *notes)


def to_markdown(verdicts: Sequence[Verdict]) -> str:
    """Return a summary for a CI page: the headline, and a row per Verdict, those that need attention first."""
    lines = [[escape(cell) for cell in row(v)] for v in sorted_for_reading(verdicts)]
    marked = [[f"**{line[0]}**" if line[0] in EMPHASISED else line[0], *line[1:]] for line in lines]
    below = " ".join(legend(verdicts))
    return f"**{headline(verdicts)}**\n\n{table(HEADER, marked, left=5)}" + (f"\n{escape(below)}\n" if below else "")


def to_junit(verdicts: Sequence[Verdict]) -> str:
    """Return JUnit XML: a suite per judged model, a case per task and metric.

    Exit code 1 is a failure, 2 an error; cannot tell, and missing if it is not required, count as skipped.
    """
    document = JUnitXml("cocabench gate")
    for judged in dict.fromkeys(v.judged for v in verdicts):
        suite = TestSuite(judged)
        suite.add_testcases([_case(v) for v in verdicts if v.judged == judged])
        suite.update_statistics()  # type: ignore[no-untyped-call]
        document.add_testsuite(suite)
    document.tests = len(verdicts)
    document.failures, document.errors = (sum(v.exit_code == code for v in verdicts) for code in (1, 2))
    return str(document.tostring().decode())  # type: ignore[no-untyped-call]


def _case(verdict: Verdict) -> TestCase:
    case = TestCase(verdict.metric, classname=verdict.task, time=0)
    message = "".join(c if c.isprintable() else " " for c in f"{verdict.status}: {sentence(verdict)}")
    kind = {1: Failure, 2: Error}.get(verdict.exit_code)
    if kind is None and verdict.status in (Status.CANNOT_TELL, Status.MISSING):
        kind = Skipped
    if kind is None:
        case.system_out = message
    else:
        case.result = [kind(message, type_=verdict.status.value)]
    return case
