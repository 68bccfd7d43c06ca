"""cocabench list and doctor, and --version."""

import json
from pathlib import Path
from typing import get_args

import cocabench
from cocabench.kinds.probing import ProbeName
from tests.conftest import Command


def test_list_prints_tables_and_json(command: Command) -> None:
    tasks = {row["task"]: row for row in json.loads(command("list", "tasks", "--json").out)}
    assert {"imagenet1k", "flickr30k", "coco_karpathy_test", "emoji_retrieval"} <= tasks.keys()
    assert tasks["flickr30k"]["primary"] == "t2i_recall@5"
    names = {row["model"]: row for row in json.loads(command("list", "models", "--json").out)}
    assert names["coca_ViT-L-14"]["default"] == "laion2b_s13b_b90k"
    metrics = {row["metric"] for row in json.loads(command("list", "metrics", "--json").out)}
    assert {"acc1", "t2i_recall@5", "CIDEr"} <= metrics
    assert "imagenet1k" in command("list", "tasks").out
    robust = {row["task"] for row in json.loads(command("list", "tasks", "imagenet_robustness", "pets", "--json").out)}
    assert robust == {"imagenetv2", "imagenet_sketch", "imagenet-a", "imagenet-r", "objectnet", "pets"}


def test_doctor_lists_packages_metrics_and_tasks(command: Command, tmp_path: Path) -> None:
    result = command("doctor", "--data-root", tmp_path)
    assert result.code == 0, result.out
    for word in ("torch", "CPU", "METEOR", "SPICE", "flickr30k"):
        assert word in result.out


def test_version_is_printed_and_an_unknown_command_exits_with_2(command: Command) -> None:
    assert command("--version").out.strip() == f"cocabench {cocabench.__version__}"
    assert command("rnu").code == 2


def test_a_list_of_probes_says_what_each_protocol_is_for(command: Command) -> None:
    shown = command("list", "tasks", "probe").out
    for name in get_args(ProbeName):
        assert f"\n  {name} " in shown
    assert "fewshot_lsr" not in command("list", "tasks", "vtab+").out, "zero-shot tasks"
    assert json.loads(command("list", "tasks", "probe", "--json").out)
