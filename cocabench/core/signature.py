"""Signatures: how a number was made, in a form that can be compared and hashed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from pydantic import JsonValue

from cocabench.core.types import Signature


def digest(*parts: JsonValue) -> str:
    """Return a 16-digit SHA-256 of the parts' canonical JSON: the same parts give the same digits everywhere."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def digest_lines(lines: Iterable[str]) -> str:
    """Return a 16-digit SHA-256 of many strings without holding their JSON (each line ends with a unit separator)."""
    sha = hashlib.sha256()
    for line in lines:
        sha.update(line.encode())
        sha.update(b"\x1f")
    return sha.hexdigest()[:16]


def digest_file(path: Path) -> str:
    """Return the first 16 digits of a file's SHA-256."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def short(signature: Signature) -> str:
    """Return the 12 digits that name a signature in file names and tables."""
    return digest(signature.protocol, signature.model)[:12]


def protocol_differences(a: Signature, b: Signature) -> list[str]:
    """Return a phrase for each protocol part that differs: ``data.images: 1000 against 8000``. Empty: comparable."""
    left, right = flat(a.protocol), flat(b.protocol)
    return [
        f"{key}: {left.get(key, 'absent')} against {right.get(key, 'absent')}"
        for key in sorted(left.keys() | right.keys())
        if left.get(key, _ABSENT) != right.get(key, _ABSENT)
    ]


def known_differences(a: Signature, b: Signature) -> list[str]:
    """Return a phrase for each protocol part that both know and that differs; imported Records know few."""
    left, right = flat(a.protocol), flat(b.protocol)
    both = (key for key in left if key in right and key != "imported" and left[key] != right[key])
    return [f"{key}: {left[key]} against {right[key]}" for key in sorted(both)]


_ABSENT = object()


def flat(tree: Mapping[str, JsonValue], prefix: str = "") -> dict[str, JsonValue]:
    """Return the leaves of a part of a signature by dotted names: ``data.images``."""
    leaves: dict[str, JsonValue] = {}
    for key, value in tree.items():
        leaves |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return leaves
