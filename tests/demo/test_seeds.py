"""Means over seeds and what is shipped."""

import json
from importlib.resources import files
from pathlib import Path

import pytest
from scipy.stats import ttest_1samp

from cocabench.demo import model_folder
from tools.demo import ablation
from tools.demo.ship import (
    NAMED,
    SEEDS_FILE,
    differences,
    draw,
    joined,
    mean,
    read_logs,
    read_seeds,
    table,
    write_logs,
    write_seeds,
)

FOUND = {
    "coca": {"t2i R@5": {0: 0.40, 1: 0.44, 2: 0.42}, "CIDEr": {0: 1.0, 1: 1.2, 2: 1.1}},
    "clip": {"t2i R@5": {0: 0.41, 1: 0.43, 2: 0.45}},
}


def test_mean_and_its_t_interval_by_hand_and_by_scipy() -> None:
    assert mean([1, 2, 3]) == pytest.approx((2, 4.302653 / 3**0.5, 3))
    low, high = ttest_1samp([0.1, 0.4, 0.2, 0.35], 0).confidence_interval()
    found = mean([0.1, 0.4, 0.2, 0.35])
    assert found.half is not None
    assert (found.mean - found.half, found.mean + found.half) == pytest.approx((low, high))
    assert mean([0.5]).half is None


def test_differences_are_paired_by_the_seeds_that_both_have() -> None:
    (pair,) = differences(FOUND).values()
    assert pair["t2i R@5"] == pytest.approx(mean([-0.01, 0.01, -0.03]))
    assert "CIDEr" not in pair
    (pair,) = differences({**FOUND, "clip": {"t2i R@5": {1: 0.41, 7: 0.1}}}).values()
    assert pair == {"t2i R@5": (pytest.approx(0.03), None, 1)}


def test_table_has_percent_but_for_cider_and_leaves_gaps() -> None:
    lines = table(FOUND).splitlines()
    assert len(lines) == 5
    assert "| t2i R@5 |" in lines[0]
    assert NAMED in lines[0]
    assert lines[2].startswith("| clip | 43.0 ± 5.0 |")
    assert "1.10 ± 0.25" in lines[3]
    assert lines[4].startswith("| coca - clip | -1.0 ± 5.0 |")


def test_logs_are_gathered_and_drawn_the_same_each_time(tmp_path: Path) -> None:
    line = {"step": 1, "contrastive_loss": 5.0, "t2i_recall@5": 0.1, "seconds": 1.0}
    for name in ("coca-0", "clip-1", "coca-captioner-0"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "log.json").write_text(json.dumps({"settings": {"seed": 0}, "log": [line]}))
    logs = read_logs(tmp_path)
    assert {name: list(runs) for name, runs in logs.items()} == {
        "clip": ["1"],
        "coca": ["0"],
        "coca-captioner": ["0"],
    }
    write_logs(tmp_path / "all.json", logs)
    assert json.loads((tmp_path / "all.json").read_text()) == logs
    for file in ("a.svg", "b.svg"):
        draw(logs, tmp_path / file)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_seeds_are_added_to_those_shipped_before(tmp_path: Path) -> None:
    write_seeds(tmp_path / "seeds.json", FOUND)
    assert read_seeds(tmp_path / "seeds.json") == FOUND
    added = joined(read_seeds(tmp_path / "seeds.json"), {"coca": {"CIDEr": {1: 9.0, 3: 1.5}}})
    assert added["coca"] == {**FOUND["coca"], "CIDEr": {0: 1.0, 1: 9.0, 2: 1.1, 3: 1.5}}
    assert added["clip"] == FOUND["clip"]


def test_the_demo_says_what_its_seeds_say() -> None:
    shipped = table(read_seeds(model_folder("coca").parent / SEEDS_FILE)).strip()
    assert shipped in (files("cocabench") / "demo/data/README.md").read_text(encoding="utf-8")
    page = Path(__file__).parents[2].joinpath("docs/guides/recipes.md").read_text(encoding="utf-8")
    assert shipped in page
    assert ablation.table(json.loads(ablation.FILE.read_text(encoding="utf-8"))) in page


def test_rates_of_changed_recipes_and_their_table(tmp_path: Path) -> None:
    for run, (i2t, t2i) in {"coca-0": (0.5, 0.6), "coca-1": (0.4, 0.6), "clip-0": (0.6, 0.61)}.items():
        (folder := tmp_path / "two-styles" / run).mkdir(parents=True)
        lines = [{"i2t_recall@5": 0.1, "t2i_recall@5": 0.1}, {"i2t_recall@5": i2t, "t2i_recall@5": t2i}]
        (folder / "log.json").write_text(json.dumps({"log": lines}))
    (tmp_path / "two-styles" / "clip-1").mkdir()  # not finished
    found = ablation.rates(tmp_path)
    assert found == {"two-styles": {"coca": {"0": 0.55, "1": 0.5}, "clip": {"0": 0.605}}}
    assert ablation.table(found).splitlines()[-1] == "| 600 steps, two styles | 2 | 52.5 | 60.5 | -5.5 |"
