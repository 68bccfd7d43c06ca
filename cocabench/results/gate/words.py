"""Verdicts for people: the headline, the table, the Markdown summary, and the exit code."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from cocabench.core.formatting import escape, p_text, plural, rounded_up, signed, table
from cocabench.core.types import Status, Verdict
from cocabench.metrics.power import POWER
from cocabench.results.compare import brief, of_kinds

ORDER = (
    Status.REGRESSED,
    Status.MISSING,
    Status.INCOMPARABLE,
    Status.CANNOT_TELL,
    Status.WITHIN_NOISE,
    Status.IMPROVED,
    Status.PASS,
)
"""What needs attention, first things first."""

LOUD = ORDER[:5]
HEADER = ["verdict", "task", "model", "metric", "baseline → now, or why not", "difference", "tolerance", "test"]


def exit_code(verdicts: Iterable[Verdict]) -> int:
    """Return 1 if anything fails, else 2 if anything is incomparable (or a rule says so) or nothing checked; or 0."""
    found = [v.exit_code for v in verdicts]
    return 1 if 1 in found else 2 if 2 in found or not found else 0


def sorted_for_reading(verdicts: Iterable[Verdict]) -> list[Verdict]:
    """Return what needs attention first; within a status, the largest drop first."""
    return sorted(verdicts, key=lambda v: (not v.exit_code, ORDER.index(v.status), v.p_value or 0.0))


def headline(verdicts: Sequence[Verdict]) -> str:
    """Return ``Gate failed: 1 regressed, 1 missing, 18 pass.``"""
    counts = Counter(v.status for v in verdicts)
    said = ", ".join(f"{counts[status]} {status}" for status in ORDER if counts[status]) or "nothing was checked"
    return f"Gate {('passed', 'failed', 'cannot be judged')[exit_code(verdicts)]}: {said}."


def difference(verdict: Verdict) -> str:
    """Return ``−2.3 ± 0.8``, without an interval where none is known."""
    if verdict.difference is None:
        return ""
    if verdict.low is None or verdict.high is None:
        return signed(verdict.difference, verdict.places)
    width = max(verdict.high - verdict.difference, verdict.difference - verdict.low)
    return f"{signed(verdict.difference, verdict.places)} ± {_up(width, verdict)}"


def _up(value: float, verdict: Verdict) -> str:
    return f"{rounded_up(value, verdict.places):.{verdict.places}f}"


def test(verdict: Verdict) -> str:
    """Return ``p=0.012, 31 images changed; 1.9 would show``: the test of "no drop", and what drop could have shown."""
    if verdict.difference is None:
        return ""
    if verdict.p_value is None:
        return f"none ({verdict.unpaired})"
    if verdict.changed == 0:
        return "no image changed"
    kind = "unpaired" if verdict.unpaired else "paired"
    said = kind if verdict.changed is None else f"{plural(verdict.changed, 'image')} changed"
    found = verdict.detectable is None or verdict.status in (Status.REGRESSED, Status.IMPROVED)
    least = "" if found or verdict.detectable is None else f"; {_up(verdict.detectable, verdict)} would show"
    return f"{p_text(verdict.p_value)}, {said}{least}"


def sentence(verdict: Verdict) -> str:
    """Return ``58.4 ± 1.3 (n=5000) → 56.1 ± 1.3 (n=5000): −2.3 ± 0.8, tolerance 0.2; p=0.001, …``, or why."""
    if verdict.difference is None:
        return verdict.detail
    return f"{verdict.detail}: {difference(verdict)}, tolerance {verdict.tolerance:g}; {test(verdict)}"


def row(verdict: Verdict) -> list[str]:
    """Return what stands below HEADER, unescaped."""
    tolerance = "" if verdict.tolerance is None else f"{verdict.tolerance:g}"
    names = [verdict.task, verdict.model, verdict.metric]
    return [verdict.status.value, *names, verdict.detail, difference(verdict), tolerance, test(verdict)]


def legend(verdicts: Sequence[Verdict]) -> tuple[str, ...]:
    """Return what the column of the tests means, in sentences."""
    family = max((v.family for v in verdicts), default=0)
    if not family:
        return ()
    said = [
        f"p: one-sided, of “no drop”, corrected for {family} checked metrics together (Holm).",
        f"“x would show”: a true drop of x points is found in {100 * POWER:.0f} of 100 such gates.",
        *of_kinds(v.evaluator for v in verdicts if v.evaluator),
    ]
    if reasons := list(dict.fromkeys(v.unpaired for v in verdicts if v.unpaired)):
        said.append(f"unpaired: {brief(reasons, 1)}; a baseline written by --update keeps what pairing needs.")
    said += dict.fromkeys(f"Note: {note.text}." for v in verdicts for note in v.notes)
    return tuple(said)


def to_markdown(verdicts: Sequence[Verdict]) -> str:
    """Return a summary for a CI page: the headline, and a line per Verdict, what needs attention first."""
    lines = [[escape(cell) for cell in row(v)] for v in sorted_for_reading(verdicts)]
    marked = [[f"**{line[0]}**" if line[0] in LOUD else line[0], *line[1:]] for line in lines]
    said = " ".join(legend(verdicts))
    return f"**{headline(verdicts)}**\n\n{table(HEADER, marked, left=5)}" + (f"\n{escape(said)}\n" if said else "")
