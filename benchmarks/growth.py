"""How time grows with size: seconds of processor time at two sizes apart by 4 or more, and the exponent.

python -m benchmarks growth [--json] [--only NAME,NAME] [--part 1] [--size N]

An exponent of 1: in proportion. --part 4 measures a quarter of each size; --size another size than the row's own.
``many`` does the same for compare, gate and report. Commands count with Python's start and have a peak of memory; of
functions the least of two runs counts, in this process.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from benchmarks.many import MAIN
from benchmarks.sides import worker

if TYPE_CHECKING:
    from cocabench.core.cache import DiskCache


class Cost(NamedTuple):
    """Seconds of processor time, or what the row's unit says, and the most memory of one process, if measured."""

    seconds: float
    peak_mib: int | None = None


@dataclass(frozen=True)
class Growth:
    """What is measured: cost(n) at size, and at size / apart. wanted: at size, at most; None: in proportion."""

    what: str
    size: int
    wanted: float | None
    cost: Callable[[int], Cost]
    apart: int = 4
    unit: str = "s"


def main(argv: Sequence[str] | None = None) -> None:
    """Measure the rows and print, the last line as JSON."""
    parser = argparse.ArgumentParser(prog="benchmarks growth", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--only", default=",".join(name for name in ROWS if name not in LONG), help=", ".join(ROWS))
    parser.add_argument("--part", type=int, default=1, help="measure this part of each size")
    parser.add_argument("--size", type=int, help="measure this size, and what is apart from it")
    parser.add_argument("--json", action="store_true", help="print only the JSON line")
    options = parser.parse_args(argv)
    if other := [name for name in options.only.split(",") if name not in ROWS]:
        parser.error(f"unknown {other[0]!r}; known: {', '.join(ROWS)}")
    found = {}
    for name in options.only.split(","):
        found[name] = report = measured(ROWS[name], (options.size or ROWS[name].size) // options.part)
        if not options.json:
            print(f"{name}: {report['what']}\n  {in_words(report)}", flush=True)
    print(json.dumps({"name": "growth", "rows": found}))


def measured(row: Growth, size: int) -> dict[str, Any]:
    """Return the cost at a size and at the one apart from it, and the exponent between them."""
    sizes = (max(1, size // row.apart), max(2, size))
    few, many = (row.cost(n) for n in sizes)
    exponent = math.log(max(many.seconds, 1e-3) / max(few.seconds, 1e-3)) / math.log(sizes[1] / sizes[0])
    found = dict(zip(sizes, (few, many), strict=True))
    return {
        "what": row.what,
        "seconds": {n: round(cost.seconds, 3) for n, cost in found.items()},
        "peak_mib": {n: cost.peak_mib for n, cost in found.items()},
        "exponent": round(exponent, 2),
        "wanted": row.wanted,
        "unit": row.unit,
    }


def in_words(report: dict[str, Any]) -> str:
    """Return what was measured in a line."""
    peaks = {n: f", {peak} MiB" if peak else "" for n, peak in report["peak_mib"].items()}
    each = "; ".join(f"n={n:,}: {taken:.2f} {report['unit']}{peaks[n]}" for n, taken in report["seconds"].items())
    wanted = "in proportion" if report["wanted"] is None else f"{report['wanted']:g} {report['unit']}"
    return f"{each}; exponent {report['exponent']}; wanted: {wanted}"


def taken(work: Callable[[], Any]) -> Cost:
    """Return the seconds of processor time of the faster of two runs."""
    return Cost(min(_once(work), _once(work)))


def _once(work: Callable[[], Any]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def used(words: Sequence[str], root: Path) -> Cost:
    """Return what a command of cocabench takes in a folder, with the processes that it waits for."""
    process = subprocess.Popen([sys.executable, "-c", MAIN, *words], cwd=root, stdout=subprocess.DEVNULL)
    _, status, spent = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"cocabench {' '.join(words)}: exit code {process.returncode}")
    return Cost(spent.ru_utime + spent.ru_stime, spent.ru_maxrss >> 10)


def swapped(n: int) -> Cost:
    """Test a function of ten summed columns, of which every image differs."""
    from cocabench.metrics.paired import swap

    rng = np.random.default_rng(0)
    first = rng.integers(1, 30, (n, 10)).astype(np.float64)
    second = first + rng.integers(1, 3, (n, 10))
    return taken(lambda: swap(first, second, lambda sums: sums[..., 0] / sums[..., 1], np.random.default_rng(0)))


def median(n: int) -> Cost:
    """Return the interval of a median rank."""
    import pandas as pd

    from cocabench.metrics.statistics import Median

    ranks = np.random.default_rng(0).integers(1, 1000, n)
    rows = pd.DataFrame({"image_id": [str(i) for i in range(n)], "rank": ranks})
    statistic = Median(lambda samples: samples["rank"].to_numpy(np.float64))
    return taken(lambda: statistic.interval(rows, np.random.default_rng(0)))


def cache_writes(n: int, size: int) -> Cost:
    """Fill a cache up to n values of so many bytes; the seconds are those of the last 10,000, in blocks of 400."""
    from cocabench.core.cache import DiskCache

    rng = np.random.default_rng(0)
    value = rng.bytes(size)
    with tempfile.TemporaryDirectory() as folder:
        cache = DiskCache(Path(folder), 1 << 40)
        _fill(cache, n - 10_000, value, rng)
        blocks = [{rng.bytes(16): value for _ in range(400)} for _ in range(25)]
        return Cost(_once(lambda: [cache.put("rows", block, label="rows") for block in blocks]))


def evicted(n: int) -> Cost:
    """Evict a space of n values of 16 bytes by writing to another."""
    from cocabench.core.cache import DiskCache

    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        _fill(DiskCache(Path(folder), 1 << 40), n, rng.bytes(16), rng)
        small = DiskCache(Path(folder), 1 << 20)
        found = Cost(_once(lambda: small.put("other", {bytes(16): bytes(16)}, label="other")))
        assert [one.label for one in small.usage()] == ["other"]
        return found


def _fill(cache: DiskCache, n: int, value: bytes, rng: np.random.Generator) -> None:
    for at in range(0, n, 100_000):
        cache.put("rows", {rng.bytes(16): value for _ in range(min(100_000, n - at))}, label="rows")


def classified(n: int) -> Cost:
    """Rank 20,000 classes for n images; the time by that of the matrix product alone."""
    from cocabench.metrics.classification import class_cosines, ranked_in_chunks

    classes = 20_000
    rng = np.random.default_rng(0)
    images, weights = (rng.standard_normal((k, 512), np.float32) / np.float32(512**0.5) for k in (n, classes))
    labels, items = rng.integers(0, classes, n), np.arange(classes)

    def product() -> None:
        for start in range(0, n, 512):
            images[start : start + 512] @ weights.T

    def rank() -> None:
        for _ in ranked_in_chunks(class_cosines(images, weights, items), labels, items):
            pass

    return Cost(_once(rank) / _once(product))


def captions_scored(n: int) -> Cost:
    """Score captions of n images with five references each by BLEU, METEOR, ROUGE-L and CIDEr, with Python's start."""
    with tempfile.TemporaryDirectory() as folder:
        words = ["--model", "first", "--images", str(n), "--worker", "ours"]
        found = worker("benchmarks.metrics", words, 1, {"COCABENCH_CACHE": folder})
    return Cost(found["cpu_seconds"], found["peak_mib"])


def captions_written(n: int) -> Cost:
    """Caption n images of noise by demo/coca-captioner, with Python's start."""
    from PIL import Image

    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        (root / "images").mkdir()
        for i in range(n):
            Image.fromarray(rng.integers(0, 256, (64, 64, 3), np.uint8)).save(root / "images" / f"{i}.png")
        return used(["caption", "images", "--model", "demo/coca-captioner"], root)


def folder_again(n: int) -> Cost:
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


def csv_rows(n: int) -> Cost:
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


def all_done(n: int) -> Cost:
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


def started(*words: str) -> Callable[[int], Cost]:
    """Return a command's seconds, whatever n."""
    return lambda _: used(words, Path())


ROWS = {
    "swap": Growth("test of summed statistics, ten columns, n images", 250_000, 5, swapped),
    "median": Growth("interval of a median rank, n queries", 250_000, 1, median),
    "classes": Growth("ranks of 20,000 classes, n images", 50_000, 2, classified, unit="times the product alone"),
    "captions": Growth("captions of n images scored: BLEU, METEOR, ROUGE-L, CIDEr", 20_000, None, captions_scored),
    "captioner": Growth("n images captioned by demo/coca-captioner", 20_000, None, captions_written),
    "cache": Growth(
        "writing 10,000 values of 2 KiB to a cache of n", 200_000, 0.2, lambda n: cache_writes(n, 2048), apart=20
    ),
    "keys": Growth(
        "writing 10,000 values of 16 bytes to a cache of n", 1_000_000, 0.2, lambda n: cache_writes(n, 16), apart=100
    ),
    "evict": Growth("evicting n values of the cache", 1_000_000, 0.2, evicted),
    "folder": Growth("dry run over a folder of n images, the second", 100_000, 3, folder_again),
    "csv": Growth("dry run over a csv of n rows, the first", 1_000_000, 5, csv_rows),
    "done": Growth("run of n small tasks that are all done", 40, 3, all_done),
    "list": Growth("cocabench list tasks", 2, 1.2, started("list", "tasks")),
    "help": Growth("cocabench --help", 2, 0.5, started("--help")),
}
LONG = ("captioner",)
"""Minutes on a processor: only measured if named."""


if __name__ == "__main__":
    main()
