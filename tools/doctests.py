"""Shows examples in docstrings as code and arguments as a list: an extension of griffe, which reads docstrings."""

from __future__ import annotations

import re
from typing import Any

import griffe

ARGUMENT = re.compile(r"^(?P<names>[a-z_]\w*(?:, [a-z_]\w*)*): (?=\S)", re.MULTILINE)
EXAMPLE = re.compile(r"^(?P<indent> *)>>> .*(?:\n(?! *$).*)*", re.MULTILINE)


class Doctests(griffe.Extension):
    """Puts paragraphs that start with >>> into blocks of code, and lines that start with ``name:`` into a list."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Change the docstring of an object that was read."""
        if obj.docstring is not None:
            obj.docstring.value = fenced(listed(obj.docstring.value))


def fenced(text: str) -> str:
    """Return a docstring with its examples in blocks of code.

    >>> fenced("Adds.\\n\\n>>> 1 + 1\\n2")
    'Adds.\\n\\n```pycon\\n>>> 1 + 1\\n2\\n```'
    """
    return EXAMPLE.sub(lambda found: f"{found['indent']}```pycon\n{found[0]}\n{found['indent']}```", text)


def listed(text: str) -> str:
    """Return a docstring with each line that starts with the name of an argument as an item of a list.

    >>> listed("Adds.\\n\\na: a number.\\nb: another,\\n    if any.")
    'Adds.\\n\\n\\n- **a**: a number.\\n\\n- **b**: another,\\n    if any.'
    """
    summary, gap, rest = text.partition("\n\n")
    return summary + gap + ARGUMENT.sub(lambda found: f"\n- **{found['names']}**: ", rest)
