"""What must stand below a table so that its numbers are read as they are meant."""

from __future__ import annotations

from collections.abc import Iterable

from cocabench.kinds import find
from cocabench.metrics.power import POWER
from cocabench.results.compare.choice import brief
from cocabench.results.compare.difference import LEVEL, Difference
from cocabench.results.compare.table import Comparison, in_order

INTERVALS = "± is half of a 95 % interval over images, rounded up; n counts images."
TIMES_100 = " Scores are times 100."


def legend(comparison: Comparison) -> tuple[str, ...]:
    """Return the sentences that belong below a table: what ± is, what is held fixed, what a finding means."""
    times_100 = any(row.info.unit in ("fraction", "score") for row in comparison.rows)
    said = [INTERVALS + (TIMES_100 if times_100 else "")]
    said += of_kinds(row.evaluator for row in comparison.rows)
    primary = [gap for row in comparison.rows if row.primary for gap in row.differences if gap]
    others = [gap for row in comparison.rows if not row.primary for gap in row.differences if gap]
    return (*said, *_tests(primary, others))


def of_kinds(names: Iterable[str]) -> list[str]:
    """Return the sentences that belong below a table with tasks of these kinds."""
    return [sentence for name in in_order(dict.fromkeys(names)) for sentence in find(name).shown.legend]


def _tests(primary: list[Difference], others: list[Difference]) -> list[str]:
    family = sum(gap.adjusted is not None for gap in primary)
    every = [*primary, *others]
    if not any(gap.p_value is not None for gap in every):
        return []
    together = f"corrected for {family} primary differences together (Holm)" if family else ""
    apart = ("other metrics " if family else "") + "one by one" if others else ""
    said = [f"Better: p < {LEVEL:g}, two-sided, {'; '.join(part for part in (together, apart) if part)}."]
    if any(gap.detectable is not None for gap in every):
        said.append(f"“x would show”: a true difference of x points is found in {100 * POWER:.0f} of 100 such tests.")
    if reasons := list(dict.fromkeys(gap.unpaired for gap in every if gap.unpaired)):
        said.append(f"unpaired: wider than on the same samples ({brief(reasons, 1)}).")
    return said
