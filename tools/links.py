"""Asks every address that the documents link to: python -m tools.links. Not part of CI: others' sites come and go."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import requests

ROOT = Path(__file__).parents[1]
DOCUMENTS = ("*.md", "docs/**/*.md", "cocabench/**/*.md", "results/*.md", "CITATION.cff")
ADDRESS = re.compile(r"https?://[^\s)\"'`>\]]+[^\s)\"'`>\].,;]")
TIMEOUT_S = 20


def addresses(paths: Iterable[Path]) -> dict[str, Path]:
    """Return {address: the first document that has it}."""
    found: dict[str, Path] = {}
    for path in paths:
        for address in ADDRESS.findall(path.read_text(encoding="utf-8")):
            found.setdefault(address, path)
    return found


def dead(found: dict[str, Path]) -> Iterator[str]:
    """Yield a line for each address that does not answer, or with an error. 403 and 429 only refuse programs."""
    for address, path in found.items():
        try:
            status = requests.get(address, timeout=TIMEOUT_S, stream=True).status_code
        except requests.RequestException as error:
            yield f"{path}: {address}: {type(error).__name__}"
        else:
            if status >= 400 and status not in (403, 429):
                yield f"{path}: {address}: status {status}"


if __name__ == "__main__":
    listed = addresses(path for pattern in DOCUMENTS for path in sorted(ROOT.glob(pattern)))
    lines = list(dead(listed))
    print(*lines, f"{len(listed)} addresses, {len(lines)} dead", sep="\n")
    sys.exit(bool(lines))
