"""A network's linear layers by oneDNN: in fp32 on a CPU twice as fast as the BLAS that torch calls otherwise."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from open_clip.transformer import ResidualAttentionBlock
from torch import Tensor, nn

from cocabench.models.open_clip.decoding.towers import SelfBlock, linear


class Layers:
    """Lets the linear layers of a network in eval mode, fp32 and on the CPU run by oneDNN while it is entered.

    Results move by 1e-7; the network is as it was afterwards (oneDNN's layers have no gradients, and operations in them
    cannot be counted). Standard self-attention blocks are taken apart for it, since nn.MultiheadAttention is one piece
    to torch. Their masked calls (text towers) stay as they are.
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
    if "forward" in vars(module):  # the user has set one, which must be run and must stay
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
