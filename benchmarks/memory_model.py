"""A model in memory: what its identification and an evaluation in a training loop cost besides encoding.

Prints the seconds of ``state_digest`` per GB of weights, and of a call of ``cocabench.evaluate`` whose features are
cached: hashes, plan, scores, intervals. Times are of the processor, which other programs hardly change, and of the
clock.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

import torch

import cocabench
from cocabench.core.cache import MemoryCache
from cocabench.models.hardware import hardware
from cocabench.models.identity import state_digest
from cocabench.specs.registry import one_model

WANTED = {"digest_s_per_gb": 2.0, "overhead_s": 1.0}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print the JSON line alone")
    parser.add_argument("--gb", type=float, default=1.0, help="size of the network whose weights are hashed")
    parser.add_argument("--task", default="emoji_retrieval")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    side = 4096
    layers = round(options.gb * 1e9 / (4 * side * side))
    net = torch.nn.Sequential(*(torch.nn.Linear(side, side, bias=False) for _ in range(layers)))
    gigabytes = 4 * layers * side * side / 1e9
    digest = [_seconds(lambda: state_digest(net)) for _ in range(options.repeats)]
    demo: Any = one_model("demo/clip").load(hardware(device="cpu", workers=0))
    tasks, cache = cocabench.prepare(options.task), MemoryCache()

    def evaluate() -> cocabench.Results:
        given = {"preprocess": demo.transform, "tokenizer": demo.tokenizer, "cache": cache}
        return cocabench.evaluate(demo.net, tasks, **given)

    evaluate()
    overhead = [_seconds(evaluate) for _ in range(options.repeats)]
    found = {
        "name": "memory-model",
        "what": f"hash of {gigabytes:.2f} GB of weights; evaluation of {len(tasks[0])} cached images on {options.task}",
        "digest_s_per_gb": min(cpu for cpu, _ in digest) / gigabytes,
        "digest_clock_s_per_gb": min(clock for _, clock in digest) / gigabytes,
        "overhead_s": min(cpu for cpu, _ in overhead),
        "overhead_clock_s": min(clock for _, clock in overhead),
        "wanted": WANTED,
    }
    if not options.json:
        print(f"weights are hashed in {found['digest_s_per_gb']:.2f} s of processor time per GB (wanted: 2.0)")
        print(f"an evaluation with cached features takes {found['overhead_s']:.2f} s of processor time (wanted: 1.0)")
    print(json.dumps(found))


def _seconds(work: Callable[[], object]) -> tuple[float, float]:
    """Return the seconds of the processor and of the clock."""
    cpu, clock = time.process_time(), time.perf_counter()
    work()
    return time.process_time() - cpu, time.perf_counter() - clock


if __name__ == "__main__":
    main()
