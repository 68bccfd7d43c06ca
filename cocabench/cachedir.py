"""The folder of what is kept between runs: features, caption scores, jars."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs


def location() -> Path:
    """Return where the cache folder is: $COCABENCH_CACHE, else the user's own."""
    return Path(os.environ.get("COCABENCH_CACHE") or platformdirs.user_cache_dir("cocabench")).expanduser().resolve()


def folder() -> Path:
    """Return the cache folder, made if need be."""
    path = location()
    path.mkdir(parents=True, exist_ok=True)
    return path
