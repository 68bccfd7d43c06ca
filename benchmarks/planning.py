"""Planning: `run --dry-run` of tasks over folders of images, with an empty cache and again.

python -m benchmarks planning [--json] [--tasks 40] [--images 2000]

The second time nothing has changed: no data set is read, only their files are looked at. Prints seconds of processor
time. ``start`` is that of one task with ten images: Python and its imports, of which torch and open_clip are none.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

MAIN = "import sys; from cocabench.cli import main; sys.argv[0] = 'cocabench'; main()"
CLASSES = 10
SETTLED_S = 2.5
"""Files younger than this are not kept."""

TASK = """name = "t{k}"
version = 1
evaluator = "classification"
summary = "s"
primary = "acc1"
groups = ["mine"]
[data]
loader = "imagefolder"
path = "set{k}"
[params]
templates = "cifar10"
"""


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print, the last line as JSON."""
    parser = argparse.ArgumentParser(prog="benchmarks planning", description=__doc__)
    parser.add_argument("--tasks", type=int, default=40)
    parser.add_argument("--images", type=int, default=2000, help="of each task")
    parser.add_argument("--json", action="store_true", help="print only the JSON line")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write(root, 0, CLASSES)
        for k in range(1, options.tasks + 1):
            write(root, k, options.images)
        time.sleep(SETTLED_S)
        start = min(planned(root, [0]) for _ in range(2))
        cold, warm = (planned(root, range(1, options.tasks + 1)) for _ in range(2))
    found = {"tasks": options.tasks, "images": options.images, "start_s": start, "cold_s": cold, "warm_s": warm}
    if not options.json:
        print(f"planning {options.tasks} tasks of {options.images:,} images, seconds of processor time")
        print(f"  {cold:.2f} cold, {warm:.2f} warm, {start:.2f} of them to start")
    print(json.dumps({"name": "planning", **found}))


def write(root: Path, k: int, n: int) -> None:
    """Write a task and its folder of n images, which are links to one file: at most 65,000 on ext4."""
    one = root / f"{k}.png"
    Image.new("RGB", (8, 8), "red").save(one)
    for i in range(n):
        place = root / f"set{k}" / f"class{i % CLASSES}"
        place.mkdir(parents=True, exist_ok=True)
        os.link(one, place / f"{i:06}.png")
    (root / f"t{k}.toml").write_text(TASK.format(k=k))


def planned(root: Path, tasks: Sequence[int]) -> float:
    """Return the seconds of processor time of a dry run."""
    files = ",".join(str(root / f"t{k}.toml") for k in tasks)
    words = ["run", "--model", "demo/clip", "--tasks", files, "--data-root", root, "--output", root / "r"]
    before = _cpu()
    order = [
        sys.executable,
        "-c",
        MAIN,
        *map(str, words),
        "--cache",
        str(root / "cache"),
        "--dry-run",
        "--device",
        "cpu",
    ]
    subprocess.run(order, check=True, stdout=subprocess.DEVNULL)
    return round(_cpu() - before, 2)


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
