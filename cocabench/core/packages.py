"""Versions of open_clip: its next major version brings other networks under the same names. No torch."""

from __future__ import annotations

from importlib import metadata

from packaging.version import Version

from cocabench.core.errors import UsageError

OPEN_CLIP, NEXT_OPEN_CLIP = "open_clip_torch", 4


def too_new(version: str) -> str:
    """Return why a version of open_clip cannot be used, '' if it can."""
    if Version(version).major < NEXT_OPEN_CLIP:  # 4.0.0.dev0 is below 4.0 and has the new networks
        return ""
    wanted = f"wanted a version below {NEXT_OPEN_CLIP}, which has other CoCas (docs/open_clip4.md)"
    return f"version {version}; {wanted}; run `pip install '{OPEN_CLIP}<{NEXT_OPEN_CLIP}'`"


def check_open_clip() -> None:
    """Raise UsageError if the installed open_clip is of a major version that cocabench does not know."""
    if said := too_new(metadata.version(OPEN_CLIP)):
        raise UsageError(OPEN_CLIP, said)
