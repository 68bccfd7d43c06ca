"""The templates: how they are found, and what they can say; everything is escaped."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from importlib import resources

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from cocabench.core.formatting import signed

SEAM = re.compile(r"(?<=[-_/:])(?=[^-_/:\s])")
"""Where a long name may be broken."""


@cache
def environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("cocabench.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters: dict[str, Callable[..., object]] = {
        "signed": signed,
        "capitalised": lambda text: text[:1].upper() + text[1:],
        "breakable": breakable,
        "parts": parts,
    }
    environment.filters |= filters
    return environment


def asset(name: str) -> str:
    return (resources.files("cocabench.report") / "templates" / name).read_text(encoding="utf-8")


def breakable(text: str) -> Markup:
    """Return a text that a browser may break after the signs that join names: ``-``, ``_``, ``/`` and ``:``."""
    return Markup("<wbr>").join(map(escape, SEAM.split(text)))


def parts(name: str) -> list[Markup]:
    """Return the parts of a model's name that a browser keeps whole where it can: architecture, tag or path."""
    return [breakable(part) for part in re.split(r"(?<=:)(?=.)", name)]


def slug(name: str) -> str:
    """Return a name as an id of the page: ``kind-linear-probe``."""
    return "kind-" + re.sub(r"[^a-z0-9]+", "-", name.lower())
