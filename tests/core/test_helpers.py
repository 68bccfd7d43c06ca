"""What a process starts ends when it does, also when it is killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cocabench.core import helpers

PARENT = """
import multiprocessing, subprocess, sys, time
from cocabench.core import helpers
helpers.LINUX = sys.argv[1] == "signal"
if sys.argv[1] == "worker":
    from tests.core.test_helpers import lives_on
    process = multiprocessing.get_context("spawn").Process(target=lives_on, args=(sys.argv[2],))
    process.start()
elif sys.argv[1] == "rank":  # what torchrun starts: a child of the helper's, which imports for a while before it looks
    rank = "import os, sys, time; open(sys.argv[1], 'w').write(str(os.getpid())); time.sleep(0.5); "
    rank += "from cocabench.core import helpers; helpers.end_with_starter(); time.sleep(600)"
    agent = "import subprocess, sys; subprocess.run([sys.executable, '-c', *sys.argv[1:]])"
    helpers.LINUX = sys.platform == "linux"
    helpers.start([sys.executable, "-c", agent, rank, sys.argv[2]])
elif sys.argv[1] == "server":
    from multiprocessing import forkserver
    forkserver.set_forkserver_preload(["cocabench.core.server", "slow_to_import"])
    forkserver.ensure_running()
    open(sys.argv[2], "w").write(str(forkserver._forkserver._forkserver_pid))
else:
    code = "import os, sys, time; open(sys.argv[1], 'w').write(str(os.getpid())); time.sleep(600)"
    helpers.start([sys.executable, "-c", code, sys.argv[2]])
time.sleep(600)
"""


def lives_on(file: str) -> None:
    helpers.end_with_parent()
    Path(file).write_text(str(os.getpid()))
    time.sleep(600)


def gone(pid: int) -> bool:
    """Tell whether a process has ended; a zombie, which nobody waits for here, has."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
@pytest.mark.parametrize("how", ["signal", "watching", "worker", "server", "rank"])
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_a_helper_ends_with_a_killed_parent(how: str, end: int, tmp_path: Path) -> None:
    file = tmp_path / "pid"
    (tmp_path / "slow_to_import.py").write_text("import time; time.sleep(600)")
    paths = os.pathsep.join((str(tmp_path), os.getcwd()))
    parent = subprocess.Popen([sys.executable, "-c", PARENT, how, str(file)], env={**os.environ, "PYTHONPATH": paths})
    while not (file.exists() and file.read_text()):
        assert parent.poll() is None
        time.sleep(0.01)
    pid = int(file.read_text())
    assert not gone(pid)
    parent.send_signal(end)
    parent.wait()
    until = time.monotonic() + 20
    while not gone(pid):
        assert time.monotonic() < until, "the helper lives on"
        time.sleep(0.01)


@pytest.mark.parametrize("linux", [helpers.LINUX, False])
def test_streams_and_codes_are_the_helpers_own(linux: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(helpers, "LINUX", linux)
    process = helpers.start(["sh", "-c", "cat; echo wrong >&2; exit 3"], streams=subprocess.PIPE)
    assert process.communicate(b"sent", timeout=60) == (b"sent", b"wrong\n")
    assert process.returncode == 3
    sleeping = helpers.start(["sleep", "600"])
    helpers.kill(sleeping)
    assert sleeping.wait(timeout=60) != 0


@pytest.mark.parametrize(
    ("limit", "wanted"),
    [("", 16), ("max 100000", 16), ("200000 100000", 2), ("150000 100000", 2), ("1000 100000", 1), ("nonsense", 16)],
)
def test_cores_are_those_of_the_affinity_within_a_containers_limit(
    limit: str, wanted: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)), raising=False)
    monkeypatch.setattr(helpers, "_limit", lambda: limit)
    assert helpers.cores() == wanted
