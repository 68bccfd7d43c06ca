"""open_clip: checkpoints as models, and two functions for networks in memory, `generate` and `encode_tokens`.

They are imported on first use, with torch: plans need neither. UsageError if the installed open_clip is of a major
version that this room does not know: its imports might still work.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from cocabench.core.packages import check_open_clip

if TYPE_CHECKING:
    from cocabench.models.open_clip.decoding.generate import generate
    from cocabench.models.open_clip.text import encode_tokens

check_open_clip()

__all__ = ["encode_tokens", "generate"]

_MODULES = {
    "encode_tokens": "cocabench.models.open_clip.text",
    "generate": "cocabench.models.open_clip.decoding.generate",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module 'cocabench.models.open_clip' has no attribute {name!r}")
