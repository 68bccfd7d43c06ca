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
    """Return the files of results, cache and temporary files, shards' numbers aside."""
    paths = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".f32")
    return {str(path.relative_to(folder)) for path in paths}


@pytest.mark.slow
def test_a_run_killed_at_random_moments_ends_as_one_that_was_left_alone(tmp_path: Path) -> None:
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
