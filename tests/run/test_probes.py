"""Probes from the command line: folders of images to a Record, two models compared, and what is wrong in one line."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cocabench.results.records import read
from tests.conftest import Command

TASK = """
name = "things_probe"
version = 1
evaluator = "probe"
summary = "Reds from blues."
primary = "acc1"
[data]
loader = "imagefolder"
path = "things"
split = "test"
[expect]
images = 12
classes = 2
[expect.train]
images = 10
[params]
shots = [1, 3, "all"]
templates = "imagenet1k"
"""


@pytest.fixture
def things(tmp_path: Path) -> Path:
    """Return a data root with reddish and bluish noise, a folder per split and class, and a task file beside them."""
    rng = np.random.default_rng(0)
    for split, n in (("train", 5), ("test", 6)):
        for channel, name in ((0, "red"), (2, "blue")):
            (tmp_path / f"things/{split}/{name}").mkdir(parents=True)
            for i in range(n):
                pixels = rng.integers(0, 60, (20, 24, 3), dtype=np.uint8)
                pixels[..., channel] += 180
                Image.fromarray(pixels).save(tmp_path / f"things/{split}/{name}/{split}{i}.png")
    (tmp_path / "things_probe.toml").write_text(TASK)
    return tmp_path


def test_a_probe_of_folders_is_measured_and_two_models_are_compared(
    command: Command, models: Path, things: Path
) -> None:
    run = ("run", "--tasks", things / "things_probe.toml", "--data-root", things, "--output", things / "results")
    result = command(*run, "--model", f"{models / 'clip'},{models / 'coca'}", "--json")
    assert result.code == 0, result.err
    for record in json.loads(result.out):
        protocol = record["signature"]["protocol"]
        assert (protocol["probe"], protocol["standard"], protocol["extra_data"]["train"]["images"]) == (
            "ridge",
            True,
            10,
        )
        assert {"zeroshot_acc1", "acc1@1shot", "acc1@3shot", "acc1"} < record["metrics"].keys()
        assert record["metrics"]["acc1"]["value"] > 0.9
        assert record["metrics"]["acc5"]["value"] is None, "two classes"
    rows = command("compare", things / "results", "--all-metrics", "--json").out
    assert {row["metric"] for row in json.loads(rows)} > {"acc1@1shot", "mean_per_class_recall@3shot"}
    again = command(
        *run, "--model", models / "clip", "--param", "shots=all", "--param", "probe=clip_benchmark", "--json"
    )
    (record,) = json.loads(again.out)
    assert set(record["metrics"]) == {"zeroshot_acc1", "acc1", "acc5", "mean_per_class_recall"}
    assert len(read(things / "results").records) == 3, "another protocol is another Record"


@pytest.mark.parametrize(
    ("params", "said"),
    [
        (("train=test",), "things: train = 'test': no such split: the images are those of the test data"),
        (("train=trian",), "things/trian"),
        (("shots=6",), "6 shots: 5 training images of class 0 (2 classes have too few)"),
        (("probe=knn", "shots=all"), "knn: 10 training images; wanted 20 or more, as k"),
        (("probe=clip", "shots=all", "val=nowhere"), "things/nowhere"),
    ],
)
def test_data_that_do_not_suit_are_one_line_before_anything_is_encoded(
    command: Command, models: Path, things: Path, params: tuple[str, ...], said: str
) -> None:
    run = ("run", "--model", models / "clip", "--tasks", things / "things_probe.toml", "--data-root", things)
    result = command(*run, "--dry-run", *(word for param in params for word in ("--param", param)))
    assert said in result.out + result.err
    assert "cannot run" in result.out
