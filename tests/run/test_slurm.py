"""Slurm: the arrays and script of a submission; and a real cluster of two nodes, where Debian's packages are."""

import os
import random
import shutil
import stat
import subprocess
import time
from pathlib import Path

import pytest

from cocabench.run.slurm import Array, arrays
from tests.conftest import Command
from tests.run import clusters, many

WHY = clusters.missing()
REAL = pytest.mark.skipif(bool(WHY), reason=f"no Slurm cluster: {WHY}")


@pytest.mark.parametrize(
    ("cells", "size", "wanted"),
    [
        ([0, 1, 2, 5], 1001, [(0, "0-2,5")]),
        ([1000], 1001, [(0, "1000")]),
        ([1000, 1001, 1002, 2002], 1001, [(0, "1000"), (1001, "0-1"), (2002, "0")]),
        ([], 1001, []),
    ],
)
def test_cells_are_split_into_arrays_below_max_array_size(
    cells: list[int], size: int, wanted: list[tuple[int, str]]
) -> None:
    found = arrays(cells, size)
    assert [(array.first, array.indices(None)) for array in found] == wanted
    assert [cell for array in found for cell in array.cells] == cells


def test_an_array_limit_follows_a_percent_sign() -> None:
    assert Array(10, [10, 12]).indices(4) == "0,2%4"


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put commands in front that answer as Slurm does, and write what they are asked to a file."""
    folder = tmp_path / "bin"
    folder.mkdir()
    answers = {
        "scontrol": 'echo "MaxArraySize            = 2"',
        "squeue": f"cat {tmp_path}/queue",
        "sinfo": "echo gpu; echo cpu",
        "sbatch": f'echo "$@" >>{tmp_path}/asked; grep -q nope <<<"$(cat "${{@: -2:1}}")" && '
        '{ echo "sbatch: error: invalid partition specified: nope" >&2; exit 1; }; wc -l <' + f"{tmp_path}/asked",
    }
    (tmp_path / "queue").touch()
    for name, body in answers.items():
        (folder / name).write_text(f"#!/bin/bash\n{body}\n")
        (folder / name).chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return tmp_path


def words(models: Path, data: Path, output: Path, *more: str) -> list[str]:
    if not (third := output.parent / "third").exists():
        shutil.copytree(models / "clip", third)
    names = f"{models / 'clip'},{models / 'coca'},{third}"
    run = ["run", "--model", names, "--tasks", str(data / "find.toml"), "--data-root", str(data)]
    return ["submit", "slurm", *more, *run, "--output", str(output)]


def test_submit_sends_each_cell_once_until_it_is_done(command: Command, models: Path, data: Path, fake: Path) -> None:
    output = fake / "results"
    shown = command(*words(models, data, output, "--gres", "gpu:1", "--time", "1:00:00", "--dry-run"))
    assert shown.code == 0, shown.err
    for line in ("#SBATCH --gres=gpu:1", "#SBATCH --time=1:00:00", "#SBATCH --requeue", "#SBATCH --signal=B:USR1@120"):
        assert line in shown.out
    assert "--array=0-1" in shown.out
    assert not output.exists(), "a dry run writes nothing"
    script = shown.out[shown.out.index("#!") : shown.out.index("\nsbatch")]
    assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0

    sent = command(*words(models, data, output, "--array-limit", "5"))
    assert "submitted 3 cells as 2 job arrays: 1, 2" in sent.out
    asked = (fake / "asked").read_text().splitlines()
    assert [line.split()[1] for line in asked] == ["--array=0-1%5", "--array=0%5"]
    assert [line.split()[-1] for line in asked] == ["0", "2"], "the first cell of each array"

    (fake / "queue").write_text("1 1 RUNNING\n2 0 PENDING\n7 0 RUNNING\n")
    assert "running" in command("status", output).out
    again = command(*words(models, data, output))
    assert "2 cells in the queue already" in again.out
    assert "submitted 1 cell as 1 job array: 3" in again.out

    (fake / "queue").write_text("")
    plan = max((output / "slurm").glob("*/plan.json"))
    assert command("run", "--plan", plan, "--quiet").code == 0
    assert command("status", output).out == "3 of 3 done\n"
    assert "nothing to submit: 3 of 3 cells done" in command(*words(models, data, output)).out


@pytest.mark.slow
def test_a_cell_that_failed_often_is_reported_and_not_sent(
    command: Command, models: Path, data: Path, fake: Path
) -> None:
    output = fake / "results"
    command(*words(models, data, output))
    digests = [line.split()[0] for line in next((output / "slurm").glob("*/models")).read_text().splitlines()]
    tried = output / "slurm" / "attempts" / digests[1]
    tried.write_text("2026-11-30T01:00:00 n1 exit code 137\n" * 3)
    result = command(*words(models, data, output))
    assert result.code == 1
    assert "coca: failed 3 times, last 2026-11-30T01:00:00 n1 exit code 137" in result.err
    assert "submitted 2 cells" in result.out
    assert "submitted 3 cells" in command(*words(models, data, output, "--retries", "4")).out


@pytest.mark.slow
def test_a_job_without_a_log_is_reported(command: Command, models: Path, data: Path, fake: Path) -> None:
    command(*words(models, data, fake / "results"))
    assert "their jobs ended without a log: can the nodes see" in command("status", fake / "results").out


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--partition", "nope"], "sbatch: invalid partition specified: nope; partitions here: gpu, cpu"),
        (["--retries", "0"], "--retries: got '0'"),
    ],
)
def test_what_slurm_refuses_is_one_line(
    command: Command, models: Path, data: Path, fake: Path, more: list[str], said: str
) -> None:
    result = command(*words(models, data, fake / "results", *more))
    assert result.code == 2
    assert said in result.err
    assert not list((fake / "results").glob("slurm/*/plan.json")), "what was not submitted leaves no plan"


@pytest.mark.parametrize(
    ("run", "said"),
    [
        (["compare", "a"], "submit: got 'compare'; wanted run and its options"),
        (["run", "--model", "demo"], "--tasks: missing"),
        (["run", "--model", "demo", "--tasks", "demo", "--devices", "cpu,cpu"], "several devices for a cell"),
        (["run", "--model", "demo", "--tasks", "demo", "--watch", "x"], "--watch: given to a submitted run"),
    ],
)
def test_only_a_plain_run_can_be_submitted(command: Command, fake: Path, run: list[str], said: str) -> None:
    result = command("submit", "slurm", *run)
    assert result.code == 2
    assert said in result.err


def test_without_slurm_one_line_says_so(
    command: Command, models: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    result = command(*words(models, data, tmp_path / "results"))
    assert result.code == 2
    assert "submit slurm: scontrol is not installed here; wanted Slurm; run this on a login node" in result.err


@REAL
@pytest.mark.slow
def test_a_killed_slurm_node_costs_no_result(tmp_path: Path) -> None:
    calm, wild = many.Scene(tmp_path / "calm", limit=15), many.Scene(tmp_path / "wild", limit=15)
    calm.command(*calm.run(), "--device", "cpu", "--quiet")
    with clusters.slurm() as cluster:
        many.slurm_rounds(cluster, wild, 1, random.Random(3))
    many.check_equal(wild, calm)


@REAL
@pytest.mark.slow
def test_a_job_at_the_end_of_its_time_stops_and_is_queued_again(tmp_path: Path) -> None:
    """USR1 comes 120 s before the end; here it is sent by hand."""
    scene = many.Scene(tmp_path / "run", tasks="emoji_captions", limit=60)
    with clusters.slurm() as cluster:
        env = {"SLURM_CONF": cluster.env["SLURM_CONF"], "PATH": cluster.env["PATH"]}
        scene.command("submit", "slurm", "run", "--model", "demo/coca", *scene.run()[3:], **env)
        log = scene.results / "slurm"
        cluster.wait(lambda: "RUNNING" in cluster.run("squeue", "--noheader", "--format=%T"), 60)
        time.sleep(1)
        cluster.run("scancel", "--batch", "--signal=USR1", "1_0")
        cluster.wait(cluster.idle, 300)
        assert "Restarts=1" in cluster.run("scontrol", "show", "job", "1_0")
        assert not list((log / "attempts").iterdir()), "a clean stop is no failure"
        assert scene.command("status", str(scene.results), **env) == "1 of 1 done\n"
