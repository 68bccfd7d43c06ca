"""The Java programs that pycocoevalcap brings, and this package's own small one."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from cocabench.core.errors import MetricUnavailableError

OWN = Path(__file__).parent / "java" / "cocabench.jar"


def find(*parts: str) -> Path:
    """Return a file inside pycocoevalcap. The package is found, not imported."""
    spec = importlib.util.find_spec("pycocoevalcap")
    for root in spec.submodule_search_locations or () if spec else ():
        if (path := Path(root, *parts)).is_file():
            return path
    raise MetricUnavailableError("pycocoevalcap", f"no {'/'.join(parts)}", fix="pip install pycocoevalcap")
