"""Two sides of a benchmark, measured in turns, each run in a fresh process; and what every row prints.

A row is a module ``benchmarks/NAME.py`` whose ``main(argv)`` prints for people (not under ``--json``) and, last, one
line of JSON: ``name``, ``what``, ``against``, ``target`` (the ratio it must reach), ``ratio`` (their median seconds by
ours), ``ours`` and ``theirs`` with ``median_s`` and ``peak_mib`` each, and whatever else it found. ``Row`` below does
all that for two sides that can be written as functions; a row with other needs prints the same keys by itself.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
SIDES = ("ours", "theirs")

Options = argparse.Namespace
Work = Callable[[], Any]
"""What is timed: returns an array that the other side's is compared with, or None."""


@dataclass(frozen=True)
class Row:
    """A comparison. ours and theirs prepare (not timed) and return the Work; tolerance bounds their difference.

    arguments: the row's own flags, passed on to both sides; ``what`` may name them in braces. environment: variables
    for their side (pinned packages). repeats: timed runs of each side, by default.
    """

    name: str
    what: str
    against: str
    target: float
    ours: Callable[[Options], Work]
    theirs: Callable[[Options], Work]
    tolerance: float = float("inf")
    arguments: dict[str, Any] = field(default_factory=dict)
    environment: Callable[[], dict[str, str]] = dict
    repeats: int = 3

    def main(self, argv: Sequence[str] | None = None) -> None:
        """Run the comparison; with --worker, one side of it."""
        given = list(sys.argv[1:] if argv is None else argv)
        options = self._parser().parse_args(given)
        if options.worker:
            print(json.dumps(_measured(getattr(self, options.worker)(options), options.answer)))
            return
        report = self._compare(options, given)
        if not options.json:
            print(in_words(report))
        print(json.dumps(report))

    def _parser(self) -> argparse.ArgumentParser:
        parser = argparse.ArgumentParser(prog=f"benchmarks {self.name}", description=f"{self.what}: {self.against}")
        parser.add_argument("--json", action="store_true", help="print only the JSON line")
        parser.add_argument("--threads", type=int, default=2)
        parser.add_argument("--repeats", type=int, default=self.repeats, help="timed runs of each side")
        parser.add_argument("--worker", choices=SIDES, help=argparse.SUPPRESS)
        parser.add_argument("--answer", help=argparse.SUPPRESS)
        for flag, default in self.arguments.items():
            parser.add_argument(flag, type=type(default), default=default)
        return parser

    def _compare(self, options: Options, given: list[str]) -> dict[str, Any]:
        runs: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
        with tempfile.TemporaryDirectory() as folder:
            for _ in range(options.repeats):
                for side in SIDES:
                    environment = self.environment() if side == "theirs" else {}
                    order = [*given, "--worker", side, "--answer", f"{folder}/{side}.npy"]
                    runs[side].append(worker(self.module, order, options.threads, environment))
            difference = _difference(Path(folder))
        what = self.what.format(**vars(options))
        report = row(self.name, what, self.against, self.target, *map(summary, runs.values()))
        if difference is not None:
            report["largest_difference"] = difference
            if not difference <= self.tolerance:
                raise SystemExit(f"{self.name}: the sides differ by {difference}, more than {self.tolerance}")
        return report

    @property
    def module(self) -> str:
        return self.ours.__module__ if self.ours.__module__ != "__main__" else f"benchmarks.{Path(sys.argv[0]).stem}"


def row(
    name: str, what: str, against: str, target: float, ours: dict[str, Any], theirs: dict[str, Any]
) -> dict[str, Any]:
    """Return what the last line holds; ours and theirs have median_s and peak_mib at least."""
    ratio = round(theirs["median_s"] / ours["median_s"], 2)
    return {"name": name, "what": what, "against": against, "target": target, "ratio": ratio} | {
        "ours": ours,
        "theirs": theirs,
    }


def summary(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return one side's medians over its runs (seconds, cpu_seconds, peak_mib), the largest peak, and every time."""
    return {
        "median_s": round(statistics.median(run["seconds"] for run in runs), 4),
        "peak_mib": max(run["peak_mib"] for run in runs),
        "cpu_s": round(statistics.median(run["cpu_seconds"] for run in runs), 3),
        "all_s": [round(run["seconds"], 3) for run in runs],
    }


def in_words(report: dict[str, Any]) -> str:
    """Return the row for people: what, the times, the ratio, the memory."""
    ours, theirs = report["ours"], report["theirs"]
    found = f"{ours['median_s']:.2f} s against {theirs['median_s']:.2f} s: {report['ratio']} times faster"
    memory = f"peak {ours['peak_mib']:.0f} against {theirs['peak_mib']:.0f} MiB"
    return f"{report['name']}: {report['what']}, against {report['against']}\n  {found}; {memory}"


def worker(module: str, order: Sequence[str], threads: int, environment: dict[str, str]) -> dict[str, Any]:
    """Run ``python -m module order`` in a process of its own and return the JSON of its last line."""
    fixed = {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": str(threads)}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", module, *order],
        env={**os.environ, **fixed, **environment},
        cwd=ROOT,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def _measured(work: Work, answer: str | None) -> dict[str, Any]:
    """Time the work once, with the peak memory of this process while it ran (MiB, all that is resident)."""
    reset_peak()
    started, cpu_started = time.perf_counter(), time.process_time()
    found = work()
    result = {"seconds": time.perf_counter() - started, "cpu_seconds": time.process_time() - cpu_started}
    result["peak_mib"] = peak_mib()
    if answer and found is not None:
        np.save(answer, np.asarray(found))
    return result


def _difference(folder: Path) -> float | None:
    paths = [folder / f"{side}.npy" for side in SIDES]
    if not all(path.exists() for path in paths):
        return None
    ours, theirs = map(np.load, paths)
    if ours.shape != theirs.shape:
        raise SystemExit(f"the sides answer in different shapes: {ours.shape} and {theirs.shape}")
    return float(np.abs(ours - theirs).max())


def reset_peak() -> None:
    """Forget the peak so far (a model's building), where the kernel allows it (Linux)."""
    path = Path("/proc/self/clear_refs")
    if path.exists():
        path.write_text("5")


def peak_mib() -> float:
    """Return the peak resident memory of this process in MiB."""
    status = Path("/proc/self/status")
    if not status.exists():
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return round(int(line.split()[1]) / 2**10, 1)
