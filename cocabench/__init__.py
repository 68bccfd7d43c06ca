"""cocabench: benchmarks for CoCa and CLIP checkpoints, with error bars.

>>> import cocabench
>>> results = cocabench.load("results")     # Records, and a pandas frame of their metrics
>>> results.frame()
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cocabench.results.store import Results, load

__all__ = ["Results", "__version__", "load"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name in ("Results", "load"):
        from cocabench.results import store

        return getattr(store, name)
    raise AttributeError(f"module 'cocabench' has no attribute {name!r}")
