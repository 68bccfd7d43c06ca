"""oneDNN for a network's linear layers: in fp32 on a CPU it is twice as fast as torch's default BLAS."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from open_clip.transformer import ResidualAttentionBlock
from torch import Tensor, nn

from cocabench.models.open_clip.decoding.towers import SelfBlock, linear


class Layers:
    """A context manager that runs a network's linear layers with oneDNN: in eval mode, fp32 and on the CPU.

    Results change by 1e-7. On exit the network is restored, since oneDNN's layers have no gradients and their
    operations cannot be counted. Standard self-attention blocks are decomposed, since torch does not replace layers
    inside nn.MultiheadAttention; their masked calls (text towers) are unchanged.
    """

    def __init__(self, net: nn.Module) -> None:
        self._forwards = [(module, fast) for module in net.modules() if (fast := _by_onednn(module)) is not None]

    @contextmanager
    def __call__(self) -> Iterator[None]:
        for module, forward in self._forwards:
            module.forward = forward
        try:
            yield
        finally:
            for module, _ in self._forwards:
                del module.forward


def _by_onednn(module: Any) -> Callable[..., Tensor] | None:
    if "forward" in vars(module):  # set by the user: it must be called and kept
        return None
    if type(module) is nn.Linear:
        return linear(module.weight, module.bias)
    if type(module) is not ResidualAttentionBlock or hasattr(module, "ln_1_kv"):
        return None
    if type(module.attn) is not nn.MultiheadAttention or not module.attn.batch_first:
        return None
    return _unmasked_by(SelfBlock(module), module.forward)


def _unmasked_by(block: SelfBlock, forward: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def run(
        q_x: Tensor, k_x: Tensor | None = None, v_x: Tensor | None = None, attn_mask: Tensor | None = None
    ) -> Tensor:
        if k_x is None and v_x is None and attn_mask is None:
            return block(q_x, None, None)
        return forward(q_x, k_x=k_x, v_x=v_x, attn_mask=attn_mask)

    return run
