"""The tests of this folder with the oldest transformers, laid over this environment as for the other referees."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import pinned

OPTIONS = ("-n", "0", "-p", "no:cacheprovider", "-W", "ignore", f"--ignore={__file__}")


@pytest.mark.slow
def test_everything_passes_with_the_oldest_transformers() -> None:
    """4.49, with the tokenizers, hub and numpy of its time. Its deprecation warnings are not ours."""
    here = Path(__file__).parent
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "pytest", *OPTIONS, str(here)],
        env={**os.environ, **pinned.environment()},
        cwd=here.parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert "transformers 4.49.0" in done.stdout
    assert " passed" in done.stdout
