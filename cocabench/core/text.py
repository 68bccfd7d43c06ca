"""Text of others that is safe to print and to store: no terminal's commands, nothing that is no character."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters but for tab and newline, marks that turn the direction of what follows, and lone surrogates."""

_NO_CHARACTERS = re.compile("[\ud800-\udfff]")


def printable(text: str) -> str:
    """Return text with � in place of control characters and of what is no character."""
    return text if text.isascii() and text.isprintable() else _UNPRINTABLE.sub("�", text)


def well_formed(text: str) -> str:
    """Return text with � in place of lone surrogates, which JSON and file names may hold and UTF-8 may not."""
    return text if text.isascii() else _NO_CHARACTERS.sub("�", text)


def all_printable(value: Any) -> Any:
    """Return a JSON value with every text in it, keys among them, printable."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, Mapping):
        return {all_printable(key): all_printable(item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(all_printable(item) for item in value)
    return value
