"""What a model costs: counts against published ones, times against a stopwatch, and what must not be compared."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import cocabench
from cocabench.core.errors import ModelError
from cocabench.core.formatting import number
from cocabench.core.types import Context, Estimate, MetricInfo
from cocabench.data.builtin import Synthetic
from cocabench.kinds.efficiency import METRICS, Efficiency
from cocabench.metrics.base import Samples, estimate
from cocabench.models.base import Model
from cocabench.models.hardware import hardware
from cocabench.models.open_clip.blueprint import blueprint
from cocabench.models.open_clip.build import meta_network
from cocabench.models.profiling import Peak, gflops, parameters, seconds, training_step
from cocabench.models.training import saved_bytes, shapes_of
from cocabench.results.efficiency import sentences, training_costs
from cocabench.results.published import profile
from cocabench.specs.spec import parse_model
from tests.conftest import Command
from tests.models.tiny import CLIP, COCA, random_network

TABLE_3 = {
    "coca_ViT-L-14": {"image_encoder": 306.72, "text_encoder": 123.65, "text_decoder": 208.07},
    "coca_ViT-B-32": {"image_encoder": 89.16, "text_encoder": 63.42, "text_decoder": 100.96},
}
"""Millions of parameters: table 3 of LAION, Training Contrastive Captioners, 2 February 2023."""


@pytest.mark.parametrize("model", TABLE_3)
def test_parameters_equal_those_of_the_coca_blog(model: str) -> None:
    found = parameters(blueprint(parse_model(f"{model}:random@0")))
    assert {tower: count / 1e6 for tower, count in found.items()} == pytest.approx(TABLE_3[model], abs=0.01)


@pytest.mark.parametrize("model", ["ViT-B-32", "coca_ViT-B-32", "ViT-L-14", "coca_ViT-L-14", "RN50", "ViT-B-16-SigLIP"])
def test_gflops_equal_open_clips_profile(model: str) -> None:
    """Published: docs/model_profile.csv of open_clip. From the config, without weights."""
    published = profile().query("model == @model and quantity == 'gflops' and source == 'open_clip'")
    wanted = published.set_index("tower").value
    found = gflops(meta_network(blueprint(parse_model(f"{model}:random@0"))).eval())
    names = {"image_gflops": "image_encoder", "text_gflops": "text_encoder", "gflops": "total"}
    for ours, theirs in names.items():
        assert found[ours] == pytest.approx(wanted[theirs], rel=0.02), ours
    assert found["gflops"] == pytest.approx(sum(value for name, value in found.items() if name != "gflops"))


def test_gflops_of_a_linear_layer_by_hand() -> None:
    """CLIP of one layer, width 32, 16 positions, MLP 4 times as wide, output 16; by hand for the text tower."""
    clip = random_network_of(CLIP)
    n, w, d = 16, 32, 16
    products = n * (4 * w * w + 8 * w * w) + 2 * n * n * w + w * d
    assert gflops(clip)["text_gflops"] == pytest.approx(2 * products / 1e9, rel=1e-9)


def random_network_of(config: dict[str, object]) -> torch.nn.Module:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        return random_network(Path(folder), config)


def test_counting_operations_restores_the_fast_attention_path() -> None:
    before = torch.backends.mha.get_fastpath_enabled()
    gflops(random_network_of(CLIP))
    assert torch.backends.mha.get_fastpath_enabled() is before


def test_a_training_step_trains_a_copy() -> None:
    net = random_network_of(COCA)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with training_step(net, 3, "fp32") as step:
        step()
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert not net.training


def test_estimated_saved_activations_are_close_to_measured_ones() -> None:
    net = random_network_of(COCA)
    estimated = saved_bytes(shapes_of(net), 4)
    assert estimated == pytest.approx(saved_bytes(net, 4), rel=0.35)
    assert saved_bytes(shapes_of(net), 8) == pytest.approx(2 * estimated, rel=0.05)


def test_time_and_memory_are_measured_for_the_work_only() -> None:
    cpu = torch.device("cpu")
    import time

    assert 0.05 <= seconds(lambda: time.sleep(0.05), cpu) < 0.5
    peak = Peak(cpu)
    with peak:
        held = torch.ones(64 * 2**20 // 4)
    assert peak.mib is None or 60 < peak.mib < 80
    del held


def metric(name: str, samples: Samples) -> Estimate:
    return estimate(next(m for m in METRICS if m.name == name), samples)


def test_times_are_medians_with_the_range_of_six_repeats_as_interval() -> None:
    def rows(values: list[float]) -> Samples:
        ids = [str(k) for k in range(len(values))]
        return pd.DataFrame(
            {"id": ids, "image_id": ids, "train_step_s": values, "gflops": [3.0] + [np.nan] * (len(ids) - 1)}
        )

    found = metric("train_step_s", rows([1.0, 5.0, 2.0, 4.0, 3.0, 100.0]))
    assert (found.value, found.low, found.high, found.n) == (3.5, 1.0, 100.0, 6)
    five = metric("train_step_s", rows([1.0, 2.0, 3.0, 4.0, 5.0]))
    assert (five.value, five.low) == (3.0, None), "five repeats cover the median with 93.75 % only"
    assert metric("gflops", rows([1.0, 2.0])).value == 3.0
    assert metric("captions_per_s", rows([1.0, 2.0])) == Estimate(value=None, low=None, high=None, n=0)


@pytest.mark.parametrize(
    ("value", "half", "unit", "wanted"),
    [
        (0.04312, 0.00211, "s", "0.0431 ± 0.0022 (n=6)"),
        (1234.5, 100.2, "per_s", "1234 ± 101 (n=6)"),
        (8.8176, 0.0, "gflops", "8.82 ± 0.00 (n=6)"),
        (0.5844, 0.0123, "fraction", "58.4 ± 1.3 (n=6)"),
    ],
)
def test_costs_are_printed_with_three_digits(value: float, half: float, unit: str, wanted: str) -> None:
    info = MetricInfo(unit=unit, higher_is_better=False, summary="")  # type: ignore[arg-type]
    assert number(Estimate(value=value, low=value - half, high=value + half, n=6), info) == wanted


def test_an_unprofilable_model_gives_a_note() -> None:
    mute = Model("mute", lambda image: image, hardware(device="cpu"))
    with pytest.raises(ModelError, match="mute: a model that cannot be profiled"):
        list(Efficiency().score(mute, Synthetic().build(Path()), Context()))


@pytest.mark.slow
def test_efficiency_runs_without_data_and_compares_coca_with_clip(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = ["run", "--model", "demo", "--tasks", "efficiency", "--output", tmp_path]
    result = command(*given, "--quiet")
    assert result.code == 0, result.err
    results = {record.model: record for record in cocabench.load(tmp_path).records}
    coca, clip = results["demo/coca"], results["demo/clip"]
    names = {metric.name for metric in METRICS}
    assert {name for name in names if (coca.metrics[name].value or 0) > 0} >= names - {"train_memory_mib"}
    assert coca.metrics["train_memory_mib"].n == 1
    assert clip.metrics["captions_per_s"].n == 0
    assert coca.metrics["images_per_s"].n == 6
    assert not coca.skipped_images
    protocol = coca.signature.protocol
    assert protocol["threads"] == torch.get_num_threads()
    assert "CPU" in str(protocol["machine"])

    (cost,) = training_costs(results.values())
    assert (cost.coca.model, cost.clip.model) == ("demo/coca", "demo/clip")
    step = [record.metrics["train_step_s"].value for record in (clip, coca)]
    assert cost.speed == pytest.approx(step[0] / step[1])  # type: ignore[operator]
    speed, memory = sentences(cost)
    assert "0.6, LAION's blog about 0.83" in speed, "both claims, the blog's as 20 % more cost"
    assert "says 1.4" in memory
    assert speed in result.out
    moved = clip.signature.model_copy(update={"protocol": {**protocol, "machine": "another"}})
    assert training_costs([coca, clip.model_copy(update={"signature": moved})]) == [], "not of two machines"

    assert command(*given, "--dry-run").out.count("done") == 2, "measured once on a machine"
    monkeypatch.setattr("cocabench.run.measure.machine_name", lambda device: "another machine")
    assert command(*given, "--dry-run").out.count("ready") == 2, "another machine measures anew"


@pytest.mark.gpu
@pytest.mark.slow
def test_a_gpu_trains_coca_l_14_slower_than_clip_l_14(command: Command, tmp_path: Path) -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    names = "coca_ViT-L-14:random@0,ViT-L-14:random@0"
    result = command("run", "--model", names, "--tasks", "efficiency", "--output", tmp_path)
    assert result.code == 0, result.err
    (cost,) = training_costs(cocabench.load(tmp_path).records)
    assert cost.speed is not None
    assert cost.memory is not None
    assert 0.4 < cost.speed < 1
    assert 1 < cost.memory < 2
