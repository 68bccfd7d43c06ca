"""open_clip: checkpoints as models, and two functions for networks in memory, `generate` and `encode_tokens`.

UsageError if the installed open_clip is of a major version that this room does not know: its imports might still work.
"""

from cocabench.core.packages import check_open_clip

check_open_clip()

from cocabench.models.open_clip.decoding.generate import generate  # noqa: E402
from cocabench.models.open_clip.text import encode_tokens  # noqa: E402

__all__ = ["encode_tokens", "generate"]
