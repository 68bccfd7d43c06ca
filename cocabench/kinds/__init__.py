"""Kinds of tasks: one module per kind, with everything about it. ``find`` and ``every`` ask the entry points."""

from __future__ import annotations

import sys
from functools import cache

from cocabench.core.errors import CocabenchError
from cocabench.kinds.base import Kind
from cocabench.specs.registry import entry_points


def find(name: str) -> type[Kind]:
    """Return the kind that a Record names; where it is not installed, bare defaults without metrics.

    CocabenchError where two packages have a kind of that name.
    """
    return _find(name, tuple(sys.path))


def every() -> list[type[Kind]]:
    """Return every kind that is installed, in the order in which they are shown."""
    names = entry_points("kinds", tuple(sys.path)).names
    return sorted((find(name) for name in names), key=lambda kind: (kind.shown.order, kind.name))


@cache
def _find(name: str, path: tuple[str, ...]) -> type[Kind]:
    points = [point for point in entry_points("kinds", path) if point.name == name]
    if len({point.value for point in points}) > 1:
        owners = " and ".join(point.value for point in points)
        raise CocabenchError(f"kind {name}", f"declared by {owners}", wanted="one", fix="uninstall one of the packages")
    if not points:
        return type("Unknown", (Kind,), {"name": name, "__module__": __name__})
    found: type[Kind] = points[0].load()
    return found
