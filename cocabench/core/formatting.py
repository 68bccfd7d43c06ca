"""How numbers and tables are written: points, intervals rounded up, Markdown with everything escaped."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence

from cocabench.core.text import printable
from cocabench.core.types import Estimate, MetricInfo

COSTS = ("gflops", "per_s", "s", "mib")
"""Units whose values span orders of magnitude."""


def points(value: float, info: MetricInfo) -> float:
    """Return value as it is printed: fractions and caption scores (CIDEr 1.253) times 100, other units as they are."""
    return 100 * value if info.unit in ("fraction", "score") else value


def decimals(value: float, info: MetricInfo) -> int:
    """Return how many decimals a value is printed with: one, but for costs as many as three significant digits need."""
    if info.unit not in COSTS or value == 0:
        return 1
    return max(0, 2 - math.floor(math.log10(abs(value))))


def spread(estimate: Estimate, info: MetricInfo) -> str:
    """Return ``1.3``, half an estimate's interval rounded up to its value's last decimal; '' where it has none."""
    if estimate.value is None or estimate.low is None or estimate.high is None:
        return ""
    value, low, high = (points(v, info) for v in (estimate.value, estimate.low, estimate.high))
    scale = 10 ** (places := decimals(value, info))
    return f"{math.ceil(round(max(high - value, value - low) * scale, 5)) / scale:.{places}f}"


def rounded_up(value: float, places: int = 1) -> float:
    """Return value rounded up to that many decimals: what is printed never looks surer than it is.

    A millionth of the last decimal absorbs the rounding of floats.
    """
    scale = float(10**places)
    return math.ceil(round(value * scale, 6)) / scale


def p_text(p_value: float | None) -> str:
    """Return ``p=0.012``, ``p<0.001``, or nothing for None."""
    if p_value is None:
        return ""
    return "p<0.001" if p_value < 0.001 else f"p={p_value:.3f}" if p_value < 0.1 else f"p={p_value:.2f}"


def number(estimate: Estimate, info: MetricInfo) -> str:
    """Return ``58.4 ± 1.3 (n=5000)``; n = 0 beside a value means that n was not published, and is left out."""
    if estimate.value is None:
        return "undefined (n=0)"
    value = points(estimate.value, info)
    text = f"{value:.{decimals(value, info)}f}"
    if width := spread(estimate, info):
        text += f" ± {width}"
    return text + (f" (n={estimate.n})" if estimate.n else "")


def signed(value: float, places: int = 1) -> str:
    """Return a difference with its sign and that many decimals; a difference that rounds to nothing has none."""
    if abs(value) < 0.5 / 10**places:
        return f"{0:.{places}f}"
    return f"{value:+.{places}f}".replace("-", "−")


def escape(text: str) -> str:
    """Return text that Markdown, in a table or out of it, shows as it is: no markup, no HTML, no second column."""
    text = re.sub(r"([\\`*\[\]|~]|(?<!\w)_|_(?!\w))", r"\\\1", " ".join(printable(text).split()))
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def table(header: Sequence[str], rows: Iterable[Sequence[str]], *, left: int = 1) -> str:
    """Return a Markdown table of cells that are Markdown already; the first `left` columns are left-aligned."""
    rule = [":---" if i < left else "---:" for i in range(len(header))]
    return "\n".join("| " + " | ".join(row) + " |" for row in (header, rule, *rows)) + "\n"


class Footnotes:
    """Numbers notes as they come; a note that was seen keeps its number."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def mark(self, notes: Iterable[str]) -> str:
        """Return `` [1] [3]`` for notes, escaped for Markdown, empty for none."""
        new = list(dict.fromkeys(notes))
        self.notes += [note for note in new if note not in self.notes]
        return "".join(f" \\[{self.notes.index(note) + 1}\\]" for note in new)

    def markdown(self) -> str:
        return "".join(f"\\[{i}\\] {escape(note)}  \n" for i, note in enumerate(self.notes, 1))


def plural(count: int, noun: str) -> str:
    return f"{count} {noun}" + ("" if count == 1 else "s")


def shortened(name: str, length: int = 44) -> str:
    """Return a name with its middle left out where it is longer than length."""
    half = (length - 1) // 2
    return name if len(name) <= length else f"{name[:half]}…{name[-half:]}"
