"""Random networks and settings: token for token against open_clip with transformers 4.49, live."""

import subprocess
import sys

import pytest

from benchmarks.sides import ROOT


@pytest.mark.slow
def test_captions_of_random_networks_equal_open_clips() -> None:
    """Exit code 1: a caption that differs from upstream's without a tie among upstream's scores."""
    command = [sys.executable, "-m", "benchmarks", "decoding-fuzz", "--networks", "12", "--seed", "1000"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
