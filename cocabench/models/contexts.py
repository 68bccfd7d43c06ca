"""Contexts in which networks compute: a precision, without dropout, with random states that come back."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, cast

import numpy as np
import torch

from cocabench.models.hardware import Hardware


@contextmanager
def in_precision(hardware: Hardware) -> Iterator[None]:
    """Compute in a precision: autocast for fp16 and bf16; fp32 without TF32, also in convolutions.

    Without gradients, but not in inference mode: a network in training may keep what it computes here (rotary
    positions), and could not be trained with inference tensors.
    """
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.no_grad(), _cudnn_without_tf32(), _autocast(hardware), _current(hardware):
            yield
    finally:
        torch.set_float32_matmul_precision(before)


def _current(hardware: Hardware) -> AbstractContextManager[Any]:
    return torch.cuda.device(hardware.device) if hardware.on_gpu else nullcontext()


def _autocast(hardware: Hardware) -> AbstractContextManager[Any]:
    if hardware.precision == "fp32":
        return nullcontext()
    return torch.autocast(hardware.device_type, torch.float16 if hardware.precision == "fp16" else torch.bfloat16)


def _cudnn_without_tf32() -> AbstractContextManager[Any]:
    """Disable TF32 in cuDNN and keep its other settings, which torch's own context manager would reset."""
    now = torch.backends.cudnn
    kept = {"enabled": now.enabled, "benchmark": now.benchmark, "deterministic": now.deterministic}
    return cast(AbstractContextManager[Any], now.flags(**kept, allow_tf32=False))


@contextmanager
def evaluating(net: torch.nn.Module) -> Iterator[None]:
    """Disable dropout and batch statistics; on exit restore each submodule's mode."""
    training = [module for module in net.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


@contextmanager
def unchanged_random_state() -> Iterator[None]:
    """Restore the random states of Python, numpy and torch (also of its GPUs, if they are in use) on exit."""
    python, numpy, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()
    gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        torch.set_rng_state(cpu)
        if gpus:
            torch.cuda.set_rng_state_all(gpus)
