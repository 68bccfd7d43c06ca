"""The probe ridge on features of ImageNet's size: seconds and peak memory, without a peer.

python -m benchmarks probes [--images 1281167] [--width 768] [--classes 1000] [--tests 50000]

Features are random: the time does not depend on what they hold. Exits with 1 if memory exceeds 12 GB.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import time

import numpy as np

from cocabench.metrics import probes

LIMIT_BYTES = 12e9
CHUNK = 1 << 16


def features(n: int, width: int) -> np.ndarray:
    rows, rng = np.empty((n, width), np.float32), np.random.default_rng(0)
    for start in range(0, n, CHUNK):
        rng.standard_normal(out=rows[start : start + CHUNK], dtype=np.float32)
    return rows


def main() -> None:
    """Fit and test, and print the seconds as JSON."""
    parser = argparse.ArgumentParser()
    for flag, default in (("--images", 1_281_167), ("--width", 768), ("--classes", 1000), ("--tests", 50_000)):
        parser.add_argument(flag, type=int, default=default)
    given = parser.parse_args()
    rows, labels = features(given.images, given.width), np.arange(given.images) % given.classes
    tests, right = rows[: given.tests], labels[: given.tests]
    start, cpu = time.perf_counter(), time.process_time()
    (scorer,) = probes.ridge(rows, labels, given.classes, [1024.0])
    fitted, used = time.perf_counter(), time.process_time()
    hits = [probes.accuracy(scorer.of(tests[i : i + CHUNK]), right[i : i + CHUNK]) for i in range(0, len(tests), CHUNK)]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    found = {
        "name": "probes",
        "images": given.images,
        "fit_s": round(fitted - start, 1),
        "fit_cpu_s": round(used - cpu, 1),
        "test_s": round(time.perf_counter() - fitted, 1),
        "peak_gb": round(peak / 1e9, 2),
        "cores": os.cpu_count(),
        "accuracy": float(np.mean(hits)),
    }
    print(json.dumps(found))
    sys.exit(int(peak > LIMIT_BYTES))


if __name__ == "__main__":
    main()
