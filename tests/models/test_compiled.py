"""--compile: the features of the plain network, or one line that says why not."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._dynamo.utils import counters
from torch._inductor.exc import InvalidCxxCompiler

from cocabench.core.errors import ModelError, UsageError
from cocabench.models import compiled
from cocabench.models.hardware import hardware
from cocabench.models.open_clip.model import OpenClip
from cocabench.specs.registry import model_sources
from cocabench.specs.spec import parse_models
from tests.conftest import Command


def no_compiler() -> str:
    raise InvalidCxxCompiler


def test_a_missing_compiler_is_one_line(
    command: Command, models: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiled, "get_cpp_compiler", no_compiler)
    result = command("run", "--model", models / "clip", "--tasks", data / "find.toml", "--compile", "--device", "cpu")
    assert result.code == 2
    assert result.err.count("\n") <= 2
    assert "no C++ compiler found" in result.err.replace("\n", " ")
    assert "Traceback" not in result.err


def test_a_gpu_needs_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "has_triton", lambda: False)
    with pytest.raises(UsageError, match="Triton"):
        compiled.check_compiler("cuda")


@pytest.mark.slow
def test_a_network_that_cannot_be_compiled_is_an_error_that_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Any:
        raise ValueError("no such kernel")

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=broken))
    with pytest.raises(ModelError, match=r"some-model.*no such kernel.*omit --compile"):
        compiled.compiled(lambda x: x * 2, "some-model")(torch.ones(3))


@pytest.mark.slow
def test_compiled_features_are_the_plain_ones(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    (source,) = model_sources(parse_models("demo/clip"))
    plain, fast = (source.load(hardware(device="cpu", precision="fp32", compile=on)) for on in (False, True))
    assert isinstance(plain, OpenClip)
    assert isinstance(fast, OpenClip)
    size = plain.net.visual.image_size
    side = size if isinstance(size, int) else size[0]
    torch._dynamo.reset()
    counters.clear()
    for n in (6, 3, 2):
        pixels = torch.randn(n, 3, side, side, generator=torch.Generator().manual_seed(n))
        (a,), (b,) = (m.run_batch("images", m.encode_image_batch, pixels) for m in (plain, fast))
        assert (a - b).abs().max() <= 2e-5
    assert counters["stats"]["unique_graphs"] == 1, "one compilation serves all sizes"
    texts = ["a dog", "a photo of a cat"]
    assert (plain.encode_texts(texts) == fast.encode_texts(texts)).all()
