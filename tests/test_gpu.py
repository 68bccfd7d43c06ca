"""What only a GPU can show: ``pytest -m gpu`` on a machine with CUDA. Elsewhere each is skipped by name."""

import pytest
import torch

from cocabench.models.hardware import hardware
from cocabench.models.smoke import ALLOWED, deviations

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@pytest.mark.gpu
@needs_cuda
def test_the_gpu_agrees_with_the_cpu_in_every_precision() -> None:
    found = list(deviations("cuda"))
    assert {f.name for f in found} == {*(f"features in {p}" for p in ALLOWED), "captions in fp32 (share that differs)"}
    for deviation in found:
        assert deviation.found <= deviation.allowed, deviation


@pytest.mark.gpu
@needs_cuda
def test_fp32_is_computed_without_tf32() -> None:
    a, b = (torch.randn(512, 512, device="cuda") for _ in range(2))
    with hardware(device="cuda", precision="fp32").exactly():
        product = (a @ b).double()
    assert float((product - a.double() @ b.double()).abs().max()) < 1e-3


@pytest.mark.slow
def test_the_smoke_test_itself_on_the_cpu() -> None:
    """The CPU against itself: fp32 differs by nothing, bf16 by rounding, and not by nothing."""
    found = {f.name: f for f in deviations("cpu", images=8, precisions=("fp32", "bf16"))}
    assert found["features in fp32"].found == 0
    assert found["captions in fp32 (share that differs)"].found == 0
    assert 0 < found["features in bf16"].found <= found["features in bf16"].allowed
