"""Contexts in which networks compute: a precision, without dropout, with random states that come back."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, TypeVar

import numpy as np
import torch

from cocabench.models.hardware import Hardware

T = TypeVar("T")


@contextmanager
def in_precision(hardware: Hardware) -> Iterator[None]:
    """Compute in a precision: autocast for fp16 and bf16; fp32 without TF32, also in convolutions.

    Without gradients, but not in inference mode: a network in training may keep what it computes here (rotary
    positions), and could not be trained with inference tensors.
    """
    with torch.no_grad(), _without_tf32(), _autocast(hardware), _current(hardware):
        yield


def _current(hardware: Hardware) -> AbstractContextManager[Any]:
    return torch.cuda.device(hardware.device) if hardware.on_gpu else nullcontext()


def _or_none(read: Callable[[], T]) -> T | None:
    """Return what torch says, or None where it does not know: RuntimeError."""
    try:
        return read()
    except RuntimeError:
        return None


def _autocast(hardware: Hardware) -> AbstractContextManager[Any]:
    if hardware.precision == "fp32":
        return nullcontext()
    return torch.autocast(hardware.device_type, torch.float16 if hardware.precision == "fp16" else torch.bfloat16)


@contextmanager
def _without_tf32() -> Iterator[None]:
    """Compute products and convolutions of fp32 in fp32, whichever of torch's old and new names a caller has set.

    The old names raise RuntimeError where the new ones (torch >= 2.9) say something else.
    """
    cudnn, mkldnn = torch.backends.cudnn, torch.backends.mkldnn
    settings: list[Any] = [torch.backends, cudnn, mkldnn, torch.backends.cuda.matmul]  # those that inherit come last
    settings += [getattr(backend, one, None) for backend in (cudnn, mkldnn) for one in ("matmul", "conv", "rnn")]
    before = {one: one.fp32_precision for one in settings if hasattr(one, "fp32_precision")}
    matmul, tf32 = _or_none(torch.get_float32_matmul_precision), _or_none(lambda: cudnn.allow_tf32)
    for one in before:
        one.fp32_precision = "ieee"
    torch.set_float32_matmul_precision("highest")
    cudnn.allow_tf32 = False
    try:
        yield
    finally:
        if matmul is not None:
            torch.set_float32_matmul_precision(matmul)
        if tf32 is not None:
            cudnn.allow_tf32 = tf32
        for one, precision in before.items():
            one.fp32_precision = precision


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
