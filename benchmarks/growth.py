"""How time grows with size: seconds of processor time at two sizes apart by 4 or more, and the exponent.

python -m benchmarks growth [--json] [--only NAME,NAME] [--part 1]

An exponent of 1: in proportion. --part 4 measures a quarter of each size. ``many`` does the same for compare, gate and
report. Commands count with Python's start; of functions the least of two runs, in this process.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.many import used


@dataclass(frozen=True)
class Growth:
    """What is measured: seconds(n) at size and a quarter of it; wanted: seconds at size."""

    what: str
    size: int
    wanted: float
    seconds: Callable[[int], float]


def main(argv: Sequence[str] | None = None) -> None:
    """Measure the rows and print, the last line as JSON."""
    parser = argparse.ArgumentParser(prog="benchmarks growth", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--only", default=",".join(ROWS), help=", ".join(ROWS))
    parser.add_argument("--part", type=int, default=1, help="measure this part of each size")
    parser.add_argument("--json", action="store_true", help="print only the JSON line")
    options = parser.parse_args(argv)
    if other := [name for name in options.only.split(",") if name not in ROWS]:
        parser.error(f"unknown {other[0]!r}; known: {', '.join(ROWS)}")
    found = {}
    for name in options.only.split(","):
        found[name] = report = measured(ROWS[name], options.part)
        if not options.json:
            each = ", ".join(f"n={n:,}: {taken:.2f} s" for n, taken in report["seconds"].items())
            print(f"{name}: {report['what']}\n  {each}; exponent {report['exponent']}; wanted: {report['wanted']:g} s")
    print(json.dumps({"name": "growth", "rows": found}))


def measured(row: Growth, part: int) -> dict[str, Any]:
    """Return the seconds at a quarter of a row's size and at the size, and the exponent between them."""
    sizes = (max(1, row.size // part // 4), max(2, row.size // part))
    few, many = (row.seconds(n) for n in sizes)
    exponent = math.log(max(many, 1e-3) / max(few, 1e-3)) / math.log(sizes[1] / sizes[0])
    times = {n: round(taken, 3) for n, taken in zip(sizes, (few, many), strict=True)}
    return {"what": row.what, "seconds": times, "exponent": round(exponent, 2), "wanted": row.wanted}


def taken(work: Callable[[], Any]) -> float:
    """Return the seconds of processor time of the faster of two runs."""
    times = []
    for _ in range(2):
        started = time.process_time()
        work()
        times.append(time.process_time() - started)
    return min(times)


def swapped(n: int) -> float:
    """Test a function of ten summed columns, of which every image differs."""
    from cocabench.metrics.paired import swap

    rng = np.random.default_rng(0)
    first = rng.integers(1, 30, (n, 10)).astype(np.float64)
    second = first + rng.integers(1, 3, (n, 10))
    return taken(lambda: swap(first, second, lambda sums: sums[..., 0] / sums[..., 1], np.random.default_rng(0)))


def median(n: int) -> float:
    """Return the interval of a median rank."""
    import pandas as pd

    from cocabench.metrics.statistics import Median

    ranks = np.random.default_rng(0).integers(1, 1000, n)
    rows = pd.DataFrame({"image_id": [str(i) for i in range(n)], "rank": ranks})
    statistic = Median(lambda samples: samples["rank"].to_numpy(np.float64))
    return taken(lambda: statistic.interval(rows, np.random.default_rng(0)))


def cache_writes(n: int) -> float:
    """Write n rows of 512 numbers in blocks of 400; the seconds are those of 10,000 rows."""
    from cocabench.core.cache import DiskCache

    rng = np.random.default_rng(0)
    value = rng.bytes(2048)
    with tempfile.TemporaryDirectory() as folder:
        cache = DiskCache(Path(folder), 1 << 40)
        blocks = [{rng.bytes(16): value for _ in range(min(400, n - at))} for at in range(0, n, 400)]
        started = time.process_time()
        for block in blocks:
            cache.put("rows", block, label="rows")
        return (time.process_time() - started) * 10_000 / n


def folder_again(n: int) -> float:
    """Plan retrieval over a folder of n images (hard links of one) for the second time."""
    from PIL import Image

    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        (root / "images").mkdir()
        Image.new("RGB", (8, 8), "red").save(root / "one.png")
        for i in range(n):
            if i % 50_000 == 0:  # a file has at most some ten thousand links
                Image.new("RGB", (8, 8), (i % 251, i % 241, 9)).save(one := root / f"{i}.png")
            os.link(one, root / "images" / f"{i}.png")
        rows = "\n".join(f"images/{i}.png\tnumber {i}" for i in range(n))
        (root / "captions.tsv").write_text(f"filepath\ttitle\n{rows}\n")
        words = _planned(root, "captions.tsv")
        used(words, root)
        return used(words, root)


def csv_rows(n: int) -> float:
    """Plan retrieval over a csv of n captions of 100 images for the first time."""
    from PIL import Image

    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        for i in range(100):
            Image.new("RGB", (8, 8), (i, i, i)).save(root / f"{i}.png")
        rows = "\n".join(f"{i % 100}.png\tnumber {i}" for i in range(n))
        (root / "captions.tsv").write_text(f"filepath\ttitle\n{rows}\n")
        return used(_planned(root, "captions.tsv"), root)


def _planned(root: Path, path: str) -> list[str]:
    """Return the words of a dry run of one task over a file."""
    (root / "t.toml").write_text(
        'name = "t"\nversion = 1\nevaluator = "retrieval"\nsummary = "s"\nprimary = "t2i_recall@1"\n'
        f'groups = ["g"]\n[data]\nloader = "tsv"\npath = "{path}"\n[params]\nks = [1]\n'
    )
    where = ["--data-root", str(root), "--cache", str(root / "cache"), "--output", str(root / "results")]
    return ["run", "--model", "demo/clip", "--tasks", "t.toml", *where, "--dry-run"]


def all_done(n: int) -> float:
    """Run n small tasks of which every result is there."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        tasks = []
        for i in range(n):
            tasks.append(f"t{i}.toml")
            (root / tasks[-1]).write_text(
                f'name = "t{i}"\nversion = 1\nevaluator = "retrieval"\nsummary = "s"\nprimary = "t2i_recall@1"\n'
                'groups = ["g"]\n[data]\nloader = "synthetic"\nimages = 8\nsize = 8\n[params]\nks = [1]\n'
            )
        where = ["--cache", str(root / "cache"), "--output", str(root / "results"), "--quiet"]
        words = ["run", "--model", "demo/clip", "--tasks", ",".join(tasks), *where]
        used(words, root)
        return used(words, root)


def started(*words: str) -> Callable[[int], float]:
    """Return a command's seconds, whatever n."""
    return lambda _: used(words, Path())


ROWS = {
    "swap": Growth("test of summed statistics, ten columns, n images", 250_000, 5, swapped),
    "median": Growth("interval of a median rank, n queries", 250_000, 1, median),
    "cache": Growth("cache writes of 512 numbers: seconds for 10,000 of n rows", 200_000, 0.2, cache_writes),
    "folder": Growth("dry run over a folder of n images, the second", 100_000, 3, folder_again),
    "csv": Growth("dry run over a csv of n rows, the first", 1_000_000, 5, csv_rows),
    "done": Growth("run of n small tasks that are all done", 40, 3, all_done),
    "list": Growth("cocabench list tasks", 2, 1.2, started("list", "tasks")),
    "help": Growth("cocabench --help", 2, 0.5, started("--help")),
}


if __name__ == "__main__":
    main()
