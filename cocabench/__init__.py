"""cocabench: benchmarks for CoCa and CLIP checkpoints, with error bars.

>>> import cocabench
>>> clip = cocabench.evaluate("demo/clip", "emoji_retrieval", limit=50)  # or cocabench.load("results")
>>> coca = cocabench.evaluate("demo/coca", "emoji_retrieval", limit=50)
>>> cocabench.compare(coca, clip)[["task", "metric", "n", "paired"]].values.tolist()
[['emoji_retrieval', 't2i_recall@5', 50, True]]

Functions are imported on first use: ``import cocabench`` does not import torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from cocabench.core import __version__

if TYPE_CHECKING:
    from cocabench.report.results import Results, load
    from cocabench.results.compare import compare
    from cocabench.run.evaluate import Prepared, evaluate, prepare

__all__ = ["Prepared", "Results", "__version__", "compare", "evaluate", "load", "prepare"]


_MODULES = {
    **dict.fromkeys(("Results", "load"), "cocabench.report.results"),
    "compare": "cocabench.results.compare",
    **dict.fromkeys(("Prepared", "evaluate", "prepare"), "cocabench.run.evaluate"),
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module 'cocabench' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_MODULES])
