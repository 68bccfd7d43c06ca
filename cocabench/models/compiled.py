"""torch.compile for the image tower: opt-in, since it takes a minute and changes the last digits.

Texts are not compiled: sharing their prefixes saves more than a compiler could.
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


def check_compiler(device: str) -> None:
    """Raise UsageError if torch.compile lacks its requirements: a C++ compiler for CPUs, Triton for GPUs."""
    fix = "or omit --compile"
    if device.startswith("cuda") and not has_triton():
        raise UsageError("--compile", "this GPU or machine has no working Triton", fix=f"install triton, {fix}")
    try:
        get_cpp_compiler()
    except InvalidCxxCompiler:
        raise UsageError("--compile", "no C++ compiler found", fix=f"install g++ or set CXX, {fix}") from None


def compiled(encode: Encode, model: str) -> Encode:
    """Return encode (n, …) -> (n, d), compiled at its first call for any n > 1; ModelError if compilation fails."""
    fast = torch.compile(encode)

    def run(inputs: Tensor) -> Tensor:
        maybe_mark_dynamic(inputs, 0)
        try:
            return fast(inputs)
        except TorchDynamoException as error:
            inner = getattr(error, "inner_exception", error)
            reason = f"{type(inner).__name__}: {inner}".splitlines()[0]
            raise ModelError(model, f"torch.compile failed: {reason}", fix="omit --compile") from error

    return run
