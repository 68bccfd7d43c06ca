"""Calibration of a classification, as a run measures it and the report shows it."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cocabench import load
from cocabench.core.types import SampleScore
from cocabench.kinds.calibration import METRICS, RELIABILITY, half, kept
from cocabench.kinds.classification import Classification
from cocabench.metrics.base import stack
from cocabench.metrics.classification import ranked_in_chunks
from cocabench.report.breakdowns import reliabilities
from tests.conftest import Command
from tests.results.test_overlap import encoded, shard

NAMES = {metric.name for metric in METRICS}


def test_a_later_run_measures_it_from_cached_features(
    command: Command, models: Path, data: Path, tmp_path: Path
) -> None:
    words = ["run", "--model", models / "clip", "--tasks", data / "name.toml", "--data-root", data]
    words += ["--output", tmp_path / "r"]
    assert command(*words).code == 0
    (before,) = load(tmp_path / "r")
    assert not NAMES & before.metrics.keys()
    result = command(*words, "--param", "calibration=true")
    assert "already done" not in result.err
    (after,) = load(tmp_path / "r")
    assert after.signature == before.signature, "calibration moves no number: the same result, with more of it"
    assert {name: after.metrics[name] for name in before.metrics} == before.metrics
    assert after.metrics.keys() >= NAMES
    said = " ".join(note.text for note in after.notes if note.code == "calibration")
    assert "at the logit scale 14.29 (temperature 0.07)" in said, "open_clip's first: 1 / 0.07"
    assert "already done" in command(*words).err
    assert load(tmp_path / "r")[0].metrics.keys() >= NAMES


def diagram(sure: float) -> list[tuple[float, float]]:
    """Return (probability, share right) in percent, of answers that are right as often as probabilities at 50 say."""
    rng, classes = np.random.default_rng(0), 3
    cosines = (0.2 + 0.02 * rng.standard_normal((2000, classes))).astype(np.float32)
    powers = np.exp(50 * cosines.astype(np.float64))
    labels = np.array([rng.choice(classes, p=row / row.sum()) for row in powers])

    rows = ranked_in_chunks([cosines], labels, np.arange(classes), partial(kept, sure))
    frame = stack(SampleScore(str(i), str(i), {**row, "half": half(str(i))}) for i, row in enumerate(rows))
    (chart,) = reliabilities(Classification, "pets", {"m": frame, "without": frame.drop(columns="top_logprobs")})
    assert [line.model for line in chart.lines] == ["m"]
    assert (chart.name, chart.dashed, chart.chance) == ("pets-reliability", "calibrated", ((0, 0), (100, 100)))
    return [(x, score.value) for x, score in chart.lines[0].points]


def test_a_calibrated_model_is_on_the_diagonal_and_one_too_sure_below() -> None:
    honest, sure = diagram(50.0), diagram(200.0)
    assert all(abs(x - y) < 10 for x, y in honest)
    assert sum(y < x - 10 for x, y in sure) >= len(sure) - 2
    assert RELIABILITY.metric == "acc1"


def test_bad_params_are_one_line(command: Command, models: Path, data: Path, tmp_path: Path) -> None:
    words = ["run", "--model", models / "clip", "--tasks", data / "name.toml", "--data-root", data, "--dry-run"]
    assert "params.calibration: got 'yes'; wanted true or false" in command(*words, "--param", "calibration=yes").err
    both = command(*words, "--param", "calibration=true", "--param", "scoring=likelihood").err
    assert "params.calibration needs images of one class each, and cosines" in both


@pytest.mark.parametrize("name", ["00000", "\udcff", "é"])
def test_halves_are_by_id(name: str) -> None:
    assert half(name) in (0, 1)


def test_a_task_names_an_out_of_distribution_split(command: Command, models: Path, tmp_path: Path) -> None:
    """The split "other" has brighter noise; its images are told from the set's own by their highest probability."""
    for split, low in (("test", 0), ("other", 128)):
        members = {}
        for i in range(8):
            pixels = np.random.default_rng(low + i).integers(low, 255, (24, 24, 3), dtype=np.uint8)
            members |= {f"{i}.png": encoded(Image.fromarray(pixels)), f"{i}.cls": str(i % 6).encode()}
        shard(tmp_path / f"set/{split}/0.tar", members)
    (tmp_path / "set/classnames.txt").write_text("\n".join(f"thing {k}" for k in range(6)))
    head = 'name = "own"\nversion = 1\nevaluator = "classification"\nsummary = "s"\nprimary = "ood_auroc"\n'
    data = '[data]\nloader = "webdataset"\npath = "set"\n[expect.ood]\nimages = 8\n'
    params = '[params]\ntemplates = "cifar10"\ncalibration = true\nood = "other"\n'
    (tmp_path / "own.toml").write_text(head + data + params)
    words = ["run", "--model", models / "clip", "--tasks", tmp_path / "own.toml", "--data-root", tmp_path]
    result = command(*words, "--output", tmp_path / "r")
    assert result.code == 0, result.err
    (record,) = load(tmp_path / "r")
    assert record.metrics["ood_auroc"].n == 8
    assert record.metrics["ood_auroc"].value is not None
    assert record.metrics["ood_aupr"].value is not None
    assert record.signature.protocol["extra_data"]
