"""A colour and a mark per model, numbers with intervals, and round ticks: what page and figures share.

Hues are those of Okabe and Ito, which colour-blind readers can distinguish, darkened to a contrast of 4.5 on white and
lightened to as much on dark. Marks repeat what colours show, so that black and white suffices.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

LIGHT = ("#0067A3", "#B84A00", "#007A5A", "#A34480", "#8A6100", "#5F5F5F")
DARK = ("#5CB8EE", "#F58E4A", "#35CFA2", "#E9A3CF", "#E6B53C", "#B5B5B5")
INK, MUTED, RULE, PAGE = "#1A1C20", "#5B6068", "#E8EAEC", "#FCFCFB"
MARKS = ("o", "D", "s", "^", "v", "P")
"""As matplotlib names them; the page draws the same shapes."""

MAX_STYLED = len(LIGHT)
"""Models with a colour of their own; all others are grey ticks."""

TICK_STEPS: Sequence[Sequence[float]] = ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 7))
MIN_LOG_TICKS, MAX_LOG_TICKS = 3, 7


class Score(NamedTuple):
    """A number with its interval, in points; low and high are None if unknown. places: decimals to print."""

    value: float
    low: float | None = None
    high: float | None = None
    places: int = 1


class Axis(NamedTuple):
    """An axis from low to high with its ticks; log: logarithmic."""

    low: float
    high: float
    ticks: tuple[float, ...]
    log: bool = False

    @property
    def even(self) -> bool:
        """Whether ticks stand at both ends and evenly between."""
        return not self.log and (self.ticks[0], self.ticks[-1]) == (self.low, self.high)

    def place(self, value: float) -> float:
        """Return where a value lies, 0 at low and 1 at high; values outside are put at the end."""
        low, high, at = (math.log(x) if self.log else x for x in (self.low, self.high, max(value, self.low)))
        return min(1.0, max(0.0, (at - low) / (high - low)))

    def texts(self, *, sign: bool = False) -> list[str]:
        """Return the ticks as text, all with the decimals that tell them apart; sign: with + and −."""
        step = min((b - a for a, b in zip(self.ticks, self.ticks[1:], strict=False)), default=1.0)
        places = max(0, -math.floor(math.log10(step) + 1e-9)) if step < 1 else 0
        places += bool(not self.log and round(step, places) != round(step, 9))
        if self.log:
            return [f"{tick:,.6g}" for tick in self.ticks]
        return [f"{tick:{'+' if sign and tick else ''},.{places}f}".replace("-", "−") for tick in self.ticks]


def linear(values: Sequence[float], *, zero: bool = True, most: int = 5) -> Axis:
    """Return a linear axis that holds the values, and 0 if zero is set, with at most that many intervals of ticks.

    Its ends are ticks: multiples of 1, 2, 2.5 or 5 times a power of ten.
    """
    low, high = min(values, default=0.0), max(values, default=1.0)
    low, high = (min(low, 0.0), max(high, 0.0)) if zero else (low, high)
    if high <= low:
        low, high = (low, low + 1) if zero and low == 0 else (low - 0.5, high + 0.5)
    rough = 10.0 ** math.floor(math.log10((high - low) / most))
    for factor in (1, 2, 2.5, 5, 10, 20, 25, 50, 100):
        step = factor * rough
        first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
        if last - first <= most:
            break
    ticks = tuple(round(k * step, 10) for k in range(first, last + 1))
    return Axis(ticks[0], ticks[-1], ticks)


def logarithmic(values: Sequence[float]) -> Axis:
    """Return a logarithmic axis that holds the values (all above 0), with three to seven round ticks within."""
    room = max(1.05, (max(values) / min(values)) ** 0.06)
    low, high = min(values) / room, max(values) * room
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    found: list[float] = []
    for steps in TICK_STEPS:
        found = [step * 10.0**decade for decade in decades for step in steps if low <= step * 10.0**decade <= high]
        if len(found) >= MIN_LOG_TICKS:
            return Axis(low, high, tuple(found[:: -(-len(found) // MAX_LOG_TICKS)]), log=True)
    return Axis(low, high, tuple(t for t in linear([low, high], zero=False).ticks if low <= t <= high), log=True)
