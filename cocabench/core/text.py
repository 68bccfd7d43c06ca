"""Make untrusted text safe to print and store: no terminal commands, no invalid characters."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters except tab and newline, marks that change the text direction, and lone surrogates."""

_NO_CHARACTERS = re.compile("[\ud800-\udfff]")


def printable(text: str) -> str:
    """Replace control and invalid characters by �."""
    return text if text.isascii() and text.isprintable() else _UNPRINTABLE.sub("�", text)


def well_formed(text: str) -> str:
    """Replace lone surrogates by �; JSON and file names may contain them, UTF-8 may not."""
    return text if text.isascii() else _NO_CHARACTERS.sub("�", text)


def all_printable(value: Any) -> Any:
    """Return a JSON value with all its texts, including keys, made printable."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, Mapping):
        return {all_printable(key): all_printable(item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(all_printable(item) for item in value)
    return value
