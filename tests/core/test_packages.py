"""A major version of open_clip that cocabench does not know is one line, in every command that loads it."""

import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from cocabench.core.errors import UsageError
from cocabench.core.packages import check_open_clip, too_new
from tests.conftest import Command

LINE = "open_clip_torch: version 4.0.0; wanted a version below 4, which has other CoCas (docs/open_clip4.md); run"


@pytest.fixture
def version_4(monkeypatch: pytest.MonkeyPatch) -> None:
    own = metadata.version
    monkeypatch.setattr(metadata, "version", lambda name: "4.0.0" if name == "open_clip_torch" else own(name))


@pytest.mark.parametrize(
    ("version", "refused"), [("3.3.0", 0), ("3.99", 0), ("4.0.0", 1), ("4.0.0.dev0", 1), ("5.1", 1)]
)
def test_the_next_major_version_and_its_previews_are_refused(version: str, refused: bool) -> None:
    assert bool(too_new(version)) == refused


def test_the_cap_is_that_of_the_package() -> None:
    (own,) = (line for line in metadata.requires("cocabench") or () if line.startswith("open-clip-torch<"))
    assert "<4" in own
    check_open_clip()


@pytest.mark.usefixtures("version_4")
@pytest.mark.parametrize(
    "words",
    [
        "run --model ViT-B-32 --tasks emoji_retrieval", "run --model demo/clip --tasks emoji_retrieval --dry-run",
        "caption --model demo/coca {image}", "list models", "train clip-scratch --dry-run", "setup clipscore demo/clip",
    ],
)  # fmt: skip
def test_every_command_that_loads_open_clip_says_so(command: Command, words: str, data: Path, tmp_path: Path) -> None:
    image = str(data / "images" / "00.png")
    output = ["--output", str(tmp_path)] if words.startswith("run") else []
    result = command(*(word.format(image=image) for word in words.split()), *output)
    assert result.code == 2
    assert LINE in " ".join(result.err.split())
    assert len([line for line in result.err.splitlines() if "open_clip" in line]) == 1


@pytest.mark.usefixtures("version_4")
def test_doctor_says_so_and_the_rest_works(command: Command) -> None:
    result = command("doctor")
    assert result.code == 1
    assert "version 4.0.0; wanted a version below 4" in " ".join(result.out.split())
    assert command("list", "tasks", "demo").code == 0


@pytest.mark.usefixtures("version_4")
def test_a_call_from_python_says_so() -> None:
    import cocabench

    with pytest.raises(UsageError, match="wanted a version below 4"):
        cocabench.evaluate("demo/clip", "emoji_flags", limit=5)


@pytest.mark.slow
@pytest.mark.parametrize("code", ["import cocabench; cocabench.evaluate", "import cocabench.models.open_clip"])
def test_an_installed_version_4_is_noticed_before_it_is_imported(code: str, tmp_path: Path) -> None:
    """Its imports might fail, or work and mean something else."""
    info = tmp_path / "open_clip_torch-4.0.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: open_clip_torch\nVersion: 4.0.0\n")
    (tmp_path / "open_clip.py").write_text("raise SystemExit('imported')")
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert LINE in done.stderr
    assert "imported" not in done.stderr
