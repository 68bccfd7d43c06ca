"""fp32 is fp32, whatever a caller's script has set, and what it has set is back afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from cocabench.models.contexts import in_precision
from cocabench.models.hardware import Hardware

NAMED = torch.backends
PLACES: list[Any] = [
    NAMED, NAMED.cudnn, NAMED.mkldnn, NAMED.cuda.matmul, NAMED.cudnn.conv, NAMED.cudnn.rnn,
    *(getattr(NAMED.mkldnn, one, None) for one in ("matmul", "conv", "rnn")),
]  # fmt: skip
new_names = pytest.mark.skipif(not hasattr(NAMED, "fp32_precision"), reason="torch < 2.9 has the old names alone")


def state() -> list[object]:
    return [place.fp32_precision for place in PLACES if hasattr(place, "fp32_precision")]


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    before, matmul, cudnn = state(), torch.get_float32_matmul_precision(), NAMED.cudnn.allow_tf32
    yield
    torch.set_float32_matmul_precision(matmul)
    NAMED.cudnn.allow_tf32 = cudnn
    for place, precision in zip([one for one in PLACES if hasattr(one, "fp32_precision")], before, strict=True):
        place.fp32_precision = precision
    assert state() == before


def new(place: Any, precision: str) -> Callable[[], None]:
    return lambda: setattr(place, "fp32_precision", precision)


@pytest.mark.parametrize(
    "given",
    [
        pytest.param(lambda: None, id="nothing"),
        pytest.param(lambda: torch.set_float32_matmul_precision("medium"), id="old name"),
        pytest.param(lambda: setattr(NAMED.cudnn, "allow_tf32", False), id="old name of cuDNN"),
        pytest.param(new(NAMED, "tf32"), id="all", marks=new_names),
        pytest.param(new(NAMED.cuda.matmul, "tf32"), id="GPU", marks=new_names),
        pytest.param(new(NAMED.cudnn.conv, "tf32"), id="cuDNN", marks=new_names),
        pytest.param(new(getattr(NAMED.mkldnn, "matmul", None), "bf16"), id="CPU", marks=new_names),
        pytest.param(new(getattr(NAMED.mkldnn, "conv", None), "bf16"), id="CPU's convolutions", marks=new_names),
    ],
)
def test_fp32_is_fp32_and_settings_come_back(given: Callable[[], None]) -> None:
    given()
    before = state()
    with in_precision(Hardware("cpu", "fp32")):
        assert set(state()) <= {"ieee"}
        assert (torch.get_float32_matmul_precision(), NAMED.cudnn.allow_tf32) == ("highest", False)
    assert state() == before


@new_names
def test_old_names_say_what_they_said_before() -> None:
    torch.set_float32_matmul_precision("high")
    with in_precision(Hardware("cpu", "fp32")):
        pass
    assert torch.get_float32_matmul_precision() == "high"
