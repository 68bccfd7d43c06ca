"""Where the marks of Figure 1 stand on the page, as CSS; page.js places those of other pairs in the same way."""

from __future__ import annotations

import math
from dataclasses import dataclass

from cocabench.report.pair import Pair, Score

NOWHERE = "display: none"


@dataclass(frozen=True)
class Layout:
    """top: the right end of the scores' axis. low, high: the ends of the differences' axis."""

    top: float
    low: float
    high: float

    def at(self, value: float) -> str:
        return f"left: {_percent(value / self.top)}"

    def span(self, score: Score) -> str:
        return _between(score.low, score.high, 0, self.top)

    def gap(self, gap: Score) -> str:
        return _between(gap.low, gap.high, self.low, self.high)

    def fill(self, gap: Score) -> str:
        return _between(min(0.0, gap.value), max(0.0, gap.value), self.low, self.high)

    def zero(self) -> str:
        return f"left: {_percent(-self.low / (self.high - self.low))}"


def layout(pair: Pair) -> Layout:
    """Return a scale to 100, or to what low scores need; the differences' holds every interval and 0."""
    highest = max(score.value for row in pair.rows for score in (row.first, row.second))
    ends = [end for row in pair.rows for end in row.gap if end is not None]
    low, high = min(0.0, *ends), max(0.0, *ends)
    return Layout(100 if highest > 60 else math.ceil(1.12 * highest / 4) * 4 or 4, low, high if high > low else low + 1)


def _percent(share: float) -> str:
    return f"{min(100.0, max(0.0, 100 * share)):.2f}%"


def _between(low: float | None, high: float | None, start: float, end: float) -> str:
    if low is None or high is None:
        return NOWHERE
    size = end - start
    return f"left: {_percent((low - start) / size)}; width: {_percent((high - low) / size)}"
