"""A Ray cluster of two nodes, one of which is killed; Ray's own output stays out of ours."""

import json
import random
from pathlib import Path

import pytest

from tests.run import clusters, many

pytest.importorskip("ray")


@pytest.mark.slow
def test_a_killed_ray_node_costs_no_result(tmp_path: Path) -> None:
    calm, wild = many.Scene(tmp_path / "calm", limit=15), many.Scene(tmp_path / "wild", limit=15)
    calm.command(*calm.run(), "--device", "cpu", "--quiet")
    with clusters.ray_nodes(wild.folder / "cache") as nodes:
        many.ray_rounds(nodes.address, nodes, wild, 1, random.Random(3))
    many.check_equal(wild, calm)


@pytest.mark.slow
def test_json_of_several_devices_is_pure(tmp_path: Path) -> None:
    scene = many.Scene(tmp_path, tasks="emoji_objects", limit=10)
    process = scene.start(*scene.run(), "--devices", "cpu,cpu", "--json")
    said, _ = process.communicate(timeout=many.PATIENCE_S)
    records = json.loads("".join(line for line in said.splitlines() if line.startswith("[")))
    assert [record["model"] for record in records] == ["demo/coca", "demo/clip", "demo/coca-captioner"]
    assert not [line for line in said.splitlines() if "ray" in line.lower()]
