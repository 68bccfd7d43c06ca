"""The difference of two numbers: paired where the samples are at hand, else of two independent ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from cocabench.core.errors import UnpairedError, WithheldError
from cocabench.core.formatting import decimals, p_text, points, rounded_up, signed
from cocabench.core.types import Estimate, MetricInfo, Record
from cocabench.metrics import paired, power
from cocabench.metrics.base import Paired
from cocabench.results.compare.evidence import Evidence

LEVEL = 0.05
"""Two-sided; for the primary metrics of a table it holds for all of them together."""


NO_INTERVAL = "no interval"


class Finding(StrEnum):
    """What the test of a difference says, in the direction of the metric."""

    FIRST = "first better"
    SECOND = "second better"
    NOTHING = "no difference found"
    UNTESTED = "not tested"


@dataclass(frozen=True, slots=True)
class Difference:
    """First minus second, in points (ranks as they are); low and high are None where no interval is known.

    p_value: two-sided, of this test alone. adjusted: after Holm over the primary metrics of the table, None for other
    metrics. detectable: the smallest true difference, in points, that such a test finds in 80 of 100 cases.
    changed: images on which the two differ, None where that is not known. unpaired: why the samples could not be held
    against each other, or why there is no test, '' for a paired test. finding: by adjusted, or by p_value alone where
    that is None. test: on the metric's own scale. places: decimals to print, more for small costs.
    """

    value: float
    low: float | None = None
    high: float | None = None
    p_value: float | None = None
    adjusted: float | None = None
    detectable: float | None = None
    changed: int | None = None
    unpaired: str = ""
    finding: Finding = Finding.UNTESTED
    test: Paired | None = None
    places: int = 1

    @property
    def paired(self) -> bool:
        return not self.unpaired

    @property
    def significant(self) -> bool:
        return self.finding in (Finding.FIRST, Finding.SECOND)

    @property
    def verdict(self) -> str:
        """``first better (p=0.003)``, ``no difference found; 2.1 would show``, or nothing where it is not tested.

        p is the adjusted one where there is one; what would show is the smallest detectable difference, rounded up.
        """
        if self.finding is Finding.UNTESTED:
            return ""
        if self.finding is Finding.NOTHING:
            return f"{self.finding}{'' if self.detectable is None else f'; {self._up(self.detectable)} would show'}"
        return f"{self.finding} ({p_text(self.p_value if self.adjusted is None else self.adjusted)})"

    @property
    def mark(self) -> str:
        """▲ where the first is better, ▼ where the second is, else nothing: for the eye, beside the numbers."""
        return {Finding.FIRST: "▲", Finding.SECOND: "▼"}.get(self.finding, "")

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            return signed(self.value, self.places)
        return f"{signed(self.value, self.places)} ± {self._up(max(self.high - self.value, self.value - self.low))}"

    def _up(self, value: float) -> str:
        return f"{rounded_up(value, self.places):.{self.places}f}"


def difference(a: Estimate, b: Estimate, info: MetricInfo) -> Difference | None:
    """Return a minus b in points, with the 95 % interval of two independent samples; None if one is undefined."""
    test = independent(a, b)
    return _told(a, b, info, test, unpaired="no samples" if test else NO_INTERVAL)


def independent(a: Estimate, b: Estimate) -> Paired | None:
    """Return the test of a minus b as of two independent samples; None where one has no interval.

    The interval is Newcombe's "square-and-add" (Statistics in Medicine 17, 1998, method 10): it needs nothing but the
    two intervals, and stays right near 0 and 1. It is wider than the truth where both models saw the same images.
    """
    if a.value is None or a.low is None or a.high is None or b.value is None or b.low is None or b.high is None:
        return None
    gap = a.value - b.value
    low = gap - math.hypot(a.value - a.low, b.high - b.value)
    high = gap + math.hypot(a.high - a.value, b.value - b.low)
    return paired.of_independent(gap, low, high)


def held_against(a: Record, b: Record, metric: str, evidence: Evidence) -> tuple[Paired | None, str]:
    """Return the test of a minus b of a metric that both have, on its own scale, and why it is not paired ('': it is).

    None where it can be neither paired nor tested from intervals.
    """
    try:
        return evidence.paired(a, b, metric), ""
    except WithheldError as reason:
        return None, str(reason)
    except UnpairedError as reason:
        test = independent(a.metrics[metric], b.metrics[metric])
        return test, str(reason) if test else NO_INTERVAL


def tested(a: Record, b: Record, metric: str, info: MetricInfo, evidence: Evidence) -> Difference | None:
    """Return a minus b of a metric, paired where the samples of both are at hand; None if one is undefined."""
    if a.metrics[metric].value is None or b.metrics[metric].value is None:
        return None
    test, unpaired = held_against(a, b, metric, evidence)
    return _told(a.metrics[metric], b.metrics[metric], info, test, unpaired=unpaired)


def _told(a: Estimate, b: Estimate, info: MetricInfo, test: Paired | None, *, unpaired: str) -> Difference | None:
    """Return a tested a minus b in points; None if one is undefined."""
    if a.value is None or b.value is None:
        return None
    places = decimals(points(max(abs(a.value), abs(b.value)), info), info)
    if test is None:
        return Difference(points(a.value - b.value, info), unpaired=unpaired, places=places)
    return in_points(test, info, unpaired=unpaired, places=places)


def in_points(test: Paired, info: MetricInfo, *, unpaired: str = "", places: int = 1) -> Difference:
    """Return a test as a difference without a finding."""
    value, low, high = (points(number, info) for number in test[:3])
    return Difference(
        value, low, high, p_value=test.p_value, changed=test.changed, unpaired=unpaired, test=test, places=places
    )


def judged(found: Difference, info: MetricInfo, *, adjusted: float | None = None, family: int = 1) -> Difference:
    """Return a difference with its finding: by adjusted, which holds for a family of that many tests, or by itself.

    Metrics of health have none: more words in a caption are neither better nor worse.
    """
    p_value = found.p_value if adjusted is None else adjusted
    if p_value is None or info.kind == "health":
        return found
    first = (found.value > 0) == info.higher_is_better
    finding = Finding.NOTHING if p_value >= LEVEL else Finding.FIRST if first else Finding.SECOND
    least = power.detectable(found.test, level=LEVEL / 2 / family) if found.test else math.nan
    detectable = None if math.isnan(least) else points(least, info)
    return replace(found, adjusted=adjusted, finding=finding, detectable=detectable)


def corrected(found: Sequence[tuple[Difference, MetricInfo]]) -> list[Difference]:
    """Return tested differences of one family with p-values and findings that hold for all together (Holm)."""
    testable = [i for i, (gap, _) in enumerate(found) if gap.p_value is not None]
    adjusted = dict(zip(testable, paired.holm([found[i][0].p_value or 0.0 for i in testable]), strict=True))
    return [
        judged(gap, info, adjusted=adjusted.get(i), family=max(1, len(testable))) for i, (gap, info) in enumerate(found)
    ]
