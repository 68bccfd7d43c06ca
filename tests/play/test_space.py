"""The Space of examples/space starts from its own requirements file in a fresh environment."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
SPACE = ROOT / "examples/space"
UV = Path(sys.executable).with_name("uv")


def test_the_head_of_its_readme_is_what_the_hub_reads() -> None:
    head = yaml.safe_load((SPACE / "README.md").read_text(encoding="utf-8").split("---\n")[1])
    assert head["sdk"] == "gradio"
    assert (SPACE / head["app_file"]).is_file()
    assert len(head["short_description"]) <= 60
    assert isinstance(head["python_version"], str), "3.10 as a number would be 3.1"
    extra = re.search(r"gradio>=([\d.]+),<(\d+)", (ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert extra
    version = tuple(map(int, head["sdk_version"].split(".")))
    assert tuple(map(int, extra[1].split("."))) <= version < (int(extra[2]),), "the hub installs this version"


@pytest.mark.slow
def test_it_starts_from_its_own_requirements(tmp_path: Path) -> None:
    """Only the name on the package index is replaced, by the wheel of this checkout."""
    if not UV.is_file():
        pytest.skip("no uv beside this Python")
    run = {"check": True, "cwd": tmp_path, "timeout": 500}
    subprocess.run([UV, "build", "--quiet", "--wheel", "--out-dir", tmp_path / "dist", ROOT], **run)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    for file in ("app.py", "requirements.txt"):
        shutil.copy(SPACE / file, tmp_path)
    wanted = (tmp_path / "requirements.txt").read_text(encoding="utf-8")
    local = wanted.replace("cocabench[play]", f"cocabench[play] @ {wheel.as_uri()}")
    assert local != wanted
    (tmp_path / "requirements.txt").write_text(local, encoding="utf-8")
    python = tmp_path / "env/bin/python"
    subprocess.run([UV, "venv", "--quiet", "--python", sys.executable, tmp_path / "env"], **run)
    subprocess.run([UV, "pip", "install", "--quiet", "--python", python, "-r", "requirements.txt"], **run)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, "GRADIO_SERVER_PORT": str(port), "TMPDIR": str(tmp_path), "MODEL": "demo/coca"}
    with subprocess.Popen([python, "app.py"], cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True) as app:
        try:
            page, policy = _page(f"http://127.0.0.1:{port}/", app)
        finally:
            app.kill()
            said = app.stderr.read() if app.stderr else ""
    assert "cocabench playground" in page, said
    assert "frame-ancestors 'self' https://huggingface.co" in policy, "the hub shows a Space in a frame"


def _page(address: str, app: subprocess.Popen[str], wait_s: float = 300) -> tuple[str, str]:
    """Return the page and its policy, as soon as it answers."""
    end = time.monotonic() + wait_s
    while time.monotonic() < end and app.poll() is None:
        try:
            with urllib.request.urlopen(address, timeout=30) as answer:
                return answer.read().decode(), answer.headers["Content-Security-Policy"]
        except urllib.error.URLError:
            time.sleep(0.5)
    return "", ""
