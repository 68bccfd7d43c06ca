"""torch.compile for the image tower: opt-in, for it takes a minute and moves the last digits.

Texts stay on the tree of their prefixes, which leaves out more than a compiler could save.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch._dynamo import maybe_mark_dynamic
from torch._dynamo.exc import TorchDynamoException
from torch._inductor.cpp_builder import get_cpp_compiler
from torch._inductor.exc import InvalidCxxCompiler
from torch.utils._triton import has_triton

from cocabench.core.errors import ModelError, UsageError

Encode = Callable[[Tensor], Tensor]


def check_compiler(device: torch.device) -> None:
    """Raise UsageError where torch.compile lacks what it needs: a C++ compiler for a CPU, Triton for a GPU."""
    fix = "or leave --compile out"
    if device.type == "cuda" and not has_triton():
        raise UsageError("--compile", "this GPU or machine has no working Triton", fix=f"install triton, {fix}")
    try:
        get_cpp_compiler()
    except InvalidCxxCompiler:
        raise UsageError("--compile", "no C++ compiler found", fix=f"install g++ or set CXX, {fix}") from None


def compiled(encode: Encode, model: str) -> Encode:
    """Return encode (n, …) -> (n, d), compiled at its first call, once for all n > 1. ModelError where that fails."""
    fast = torch.compile(encode)

    def run(inputs: Tensor) -> Tensor:
        maybe_mark_dynamic(inputs, 0)
        try:
            return fast(inputs)
        except TorchDynamoException as error:
            inner = getattr(error, "inner_exception", error)
            reason = f"{type(inner).__name__}: {inner}".splitlines()[0]
            raise ModelError(model, f"torch.compile failed: {reason}", fix="leave --compile out") from error

    return run
