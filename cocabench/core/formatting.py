"""Formatting of numbers and tables: points, intervals rounded up, escaped Markdown."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from cocabench.core.text import printable

if TYPE_CHECKING:
    from cocabench.core.types import Estimate, MetricInfo

COST_UNITS = ("gflops", "per_s", "s", "mib")
"""Units of costs, whose values span orders of magnitude."""


def points(value: float, info: MetricInfo) -> float:
    """Return value as it is printed: fractions and caption scores (CIDEr 1.253) times 100, other units unchanged."""
    return 100 * value if info.unit in ("fraction", "score") else value


def decimals(value: float, info: MetricInfo) -> int:
    """Return the number of decimals to print: one; of losses three; of costs what gives three significant digits."""
    if info.unit == "loss":
        return 3
    if info.unit not in COST_UNITS or value == 0:
        return 1
    return min(12, max(0, 2 - math.floor(math.log10(abs(value)))))


def printed(value: float, info: MetricInfo) -> str:
    """Return a metric's value as it is printed: ``58.4``."""
    scaled = points(value, info)
    return f"{scaled:.{decimals(scaled, info)}f}"


def spread(estimate: Estimate, info: MetricInfo) -> str:
    """Return ``1.3``, the interval's half width rounded up to the value's last decimal; '' if there is none."""
    if estimate.value is None or estimate.low is None or estimate.high is None:
        return ""
    value, low, high = (points(v, info) for v in (estimate.value, estimate.low, estimate.high))
    scale = 10 ** (places := decimals(value, info))
    return f"{math.ceil(round(max(high - value, value - low) * scale, 5)) / scale:.{places}f}"


def rounded_up(value: float, places: int = 1) -> float:
    """Return value rounded up to that many decimals, so that printed intervals are never too narrow.

    A millionth of the last decimal is tolerated as float rounding.
    """
    scale = float(10**places)
    return math.ceil(round(value * scale, 6)) / scale


def p_text(p_value: float | None) -> str:
    """Return ``p=0.012``, ``p<0.001``, or nothing for None."""
    if p_value is None:
        return ""
    return "p<0.001" if p_value < 0.001 else f"p={p_value:.3f}" if p_value < 0.1 else f"p={p_value:.2f}"


def number(estimate: Estimate, info: MetricInfo) -> str:
    """Return ``58.4 ± 1.3 (n=5000)``; n = 0 with a value means that n was not published, and is omitted."""
    if estimate.value is None:
        return "undefined (n=0)"
    text = printed(estimate.value, info)
    if width := spread(estimate, info):
        text += f" ± {width}"
    return text + (f" (n={estimate.n})" if estimate.n else "")


def signed(value: float, places: int = 1) -> str:
    """Return a difference with its sign and that many decimals; one that rounds to zero has no sign."""
    if abs(value) < 0.5 / 10**places:
        return f"{0:.{places}f}"
    return f"{value:+.{places}f}".replace("-", "−")


def escape(text: str) -> str:
    """Escape text for Markdown, inside and outside of tables."""
    text = re.sub(r"([\\`*\[\]|~]|(?<!\w)_|_(?!\w))", r"\\\1", " ".join(printable(text).split()))
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def table(header: Sequence[str], rows: Iterable[Sequence[str]], *, left: int = 1) -> str:
    """Return a Markdown table; cells are already Markdown, the first `left` columns are left-aligned."""
    rule = [":---" if i < left else "---:" for i in range(len(header))]
    return "\n".join("| " + " | ".join(row) + " |" for row in (header, rule, *rows)) + "\n"


class Footnotes:
    """Numbers notes in order of appearance; equal notes share a number."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def mark(self, notes: Iterable[str]) -> str:
        """Return `` [1] [3]`` for notes, escaped for Markdown; empty if there are none."""
        new = list(dict.fromkeys(notes))
        self.notes += [note for note in new if note not in self.notes]
        return "".join(f" \\[{self.notes.index(note) + 1}\\]" for note in new)

    def markdown(self) -> str:
        return "".join(f"\\[{i}\\] {escape(note)}  \n" for i, note in enumerate(self.notes, 1))


def plural(count: int, noun: str, nouns: str = "", *, form: str = "") -> str:
    """Return ``1 task`` or ``2 tasks``. nouns: an irregular plural. form: of the number, ``,`` for ``2,000 tasks``."""
    return f"{count:{form}} {noun if count == 1 else nouns or noun + 's'}"


def shortened(name: str, length: int = 44) -> str:
    """Return a name, with its middle replaced by … if it is longer than length."""
    half = (length - 1) // 2
    return name if len(name) <= length else f"{name[:half]}…{name[-half:]}"
