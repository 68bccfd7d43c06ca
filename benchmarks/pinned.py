"""The peers at the versions that numbers are compared with, laid over the installed torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import platformdirs

PINS = (
    "open_clip_torch==3.3.0",
    "clip-benchmark==1.6.2",
    "numpy==2.2.6",
    "transformers==4.49.0",
    "tokenizers==0.21.4",
    "huggingface-hub==0.36.2",
)


def environment() -> dict[str, str]:
    """Return variables under which `sys.executable` imports the pinned packages; install them once per set of pins."""
    return {"PYTHONPATH": str(_folder()), "PYTHONWARNINGS": "ignore", "TRANSFORMERS_VERBOSITY": "error"}


def is_installed() -> bool:
    """Return whether the packages were installed before."""
    return (_path() / "complete").exists()


def _path() -> Path:
    return platformdirs.user_cache_path("cocabench") / "peers" / "-".join(pin.partition("==")[2] for pin in PINS)


def _folder() -> Path:
    folder = _path()
    if not is_installed():
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--upgrade", "--target", str(folder)]
        subprocess.run([*command, *PINS], check=True)
        (folder / "complete").touch()
    return folder
