"""Child processes that end with their parent, even if it is killed: Java, a trainer, data-loading workers."""

from __future__ import annotations

import ctypes
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from multiprocessing import connection, parent_process
from pathlib import Path
from typing import IO, Any

LINUX = sys.platform == "linux"

_BY_SIGNAL = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 9)
os.environ["COCABENCH_HELPER"] = str(os.getpid())
if os.getppid() == int(sys.argv[1]):
    os.execvp(sys.argv[2], sys.argv[2:])
"""
"""PR_SET_PDEATHSIG, SIGKILL: what the process becomes after that keeps it."""

_BY_WATCHING = """
import os, subprocess, sys
helper = subprocess.Popen(sys.argv[2:])
while True:
    try:
        sys.exit(helper.wait(0.5) % 256)
    except subprocess.TimeoutExpired:
        if os.getppid() != int(sys.argv[1]):
            helper.kill()
"""


def cores() -> int:
    """Return how many cores this process may use, at least 1: of the machine, of its affinity, and of its cgroup."""
    own = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota, _, period = _limit().partition(" ")
    return max(1, min(own, math.ceil(int(quota) / int(period)))) if quota.isdecimal() and period else own


def _limit() -> str:
    """Return a container's limit as Linux's cgroup 2 has it, "200000 100000" for two cores; "" or "max …" for none."""
    try:
        return Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").strip()
    except (OSError, UnicodeError):
        return ""


def start(
    command: Sequence[str], *, streams: int | IO[Any] | None = None, env: dict[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start a program that ends with the calling thread, at the latest with this process.

    streams: for its input, output and errors, as Popen takes it. The program is there: that is not checked.
    """
    watch = _BY_SIGNAL if LINUX else _BY_WATCHING
    words = [sys.executable, "-I", "-S", "-c", watch, str(os.getpid()), *command]
    group = None if LINUX else 0
    return subprocess.Popen(words, stdin=streams, stdout=streams, stderr=streams, env=env, process_group=group)


def kill(process: subprocess.Popen[bytes]) -> None:
    """End what ``start`` started, at once."""
    if LINUX:
        process.kill()
    elif process.poll() is None:
        os.killpg(process.pid, 9)


def end_with_parent(*_: object) -> None:
    """End this multiprocessing child when its parent is gone. Call it once in the child."""
    if (parent := parent_process()) is None:
        return

    def watch() -> None:
        connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="end with parent").start()


def end_with_starter() -> None:
    """End this program when the one that started it is gone, which torchrun's processes do not by themselves.

    On Linux torchrun's is the process that ``start`` made, so that one which ended before is noticed.
    """
    starter = os.getppid()
    if LINUX:
        helper = int(os.environ.get(HELPER) or os.getpid())
        if helper != os.getpid():  # else the parent is ours, and ``start`` has seen to it
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != helper:
                os._exit(1)
        return
    if starter == 1:  # it ended before
        os._exit(1)

    def watch() -> None:
        while os.getppid() == starter:
            time.sleep(WATCH_S)
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="end with starter").start()


PR_SET_PDEATHSIG = 1
HELPER = "COCABENCH_HELPER"
"""The variable of the environment with the process that ``start`` made, which is what it becomes."""

WATCH_S = 0.5
