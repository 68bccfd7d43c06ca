"""What only a GPU can show: ``pytest -m gpu`` on a machine with CUDA. Elsewhere each is skipped by name."""

from functools import partial
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2

from benchmarks.make_decoding_goldens import MODELS, build, images
from benchmarks.ranks import lifelike
from cocabench.core.types import ImageSource
from cocabench.data.images import FileImage
from cocabench.metrics import matching
from cocabench.metrics.ranking import Ranks
from cocabench.models.base import OnTheWay
from cocabench.models.contexts import in_precision
from cocabench.models.hardware import Precision, hardware
from cocabench.models.open_clip.decoding import search, steps
from cocabench.models.open_clip.decoding.generate import DecodeOptions, caption_logprob, generate_scored
from cocabench.models.open_clip.decoding.steps import Stepping
from cocabench.models.pixels import split
from cocabench.models.scores import ScoresOnDevice
from cocabench.models.smoke import TOLERANCES, deviations
from cocabench.specs.registry import model_sources
from cocabench.specs.spec import parse_models
from tests.models.hf import tiny

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@pytest.mark.gpu
@needs_cuda
def test_the_gpu_agrees_with_the_cpu_in_every_precision() -> None:
    found = list(deviations("cuda"))
    assert {f.name for f in found} == {
        *(f"features in {p}" for p in TOLERANCES),
        "captions in fp32 (share that differs)",
    }
    for deviation in found:
        assert deviation.found <= deviation.allowed, deviation


