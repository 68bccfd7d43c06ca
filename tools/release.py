"""Checks a release's tag, and prints its notes: python -m tools.release v0.2.0 [https://github.com/ORG/NAME]

Version numbers are in four files and the tag; the notes are the section of that version in CHANGELOG.md. With the
repository's address, README.md, which the package index shows, gets links and pictures that lead there.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PLACES = {
    "pyproject.toml": r'^version = "(.+)"$',
    "cocabench/core/__init__.py": r'^__version__ = "(.+)"$',
    "CITATION.cff": r"^version: (.+)$",
}


def versions(root: Path = ROOT) -> dict[str, str]:
    """Return {file: the version that it says}."""
    found = {}
    for name, pattern in PLACES.items():
        match = re.search(pattern, (root / name).read_text(encoding="utf-8"), re.MULTILINE)
        found[name] = match[1] if match else ""
    return found


def notes(version: str, changelog: str) -> str:
    """Return the section of a version in CHANGELOG.md, '' if there is none."""
    match = re.search(rf"^## {re.escape(version)}\b[^\n]*\n(.*?)(?=^## |\Z)", changelog, re.DOTALL | re.MULTILINE)
    return match[1].strip() if match else ""


def problems(tag: str, root: Path = ROOT) -> list[str]:
    """Return what keeps a tag from being released, a line each."""
    version = tag.removeprefix("v")
    wrong = [f"{name}: says {own}; wanted {version}" for name, own in versions(root).items() if own != version]
    if not notes(version, (root / "CHANGELOG.md").read_text(encoding="utf-8")):
        wrong.append(f"CHANGELOG.md: no section ## {version}; rename Unreleased")
    return wrong


def absolute(readme: str, home: str, tag: str) -> str:
    """Return a README whose relative links and pictures lead to a tag of the repository at an address."""

    def there(match: re.Match[str]) -> str:
        path = match[1]
        if path.startswith("../../"):  # of the repository on its forge, as its actions
            return f"]({home}/{path.removeprefix('../../')})"
        return f"]({home}/{'raw' if path.endswith(PICTURES) else 'blob'}/{tag}/{path})"

    return re.sub(r"\]\((?![a-z]+:|#)([^)]+)\)", there, readme)


PICTURES = (".png", ".svg")


if __name__ == "__main__":
    tag, *home = sys.argv[1:]
    if found := problems(tag):
        sys.exit("\n".join(found))
    if home:
        page = ROOT / "README.md"
        page.write_text(absolute(page.read_text(encoding="utf-8"), home[0].rstrip("/"), tag), encoding="utf-8")
    print(notes(tag.removeprefix("v"), (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")))
