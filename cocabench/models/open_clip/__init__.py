"""open_clip: checkpoints as models, and two functions for networks in memory, `generate` and `encode_tokens`."""

from cocabench.models.open_clip.decoding.generate import generate
from cocabench.models.open_clip.text import encode_tokens

__all__ = ["encode_tokens", "generate"]
