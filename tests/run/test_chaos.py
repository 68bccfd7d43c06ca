"""A run that is killed again and again ends with the Records of one left alone, and leaves nothing behind."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import cocabench
from tests.chaos import NAMES, Scenarios

KILLS = 5


def start(folder: Path) -> subprocess.Popen[bytes]:
    """Start the demo in processes of its own, with a cache and temporary files in the folder."""
    (folder / "tmp").mkdir(parents=True, exist_ok=True)
    arguments = ["run", "--model", "demo/coca", "--tasks", "emoji_objects,emoji_captions", "--limit", "150", "--quiet"]
    return subprocess.Popen(
        [sys.executable, "-m", "cocabench", *arguments, "--output", str(folder / "results")],
        env={**os.environ, "COCABENCH_CACHE": str(folder / "cache"), "TMPDIR": str(folder / "tmp")},
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )


def finish(folder: Path) -> float:
    """Run to the end and return the seconds that it took."""
    began = time.monotonic()
    assert start(folder).wait() == 0
    return time.monotonic() - began


def alive(group: int) -> bool:
    """Tell whether a process of a group runs, or is still to be waited for."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def kept(folder: Path) -> list[tuple[dict[str, Any], pd.DataFrame]]:
    """Return the Records of a folder but for their times, with their samples."""
    found = cocabench.load(folder / "results")
    records = sorted(found, key=lambda record: record.task)
    return [(record.model_dump(exclude={"timing", "created"}), found.samples(record)) for record in records]


def files(folder: Path) -> set[str]:
    """Return the files of results, cache and temporary files."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)) for path in paths}


@pytest.mark.slow
def test_a_repeatedly_killed_run_gives_the_results_of_an_uninterrupted_one(tmp_path: Path) -> None:
    calm, wild = tmp_path / "calm", tmp_path / "wild"
    seconds = finish(calm)
    moments = random.Random(0)
    for i in range(KILLS):
        process = start(wild)
        time.sleep(seconds * moments.uniform(i / KILLS, (i + 1) / KILLS))
        process.send_signal(signal.SIGKILL)
        process.wait()
        until = time.monotonic() + 20
        while alive(process.pid):
            assert time.monotonic() < until, "what a killed run started ends too"
            time.sleep(0.05)
    finish(wild)
    for (record, samples), (other, others) in zip(kept(calm), kept(wild), strict=True):
        assert record == other
        pd.testing.assert_frame_equal(samples, others, check_exact=True)
    assert files(wild) == files(calm)


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 3])
def test_runs_of_one_measurement_at_once_leave_one_whole_record(
    count: int, models: Path, data: Path, tmp_path: Path
) -> None:
    """Each measures with --fresh, and stores at its own moment."""
    arguments = ["run", "--model", models / "coca", "--tasks", data / "tell.toml", "--data-root", data, "--fresh"]
    arguments += ["--output", tmp_path / "results", "--cache", tmp_path / "cache", "--quiet"]
    order = [sys.executable, "-m", "cocabench", *map(str, arguments)]
    started = [subprocess.Popen(order, stdout=subprocess.DEVNULL) for _ in range(count)]
    assert [process.wait() for process in started] == [0] * count
    ((record, samples),) = kept(tmp_path)
    assert len(samples) == 12
    names = {path.name for path in (tmp_path / "results").rglob("tell-*")}
    assert {record["samples_file"], record["samples_file"].replace(".samples.parquet", ".captions.json")} < names
    assert len(names) == 3, "equal samples have one name"


CAPTIONING = """
import os, sys
from cocabench import cli
from cocabench.models import cached
from cocabench.models.open_clip.model import OpenClip
cached.WRITE_EVERY_S, kill_at, n_batches, original = 0.0, int(sys.argv.pop(1)), [0], OpenClip.captioner
def captioner(*args):
    write = original(*args)
    def counted(*batch):
        n_batches[0] += 1
        if n_batches[0] == kill_at:
            os.kill(os.getpid(), 9)
        return write(*batch)
    return counted
OpenClip.captioner = captioner
try:
    cli.main()
finally:
    print("batches:", n_batches[0])
"""


@pytest.mark.slow
@pytest.mark.parametrize("decoding", ["beams", "sampling"])
def test_a_killed_captioning_run_resumes_with_the_same_captions(
    models: Path, data: Path, tmp_path: Path, decoding: str
) -> None:
    task = (data / "tell.toml").read_text()
    (tmp_path / "tell.toml").write_text(task + ('generation_type = "top_k"\n' if decoding == "sampling" else ""))

    def captioned(name: str, kill_at: int) -> tuple[int, int]:
        """Return the exit code, and how many batches were captioned."""
        arguments = ["run", "--model", models / "coca", "--tasks", tmp_path / "tell.toml", "--data-root", data]
        arguments += ["--output", tmp_path / name / "results", "--cache", tmp_path / name / "cache", "--batch-size", 2]
        order = [sys.executable, "-c", CAPTIONING, str(kill_at), *map(str, arguments)]
        done = subprocess.run(order, check=False, stdout=subprocess.PIPE, text=True)
        return done.returncode, int(done.stdout.rpartition("batches: ")[2] or 0)

    assert captioned("calm", 0) == (0, 6)
    assert captioned("wild", 3) == (-signal.SIGKILL, 0)
    assert captioned("wild", 3) == (-signal.SIGKILL, 0)
    assert captioned("wild", 0) == (0, 2)
    ((record, samples),), ((other, others),) = kept(tmp_path / "calm"), kept(tmp_path / "wild")
    assert record == other
    pd.testing.assert_frame_equal(samples, others, check_exact=True)


@pytest.fixture(scope="module")
def scenarios(tmp_path_factory: pytest.TempPathFactory) -> Scenarios:
    return Scenarios(tmp_path_factory.mktemp("shared"))


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds processes in /proc")
@pytest.mark.parametrize("name", NAMES)
def test_a_kill_loses_nothing_and_leaves_nothing_running(name: str, scenarios: Scenarios, tmp_path: Path) -> None:
    """One round of each; ``python -m tests.chaos`` is the sweep."""
    getattr(scenarios, name)(tmp_path / name, random.Random(17))
