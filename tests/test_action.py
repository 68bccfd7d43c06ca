"""action.yml and its example: their shell steps run here as GitHub would run them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.samples import classified, right

CHECKOUT = Path(__file__).parents[1]
ACTION: dict[str, Any] = yaml.safe_load((CHECKOUT / "action.yml").read_text())
EXAMPLE: dict[str, Any] = yaml.safe_load((CHECKOUT / "examples" / "github-actions.yml").read_text())


def run_step(tmp_path: Path, **inputs: str) -> tuple[int, str, str]:
    """Return the exit code, the outputs and the summary of the action's last step with these inputs."""
    step = ACTION["runs"]["steps"][-1]
    given = {name: inputs.get(name, str(spec.get("default", ""))) for name, spec in ACTION["inputs"].items()}
    values = {
        key: re.sub(r"\$\{\{ inputs\.(\w+) \}\}", lambda m: given[m[1]], text) for key, text in step["env"].items()
    }
    github = {"GITHUB_OUTPUT": str(tmp_path / "output"), "GITHUB_STEP_SUMMARY": str(tmp_path / "summary")}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    script = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]]
    done = subprocess.run(script, cwd=tmp_path, env={**os.environ, **values, **github, "PATH": path}, check=False)
    return done.returncode, (tmp_path / "output").read_text(), (tmp_path / "summary").read_text()


@pytest.mark.parametrize(("n", "code"), [(60, 0), (20, 1)])
def test_the_gate_step_passes_and_fails_with_the_gate(tmp_path: Path, n: int, code: int) -> None:
    classified(tmp_path / "my base", "m", right(60, 100))
    classified(tmp_path / "results", "m", right(n, 100))
    (tmp_path / "gates.toml").write_text("[defaults]\ntolerance = 1.0\n")
    found, output, summary = run_step(tmp_path, baseline="my base", rules="gates.toml")
    assert (found, output) == (code, f"exit-code={code}\n")
    assert summary.startswith(f"**Gate {('passed', 'failed')[code]}: 1 {('pass', 'regressed')[code]}.**")
    assert (tmp_path / "cocabench-gate.xml").is_file()


def test_the_example_gives_the_action_inputs_that_it_has() -> None:
    steps = EXAMPLE["jobs"]["gate"]["steps"]
    (ours,) = (step for step in steps if step.get("uses", "").startswith("OWNER/cocabench"))
    assert set(ours["with"]) <= set(ACTION["inputs"])
    required = {name for name, spec in ACTION["inputs"].items() if spec.get("required")}
    assert required <= set(ours["with"])


def test_the_examples_command_line_is_one_that_cocabench_has() -> None:
    (command,) = (s["run"] for s in EXAMPLE["jobs"]["gate"]["steps"] if s.get("run", "").startswith("cocabench run"))
    line = [sys.executable, "-m", "cocabench", "run", "--help"]
    process = subprocess.run(line, capture_output=True, text=True, check=True)
    for flag in re.findall(r"--[a-z-]+", command):
        assert flag in process.stdout
