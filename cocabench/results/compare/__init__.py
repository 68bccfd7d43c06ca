"""Records side by side: which to take, what may be compared, the table of tasks and models, and what tells them apart.

The first model of a comparison is the one asked about: a difference is first minus second. Where the samples of both
are at hand (``Evidence``), differences are paired: the same images, the one model's outcome against the other's.
"""

from cocabench.results.compare.changes import Change, Changes, changes
from cocabench.results.compare.choice import (
    Choice,
    brief,
    choose,
    imported_by,
    incomparable,
    limit,
    notes,
    published_by,
    standard,
    unknown_parts,
)
from cocabench.results.compare.difference import Difference, Finding, difference
from cocabench.results.compare.evidence import Evidence
from cocabench.results.compare.legend import legend, of_kinds
from cocabench.results.compare.sources import PUBLISHED, read
from cocabench.results.compare.table import Cell, Comparison, Row, compare, in_order, ranked, remarks
from cocabench.results.compare.totals import MEANS, Average, Tally, averages, tallies

__all__ = [
    "MEANS",
    "PUBLISHED",
    "Average",
    "Cell",
    "Change",
    "Changes",
    "Choice",
    "Comparison",
    "Difference",
    "Evidence",
    "Finding",
    "Row",
    "Tally",
    "averages",
    "brief",
    "changes",
    "choose",
    "compare",
    "difference",
    "imported_by",
    "in_order",
    "incomparable",
    "legend",
    "limit",
    "notes",
    "of_kinds",
    "published_by",
    "ranked",
    "read",
    "remarks",
    "standard",
    "tallies",
    "unknown_parts",
]
