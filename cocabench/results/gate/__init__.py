"""The gate: is the current run as good as the baseline? One Verdict per metric that is checked, by a test.

regressed      the drop exceeds the tolerance, and the one-sided test of "no drop" rejects
within noise   the drop exceeds the tolerance, and the test does not reject
cannot tell    no such drop, but one of the tolerance's size would not have shown either, or nothing can be tested
improved       the gain exceeds the tolerance, and the one-sided test of "no gain" rejects
pass           none of these: a drop larger than the tolerance would have shown, or no outcome changed at all
missing        the current run, or the baseline, does not have the number
incomparable   protocol parts of the signatures differ

Tests are paired where the samples of both sides are at hand, else of two independent numbers; p-values hold for all
checked metrics together (Holm).
"""

from cocabench.results.gate.judge import gate
from cocabench.results.gate.junit import to_junit
from cocabench.results.gate.rules import Rules, read_rules
from cocabench.results.gate.update import Update, planned, recover, write
from cocabench.results.gate.words import (
    HEADER,
    exit_code,
    headline,
    legend,
    row,
    sentence,
    sorted_for_reading,
    to_markdown,
)

__all__ = [
    "HEADER",
    "Rules",
    "Update",
    "exit_code",
    "gate",
    "headline",
    "legend",
    "planned",
    "read_rules",
    "recover",
    "row",
    "sentence",
    "sorted_for_reading",
    "to_junit",
    "to_markdown",
    "write",
]
