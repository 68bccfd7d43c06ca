"""Wheels for a machine without a network: the peers at their pinned versions, and what cocabench itself needs."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from benchmarks.pinned import PINS
from benchmarks.sides import ROOT

ON_THE_MACHINE = ("torch", "torchvision", "triton")
"""What a machine with a GPU has already; with nvidia's libraries, which torch needs."""

FURTHER = ("webdataset",)


def pack(folder: Path, most_mib: int) -> Iterator[str]:
    """Download wheels into folder/peers and folder/own, and yield a line on what they hold now.

    What would not fit into most_mib, the largest of our own first, is removed and named; so are packages without a
    wheel. folder/own holds this tree's own wheel, too, for its entry points.
    """
    peers, own = folder / "peers", folder / "own"
    missing = []
    for wanted, place in (([*PINS, *FURTHER], peers), ([*_needed("cocabench"), str(ROOT)], own)):
        if not _fetched(wanted, place):  # one of them has no wheel: the others one by one
            missing += [one for one in wanted if not _fetched([one], place)]
    kept, size, left_out = 0, 0, []
    for wheel in [*sorted(peers.glob("*.whl")), *sorted(own.glob("*.whl"), key=lambda one: one.stat().st_size)]:
        if size + wheel.stat().st_size > most_mib * 2**20:
            left_out.append(wheel.name.split("-")[0])
            wheel.unlink()
            continue
        kept, size = kept + 1, size + wheel.stat().st_size
    yield f"{kept} wheels, {size / 2**20:.0f} of {most_mib} MiB, in {folder}"
    if left_out:
        yield f"left out, too large: {', '.join(left_out)}"
    if missing:
        yield f"no wheel: {', '.join(missing)}"


def _fetched(requirements: Sequence[str], folder: Path) -> bool:
    """Put wheels of "name==version" or of a tree into a folder, without requirements; return whether all are there."""
    order = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), *requirements]
    return subprocess.run(order, check=False, capture_output=True).returncode == 0


def _needed(name: str) -> list[str]:
    """Return what a package requires, at the versions installed here, without extras and what needs a GPU's machine."""
    found: dict[str, str] = {}
    waiting = [name]
    while waiting:
        for requirement in distribution(waiting.pop()).requires or ():
            wanted = _plain(re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0])
            if "extra ==" in requirement or wanted in found or wanted in ON_THE_MACHINE or wanted.startswith("nvidia"):
                continue
            try:
                found[wanted] = f"{wanted}=={distribution(wanted).version}"
            except PackageNotFoundError:  # for another platform
                continue
            waiting.append(wanted)
    return sorted(found.values())


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
