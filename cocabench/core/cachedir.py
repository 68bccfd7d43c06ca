"""The folder of what is kept between runs, and how much of it: features, caption scores, jars."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

from cocabench.core.errors import UsageError

LIMIT_GB = 10.0
SCORES_SHARE = 0.1
"""What caption scores may take of the limit; features have the rest."""


def location() -> Path:
    """Return where the cache folder is: $COCABENCH_CACHE, else the user's own. Nothing is made."""
    return Path(os.environ.get("COCABENCH_CACHE") or platformdirs.user_cache_dir("cocabench")).expanduser().resolve()


def limit() -> int:
    """Return the most bytes that all that is kept may take: $COCABENCH_CACHE_GB, else 10 GB. Jars do not count."""
    text = os.environ.get("COCABENCH_CACHE_GB", str(LIMIT_GB))
    try:
        size = float(text)
    except ValueError:
        size = -1.0
    if not 0 < size < float("inf"):
        raise UsageError("COCABENCH_CACHE_GB", f"got {text!r}", wanted="a number of gigabytes above 0")
    return int(size * 1e9)
