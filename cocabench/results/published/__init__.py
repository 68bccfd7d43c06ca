"""Published results: the tidy tables of results/published, as Records, and what measured numbers are beside them."""

from cocabench.results.published.check import TOLERANCE, Cause, Expected, Match, State, check
from cocabench.results.published.tables import (
    SOURCES,
    SUFFIX,
    as_records,
    definitions,
    describe,
    folder,
    parameters,
    primary_of,
    profile,
    read,
    rows,
)

__all__ = [
    "SOURCES",
    "SUFFIX",
    "TOLERANCE",
    "Cause",
    "Expected",
    "Match",
    "State",
    "as_records",
    "check",
    "definitions",
    "describe",
    "folder",
    "parameters",
    "primary_of",
    "profile",
    "read",
    "rows",
]
