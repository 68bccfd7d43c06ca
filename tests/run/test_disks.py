"""Disks that are full or read-only, mounted for the test: one line that names the place, and nothing lost."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.conftest import Command
from tests.samples import classified, right

pytestmark = pytest.mark.slow
Disk = Callable[[str], Path]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """Return a function that mounts a tmpfs of a size and returns its folder."""
    place = tmp_path / "disk"
    place.mkdir()
    if os.name != "posix" or os.geteuid() != 0 or not shutil.which("mount"):
        pytest.skip("mounting a disk takes root")

    def mount(size: str) -> Path:
        order = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)]
        done = subprocess.run(order, check=False, capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"no tmpfs can be mounted: {done.stderr.strip()}")
        return place

    yield mount
    subprocess.run(["umount", "-l", str(place)], check=False, capture_output=True)


def read_only(place: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)


def fill(place: Path) -> None:
    with suppress(OSError), (place / "fill").open("wb") as file:
        for _ in range(10_000):
            file.write(bytes(100))
            file.flush()


FULL, RO = "No space left on device", "Read-only file system"


@pytest.mark.parametrize(("change", "said"), [(fill, FULL), (read_only, RO)], ids=["full", "read-only"])
@pytest.mark.parametrize(
    "words",
    [
        "run --model {m}/clip --tasks {t}/find.toml --data-root {t} --quiet --no-cache --output {d}/r",
        "report {n} --output {d}/r",
        "export {n} --output {d}/r.csv",
        "data webdataset --from synthetic --output {d}/r --samples 2",
        "data csv --from synthetic --output {n}.csv --images {d}/r",
        "gate --baseline {n} --current {n} --junit {d}/r.xml",
    ],
    ids=lambda words: " ".join(words.split()[:2]),
)
def test_what_cannot_be_written_is_one_line(
    command: Command, models: Path, data: Path, tmp_path: Path, disk: Disk, words: str,
    change: Callable[[Path], None], said: str,
) -> None:  # fmt: skip
    place = disk("64k")
    classified(tmp_path / "new", "one", right(30, 60))
    change(place)
    result = command(*words.format(m=models, t=data, d=place, n=tmp_path / "new").split())
    assert result.code in (1, 2), result.err
    (line,) = [line for line in result.err.strip().splitlines() if not line.startswith("note ")]
    assert str(place) in line
    assert f"cannot write ({said})" in line, line
    assert {path.name for path in place.iterdir()} <= {"fill", "r", "r.partial"}


@pytest.mark.parametrize(("change", "said"), [(fill, "no space left"), (read_only, "read-only")])
def test_a_tmpdir_that_cannot_be_written_is_one_line(
    command: Command, models: Path, data: Path, tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch,
    change: Callable[[Path], None], said: str,
) -> None:  # fmt: skip
    place = disk("64k")
    change(place)
    monkeypatch.setattr("tempfile.tempdir", str(place))
    words = ("--tasks", data / "find.toml", "--data-root", data, "--quiet", "--no-cache", "--output", tmp_path / "r")
    result = command("run", "--model", models / "clip", *words)
    assert result.code == 1, result.err
    (line,) = result.err.strip().splitlines()
    assert said in line
    assert "TMPDIR" in line


@pytest.mark.parametrize("there", [True, False], ids=["old baseline", "no baseline yet"])
def test_a_full_disk_leaves_the_old_baseline(command: Command, tmp_path: Path, disk: Disk, there: bool) -> None:
    """The disk is full at every moment of an update in turn: with room for no further page, for one, for two …"""
    place = disk("200k")
    if there:
        classified(place / "old", "one", right(30, 60))
    classified(tmp_path / "new", "one", right(40, 60))
    before = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    for pages in range(30):
        fill(place)
        os.truncate(place / "fill", max(0, (place / "fill").stat().st_size - pages * os.sysconf("SC_PAGE_SIZE")))
        result = command("gate", "--baseline", place / "old", "--current", tmp_path / "new", "--update")
        if result.code == 0:
            break
        assert result.code == 2
        (line,) = result.err.strip().splitlines()
        assert line.startswith(f"error {place / 'old'}: cannot write ({FULL}); free space"), line
        assert ("the old baseline stands" in line) == there
        (place / "fill").unlink()
        assert {path: path.read_bytes() for path in place.rglob("*") if path.is_file()} == before
    assert pages >= 3
    assert "updated the baseline" in result.err


@pytest.mark.parametrize("change", [fill, read_only])
def test_a_cache_that_cannot_be_written_is_a_note(
    command: Command, models: Path, data: Path, tmp_path: Path, disk: Disk, change: Callable[[Path], None]
) -> None:
    place = disk("64k")
    change(place)
    words = ("--tasks", data / "find.toml", "--data-root", data, "--quiet", "--cache", place, "--output")
    result = command("run", "--model", models / "clip", *words, tmp_path / "r")
    assert result.code == 0, result.err
    assert all(line.startswith("note ") and str(place) in line for line in result.err.strip().splitlines())
    assert result.err
