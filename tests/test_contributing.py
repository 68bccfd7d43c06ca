"""The worked examples of CONTRIBUTING.md do what they say."""

import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cocabench.kinds import retrieval
from cocabench.kinds.testing import check_kind
from cocabench.metrics import ranking
from cocabench.metrics.base import estimate
from cocabench.report.results import load
from tests.conftest import Command

TEXT = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"^```(?:python|toml)\n# (\S+)\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE))
"""{the path in an example's first line: its text}"""


@pytest.fixture
def my_bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Install the package of the examples, and write two photographs with captions; return the data root."""
    site = tmp_path / "site"
    info = site / "my_bench.dist-info"
    for folder in (site / "my_bench", info, tmp_path / "data" / "photographs"):
        folder.mkdir(parents=True)
    for name in ("kind.py", "model.py", "loader.py"):
        (site / "my_bench" / name).write_text(FILES[f"my_bench/{name}"], encoding="utf-8")
    project = tomllib.loads(FILES["my_bench/pyproject.toml"])["project"]
    groups = project["entry-points"].items()
    points = "\n".join(f"[{group}]\n" + "\n".join(f"{k} = {v}" for k, v in names.items()) for group, names in groups)
    (info / "entry_points.txt").write_text(points, encoding="utf-8")
    named = f"Name: {project['name']}\nVersion: {project['version']}\n"
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\n{named}", encoding="utf-8")
    for name, colour, captions in (("cat", "red", "a cat\na red cat\n"), ("dog", "blue", "a dog\n")):
        Image.new("RGB", (9, 9), colour).save(tmp_path / "data" / "photographs" / f"{name}.png")
        (tmp_path / "data" / "photographs" / f"{name}.txt").write_text(captions, encoding="utf-8")
    (tmp_path / "my_set.toml").write_text(FILES["tasks/retrieval/my_set.toml"], encoding="utf-8")
    monkeypatch.syspath_prepend(str(site))
    yield tmp_path / "data"
    for name in [name for name in sys.modules if name.partition(".")[0] == "my_bench"]:
        del sys.modules[name]


def test_the_metric_of_the_example_is_the_mean_reciprocal_rank() -> None:
    names = {**vars(ranking), **vars(retrieval)}
    exec(FILES["cocabench/metrics/ranking.py"], names)
    exec("from cocabench.metrics.statistics import Mean\n" + FILES["cocabench/kinds/retrieval.py"], names)
    ranks = {"t2i_n_above": [0, 3], "t2i_tied_negatives": [0, 0], "t2i_identical": [0, 0], "t2i_tied_positives": [1, 1]}
    samples = pd.DataFrame({"id": ["a", "b"], "image_id": ["a", "b"], **ranks})
    assert estimate(names["MRR"], samples).value == (1 + 1 / 4) / 2


def test_the_task_the_loader_and_the_model_of_the_examples_run(my_bench: Path, command: Command) -> None:
    task, output = my_bench.parent / "my_set.toml", my_bench.parent / "results"
    given = ("--model", "thumbnails::4", "--data-root", my_bench, "--device", "cpu", "--output", output)
    ran = command("run", "--tasks", task, *given)
    assert (ran.code, ran.err.count("error")) == (0, 0), ran.err
    frame = load(output).frame()
    assert set(frame["metric"]) >= {"t2i_recall@1", "i2t_recall@1"}
    assert frame.set_index("metric").loc["t2i_recall@1", "n"] == 2  # images
    other = command("run", "--tasks", task, "--model", "thumbnails::2", *given[2:], "--json")
    assert other.code == 0
    assert "thumbnails::2" in set(load(output).frame()["model"])
    assert "wanted a number" in command("run", "--tasks", task, "--model", "thumbnails::x", *given[2:]).err
    (my_bench / "photographs" / "dog.txt").unlink()
    assert "dog.txt" in command("run", "--tasks", task, *given, "--fresh").err


def test_a_model_whose_signature_lacks_parts_is_refused_in_one_line(my_bench: Path, command: Command) -> None:
    module = my_bench.parent / "site" / "my_bench" / "model.py"
    module.write_text(
        module.read_text(encoding="utf-8").replace(
            ', "weights": "", "preprocess": self.size, "vocabulary": "crc32"', ""
        ),
        encoding="utf-8",
    )
    given = ("--model", "thumbnails::4", "--data-root", my_bench, "--output", my_bench.parent / "results")
    ran = command("run", "--tasks", my_bench.parent / "my_set.toml", *given, "--device", "cpu")
    assert ran.code != 0
    assert (
        "thumbnails::4: its signature() has no weights and no preprocess and no vocabulary; signature() must" in ran.err
    )


def test_the_kind_of_the_example_has_a_metric_with_an_interval(my_bench: Path, command: Command) -> None:
    from my_bench.kind import NextCaption  # type: ignore[import-not-found]

    text = FILES["tasks/retrieval/my_set.toml"].replace('"retrieval"', '"next_caption"')
    text = text.replace("t2i_recall@1", "next_accuracy").replace("ks = [1]", "")
    (my_bench.parent / "next.toml").write_text(text, encoding="utf-8")
    output = my_bench.parent / "results"
    given = ("--model", "thumbnails::4", "--data-root", my_bench, "--device", "cpu", "--output", output)
    assert command("run", "--tasks", my_bench.parent / "next.toml", *given).code == 0
    results = load(output)
    row = results.frame().set_index("metric").loc["next_accuracy"]
    assert row["n"] == 2
    assert row["low"] <= row["value"] <= row["high"]
    samples = results.samples("my_set", "thumbnails::4")
    assert np.asarray(samples["texts"].iloc[0]).tolist() == ["a cat", "a dog"]
    check_kind(NextCaption(), samples)