@pytest.mark.gpu
@needs_cuda
def test_ranks_by_the_gpu_equal_those_of_the_cpu_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matching, "MIN_WORK_ON_DEVICE", 0)
    monkeypatch.setattr(matching, "SCORES_PER_CHUNK", 1 << 20)
    data = (*lifelike(2000, 5), np.arange(10000) // 5, np.arange(10000))
    found, alone = (
        matching.rank_both_ways(*data, device=device) for device in (partial(ScoresOnDevice, device="cuda"), None)
    )
    for way in ("t2i", "i2t"):
        for field, mine, theirs in zip(Ranks._fields, getattr(found, way), getattr(alone, way), strict=True):
            assert (mine == theirs).all(), (way, field)


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("name", ["clip", "siglip2", "naflex", "blip", "git", "coca_pytorch"])
def test_other_libraries_on_the_gpu_agree_with_the_cpu(name: str, tmp_path: Path, data: Path) -> None:
    pixels: list[ImageSource] = [FileImage(path) for path in sorted((data / "images").iterdir())]
    if name == "coca_pytorch":
        text = f"coca_pytorch::{Path(__file__).parent / 'models' / 'data' / 'coca_pytorch_build.py'}"
    else:
        text = f"transformers::{tiny.FAMILIES[name](tmp_path / name)}"
    models = []
    for device in ("cpu", "cuda"):  # each builds its own network
        (source,) = model_sources(parse_models(text, typed=True))
        models.append(source.load(hardware(device=device, precision="fp32", workers=0)))
    for verb, given in (("encode_images", (pixels,)), ("encode_texts", (["a cat", "two dogs"],))):
        if "encode" in models[0].abilities:
            found = [getattr(model, verb)(*given) for model in models]
            here, there = (getattr(one, "rows", one) for one in found)
            assert abs(here - there).max() < 1e-4
    if "caption" in models[0].abilities:
        options = {"generation_type": "greedy", "seq_len": 10}
        captions = [model.caption(pixels, options, prompts=["", "a"] * 6).texts for model in models]
        assert sum(a == b for a, b in zip(*captions, strict=True)) >= len(pixels) - 1
        here, there = (model.score_captions(pixels, [["a cat", "dog"]] * 12).logprobs for model in models)
        assert abs(here - there).max() < 1e-2


@pytest.mark.gpu
@needs_cuda
def test_rows_that_are_copied_meanwhile_are_whole() -> None:
    given = torch.randn(2048, 2048, device="cuda")
    on_the_way = [OnTheWay(given @ given * k) for k in range(8)]  # asked for at once, read back later
    assert all(one.rows.is_pinned() for one in on_the_way)
    for k, one in enumerate(on_the_way):
        assert torch.equal(one.arrived(), (given @ given * k).cpu())


@pytest.mark.gpu
@needs_cuda
def test_pixels_are_finished_on_the_gpu_to_the_same_bits() -> None:
    parts = split(image_transform_v2(PreprocessCfg(size=224), is_train=False))
    pixels = torch.arange(256, dtype=torch.uint8).repeat(3, 1, 4)
    assert torch.equal(parts.finish(pixels.cuda()).cpu(), parts.finish(pixels))


@pytest.mark.gpu
@needs_cuda
def test_fp32_is_computed_without_tf32() -> None:
    a, b = (torch.randn(512, 512, device="cuda") for _ in range(2))
    with in_precision(hardware(device="cuda", precision="fp32")):
        product = (a @ b).double()
    assert float((product - a.double() @ b.double()).abs().max()) < 1e-3


def _captions(device: str, dtype: torch.dtype, stepping: Stepping) -> list[list[int]]:
    """Three groups with a diversity penalty, so that beams part and finish at different steps."""
    model, pixels = build("base").to(device, dtype), images("base", 12).to(device, dtype)
    options = DecodeOptions(decoding="logprob", diversity_penalty=0.5, seq_len=24)
    ids = MODELS["base"]["ids"]
    found = generate_scored(model, pixels, options=options, fixed_output_length=True, stepping=stepping, **ids)
    return found.tokens.tolist()


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("stepping", get_args(Stepping))
def test_captions_on_the_gpu_are_the_cpus(stepping: Stepping) -> None:
    """In float64, so that no choice hangs on rounding; steps cached, replayed as CUDA graphs, and recomputed."""
    assert _captions("cuda", torch.float64, stepping) == _captions("cpu", torch.float64, "cached")


@pytest.mark.gpu
@needs_cuda
def test_likelihoods_on_the_gpu_are_the_cpus() -> None:
    texts = torch.randint(8, 40, (12, 3, 20), generator=torch.Generator().manual_seed(0))

    def totals(device: str) -> torch.Tensor:
        model, pixels = build("base").to(device, torch.float64), images("base", 12).to(device, torch.float64)
        return caption_logprob(model, pixels, texts.to(device)).total.cpu()

    torch.testing.assert_close(totals("cuda"), totals("cpu"), rtol=1e-5, atol=1e-5)


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_replayed_step_gives_what_the_step_gives(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the same shapes the same kernels run, so that half-precision captions too are equal."""
    monkeypatch.setattr(steps, "STEPS_PER_SWEEP", 24)
    monkeypatch.setattr(steps, "MIN_FINISHED_FRACTION", search.MIN_FINISHED_FRACTION)
    assert _captions("cuda", dtype, "cuda_graphs") == _captions("cuda", dtype, "cached")


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_a_step_under_autocast_can_be_captured(precision: Precision) -> None:
    with in_precision(hardware(device="cuda", precision=precision)):
        assert _captions("cuda", torch.float32, "cuda_graphs") == _captions("cuda", torch.float32, "cuda_graphs")


@pytest.mark.slow
def test_the_smoke_test_itself_on_the_cpu() -> None:
    """The CPU against itself: fp32 differs by nothing, bf16 by rounding, and not by nothing."""
    found = {f.name: f for f in deviations("cpu", images=8, precisions=("fp32", "bf16"))}
    assert found["features in fp32"].found == 0
    assert found["captions in fp32 (share that differs)"].found == 0
    assert found["likelihoods per token in fp32"].found == 0
    assert 0 < found["likelihoods per token in bf16"].found <= found["likelihoods per token in bf16"].allowed
    assert 0 < found["features in bf16"].found <= found["features in bf16"].allowed


@pytest.mark.gpu
@needs_cuda
def test_a_probe_is_clip_benchmarks_linear_probe_unmodified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its loop as it is, from the same features; only its accuracy, which numpy 2.4 refuses, is replaced."""
    from clip_benchmark.metrics import linear_probe

    from cocabench.models.probes import AdamW
    from tests.kinds import test_probe as on_cpu

    monkeypatch.setattr(linear_probe, "accuracy", on_cpu.top_k)
    monkeypatch.setattr(on_cpu, "CPU", AdamW("cuda"))
    kind = on_cpu.Probe(probe="clip_benchmark", shots=("all",), seeds=(3,), val="val")
    found = on_cpu.values(kind, on_cpu.samples(kind))
    theirs = on_cpu.theirs(linear_probe.evaluate, tmp_path, -1, 3, on_cpu.VAL, device="cuda")
    assert found["acc1"] == pytest.approx(theirs["lp_acc1"], abs=0.02), "sums on a GPU may round differently"
