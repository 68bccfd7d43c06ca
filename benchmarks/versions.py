"""Two versions of cocabench on the command line: the overhead of a run besides computing.

python -m benchmarks startup [--against PYTHON]       a run with one data-loading process, less one without
python -m benchmarks run-cached [--against PYTHON]    the demo's tasks measured again with all features cached

PYTHON is the interpreter of another version's environment; without it this one stands against itself (the noise).
Each is run once to warm the disk's cache, then ``--repeats`` times in turns.
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
from pathlib import Path

from benchmarks.sides import in_words, row

MAIN = "import sys; from cocabench.cli import main; sys.argv[0] = 'cocabench'; main()"
COMMON = ("run", "--device", "cpu", "--precision", "fp32", "--quiet")


def seconds(python: str, cache: Path, *words: str) -> float:
    """Return the wall time of a command, with a cache folder and an output of its own."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        subprocess.run(
            [python, "-c", MAIN, *COMMON, *words, "--output", f"{folder}/results"],
            env={**os.environ, "XDG_CACHE_HOME": str(cache)},
            cwd=folder,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        return time.perf_counter() - started


def startup(python: str, cache: Path) -> float:
    """Return how much longer a small run takes with one data-loading process than with none."""
    words = ("--model", "demo/clip", "--tasks", "emoji_flags", "--limit", "8", "--no-cache", "--workers")
    return seconds(python, cache, *words, "1") - seconds(python, cache, *words, "0")


def run_cached(python: str, cache: Path) -> float:
    """Return the time of four of the demo's tasks; from the second call on the cache holds their features."""
    tasks = "emoji_retrieval,emoji_flags,emoji_subgroups,emoji_pairs"
    return seconds(python, cache, "--model", "demo/coca,demo/clip", "--tasks", tasks, "--workers", "0")


ROWS: dict[str, tuple[Callable[[str, Path], float], str]] = {
    "startup": (startup, "fork server and first data-loading process"),
    "run-cached": (run_cached, "four of the demo's tasks with two models, all features cached"),
}


def main(argv: Sequence[str] | None = None) -> None:
    """Measure a row and print it, the last line as JSON."""
    parser = argparse.ArgumentParser(prog="benchmarks versions", description=__doc__)
    parser.add_argument("name", choices=ROWS)
    parser.add_argument("--against", default=sys.executable, help="the other version's interpreter")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="print only the JSON line")
    options = parser.parse_args(argv)
    measure, what = ROWS[options.name]
    times: dict[str, list[float]] = {sys.executable: [], options.against: []}
    with tempfile.TemporaryDirectory() as folder:
        caches = {python: Path(folder) / str(i) for i, python in enumerate(times)}
        for python, cache in caches.items():
            measure(python, cache)
        for _ in range(options.repeats):
            for python, cache in caches.items():
                times[python].append(measure(python, cache))
    sides = [
        {"median_s": round(statistics.median(found), 3), "peak_mib": 0, "all_s": [round(one, 2) for one in found]}
        for found in (times[sys.executable], times[options.against])
    ]
    report = row(options.name, what, "another version of cocabench", 1, *sides)
    if not options.json:
        print(in_words(report).partition("; peak")[0])
    print(json.dumps(report))


if __name__ == "__main__":
    main()
