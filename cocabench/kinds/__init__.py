"""Kinds of tasks, one module per kind. ``find`` and ``every`` look them up by entry point."""

from __future__ import annotations

import sys
from functools import cache

from cocabench.core.errors import CocabenchError
from cocabench.kinds.base import Kind
from cocabench.specs.registry import entry_points


def find(name: str) -> type[Kind]:
    """Return the kind of that name; if it is not installed, a kind with defaults and no metrics.

    Raises CocabenchError if two packages declare it.
    """
    return _find(name, tuple(sys.path))


def every() -> list[type[Kind]]:
    """Return the installed kinds in display order."""
    names = entry_points("kinds", tuple(sys.path)).names
    return sorted((find(name) for name in names), key=lambda kind: (kind.shown.order, kind.name))


def in_words(name: str) -> str:
    """Return an installed kind's title for use inside a sentence; other names (groups of tasks) are unchanged."""
    if name not in entry_points("kinds", tuple(sys.path)).names:
        return name
    title = find(name).title()
    return title if title[:2].isupper() else f"{title[:1].lower()}{title[1:]}"


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
