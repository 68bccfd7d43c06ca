"""What kill rounds on real clusters share: the demo's three models on all its tasks, and one process's results.

python -m tests.run.many slurm 10 [LIMIT]    ten rounds, each with a node killed at a random moment
python -m tests.run.many ray 10 [LIMIT]
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

import cocabench
from tests.run import clusters
from tests.run.contract import UNLIKE

MODELS = "demo,demo/coca-captioner"
PATIENCE_S = 900


@dataclass(frozen=True)
class Scene:
    """A folder for results and a cache, and what is evaluated. limit: images per task."""

    folder: Path
    tasks: str = "demo"
    limit: int = 60

    @property
    def results(self) -> Path:
        return self.folder / "results"

    def run(self) -> list[str]:
        words = ["run", "--model", MODELS, "--tasks", self.tasks, "--limit", str(self.limit)]
        return [*words, "--output", str(self.results)]

    def env(self, **more: str) -> dict[str, str]:
        """Return the environment of commands: one thread, and a cache of their own."""
        return {**os.environ, "COCABENCH_CACHE": str(self.folder / "cache"), "OMP_NUM_THREADS": "1", **more}

    def start(self, *words: str, **more: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "cocabench", *words],
            env=self.env(**more),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def command(self, *words: str, **more: str) -> str:
        """Return what a command prints; it must succeed."""
        process = self.start(*words, **more)
        said, _ = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 0, said
        return said

    def created(self) -> dict[tuple[str, str], str]:
        """Return when each Record was made."""
        if not list(self.results.glob("*/*-*.json")):
            return {}
        return {(record.model, record.task): record.created for record in cocabench.load(self.results)}


def check_equal(found: Scene, wanted: Scene) -> None:
    """Records and samples are equal but for UNLIKE; none is missing or too many."""
    mine, others = cocabench.load(found.results), cocabench.load(wanted.results)
    records, calm = ({(r.model, r.task): r for r in some} for some in (mine, others))
    assert records.keys() == calm.keys()
    for key, record in records.items():
        one, other = record.model_dump(exclude=UNLIKE), calm[key].model_dump(exclude=UNLIKE)
        assert one == other, (key, {name: (one[name], other[name]) for name in one if one[name] != other[name]})
        pd.testing.assert_frame_equal(mine.samples(record), others.samples(calm[key]), check_exact=True)


def slurm_rounds(cluster: clusters.Slurm, scene: Scene, rounds: int, moments: random.Random) -> None:
    """Submit; kill a node and start it again, so often; submit what is missing. Finished Records stay."""
    env = {"SLURM_CONF": cluster.env["SLURM_CONF"], "PATH": cluster.env["PATH"]}
    print(scene.command("submit", "slurm", *scene.run(), **env))
    killed = 0
    until = time.monotonic() + PATIENCE_S
    while killed < rounds or not cluster.idle():
        assert time.monotonic() < until, cluster.report()
        if cluster.idle():
            shutil.rmtree(scene.results)  # all done before enough kills: once more
            print(scene.command("submit", "slurm", *scene.run(), **env))
        if killed < rounds:
            time.sleep(moments.uniform(1, 12))
            node, before = moments.choice(("n1", "n2")), scene.created()
            cluster.kill(node)
            killed += 1
            print(f"{time.strftime('%X')} killed {node} with {len(before)} results", flush=True)
            time.sleep(moments.uniform(0, 3))
            cluster.start(node)
            assert before.items() <= scene.created().items(), "a finished result is not made again"
        else:
            time.sleep(0.5)
    print(scene.command("submit", "slurm", *scene.run(), **env))
    cluster.wait(cluster.idle, PATIENCE_S)
    print(scene.command("status", str(scene.results), **env))


def ray_rounds(address: str, nodes: clusters.RayNodes, scene: Scene, rounds: int, moments: random.Random) -> None:
    """Run; kill a node with all its processes, or in every fourth round the driver, at a random moment; run again."""
    process = scene.start(*scene.run(), "--ray", address, "--quiet")
    for killed in range(rounds):
        time.sleep(moments.uniform(4, 15))
        before = scene.created()
        if process.poll() is not None:
            assert process.returncode == 0, process.communicate()[0]
            shutil.rmtree(scene.results)  # all done before enough kills: once more
            process = scene.start(*scene.run(), "--ray", address, "--quiet")
            continue
        if killed % 4 == 3:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            process = scene.start(*scene.run(), "--ray", address, "--quiet")
            print(f"{time.strftime('%X')} killed the driver with {len(before)} results", flush=True)
        else:
            nodes.kill()
            print(f"{time.strftime('%X')} killed a node with {len(before)} results", flush=True)
            time.sleep(moments.uniform(0, 3))
            nodes.start()
        assert before.items() <= scene.created().items(), "a finished result is not made again"
    said, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, said


def main() -> None:
    engine, rounds = sys.argv[1], int(sys.argv[2])
    seed = random.randrange(1000)
    print("seed", seed)
    with tempfile.TemporaryDirectory(prefix="many-") as name:
        folder = Path(name)
        limit = int(sys.argv[3]) if len(sys.argv) > 3 else 60
        calm, wild = (Scene(folder / one, limit=limit) for one in ("calm", "wild"))
        calm.command(*calm.run(), "--device", "cpu", "--quiet")
        if engine == "slurm":
            with clusters.slurm() as cluster:
                slurm_rounds(cluster, wild, rounds, random.Random(seed))
        else:
            with clusters.ray_nodes(wild.folder / "cache") as nodes:
                ray_rounds(nodes.address, nodes, wild, rounds, random.Random(seed))
        check_equal(wild, calm)
    print("equal")


if __name__ == "__main__":
    main()
