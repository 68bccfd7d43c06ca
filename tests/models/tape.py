"""A CUDA graph's rules on the CPU: operators are captured without effect, then replayed on the same tensors."""

from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

FORBIDDEN = ("_local_scalar_dense", "nonzero", "lift_fresh", "equal", "unique2")
"""Operators that wait for the device or read the host's memory: a capture on CUDA fails at them."""


class Tape(TorchDispatchMode):
    """Records operators; what they are given is remembered by identity, what they compute is computed anew later."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any, Any]] = []
        self.given: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self._made: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket.__name__ in FORBIDDEN:
            raise RuntimeError(f"{func} cannot be captured")
        for tensor in tree_leaves((args, kwargs)):
            if isinstance(tensor, torch.Tensor) and id(tensor) not in self._made:
                self.given.setdefault(id(tensor), (tensor, tensor.clone()))
        out = func(*args, **(kwargs or {}))
        self._made |= {id(tensor) for tensor in tree_leaves(out) if isinstance(tensor, torch.Tensor)}
        self.calls.append((func, args, kwargs or {}, out))
        return out


def capture(step: Callable[[], torch.Tensor]) -> Callable[[], torch.Tensor]:
    """Return the step as its operators, of which none has had an effect yet."""
    with Tape() as tape:
        result = step()
    for tensor, before in tape.given.values():
        if not torch.equal(tensor, before):
            tensor.copy_(before)

    def replay() -> torch.Tensor:
        anew: dict[int, torch.Tensor] = {}

        def current(value: Any) -> Any:
            return anew.get(id(value), value) if isinstance(value, torch.Tensor) else value

        for func, args, kwargs, out in tape.calls:
            found = func(*tree_map(current, args), **tree_map(current, kwargs))
            anew.update({id(old): new for old, new in zip(tree_leaves(out), tree_leaves(found), strict=True)})
        return anew[id(result)]

    return replay
