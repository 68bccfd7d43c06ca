"""Reading many results: `compare`, `gate` and `report --no-images` of 50 models on 40 tasks, and of half of both.

python -m benchmarks many [--json] [--models 50] [--tasks 40] [--images 500]
python -m benchmarks many --records 3000        so many Records, on as many tasks

Seconds of processor time, Python's start with them, and how each grows with the number of results (1: in proportion).
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.report.constructed import many

MAIN = "import sys; from cocabench.cli import main; sys.argv[0] = 'cocabench'; main()"


def main(argv: Sequence[str] | None = None) -> None:
    """Measure both sizes and print, the last line as JSON."""
    parser = argparse.ArgumentParser(prog="benchmarks many", description=__doc__)
    parser.add_argument("--models", type=int, default=50)
    parser.add_argument("--tasks", type=int, default=40)
    parser.add_argument("--records", type=int, help="instead of models: how many Records on the tasks")
    parser.add_argument("--images", type=int, default=500, help="of each task")
    parser.add_argument("--json", action="store_true", help="print only the JSON line")
    options = parser.parse_args(argv)
    models = options.records // options.tasks if options.records else options.models
    sizes = [(models // 2, options.tasks // 2), (models, options.tasks)]
    small, large = (measured(models, tasks, options.images) for models, tasks in sizes)
    cells = [models * tasks for models, tasks in sizes]
    growth = {name: math.log(large[name] / small[name]) / math.log(cells[1] / cells[0]) for name in large}
    if not options.json:
        print(f"{models} models x {options.tasks} tasks x {options.images} images; seconds of processor time")
        for name in large:
            print(f"  {name:8} {large[name]:7.2f}   half of both: {small[name]:6.2f}   exponent {growth[name]:.2f}")
    found = {"models": models, "tasks": options.tasks, "images": options.images, "seconds": large}
    print(json.dumps({"name": "many", **found, "half": small, "exponent": growth}))


def measured(models: int, tasks: int, images: int) -> Mapping[str, float]:
    """Return the seconds of each command on a results folder; a gate may fail, which is no error."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for seed, name in enumerate(("results", "old")):
            many(root / name, models=models, tasks=tasks, images=images, seed=seed)
        words = {
            "compare": ["compare", "results", "--format", "csv"],
            "gate": ["gate", "--current", "results", "--baseline", "old"],
            "report": ["report", "results", "--output", "report", "--no-images"],
        }
        return {name: used(order, root) for name, order in words.items()}


def used(words: Sequence[str], root: Path) -> float:
    """Return the seconds of processor time that a command takes in a folder."""
    before = _cpu()
    subprocess.run([sys.executable, "-c", MAIN, *words], cwd=root, check=False, stdout=subprocess.DEVNULL)
    return round(_cpu() - before, 2)


def _cpu() -> float:
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


if __name__ == "__main__":
    main()
