"""The example plugin's model library: short, and tested as the plugin's own tests do it."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import EXAMPLE

pytest.importorskip("x_clip")


def test_the_adapter_is_at_most_sixty_lines_of_code() -> None:
    lines = (EXAMPLE / "cocabench_pair_choice" / "x_clip_model.py").read_text(encoding="utf-8").splitlines()
    assert len([line for line in lines if line.strip()]) <= 60


@pytest.mark.slow
def test_the_plugins_own_tests_pass_where_it_is_installed(example_plugin: None, tmp_path: Path) -> None:
    words = ["-q", "-p", "no:cacheprovider", "--rootdir", str(EXAMPLE), str(EXAMPLE / "tests")]
    start = f"import sys, pytest; sys.path.insert(0, {str(tmp_path / 'site')!r}); sys.exit(pytest.main({words!r}))"
    done = subprocess.run([sys.executable, "-c", start], check=False, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 passed" in done.stdout
