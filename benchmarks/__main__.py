"""Run the benchmarks: both sides in one session, ratios and peak memory.

python -m benchmarks              all rows; updates the table in benchmarks/RESULTS.md
python -m benchmarks NAME [--json] [FLAGS OF THE ROW]    one row; the last line is its JSON
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from benchmarks import table
from benchmarks.sides import ROOT

ROWS: dict[str, tuple[str, ...]] = {
    "classifier": ("classifier",),
    "classifier-coca": ("classifier", "--model", "coca_ViT-B-32"),
    "text": ("text",),
    "recall": ("recall",),
    "ranks": ("ranks",),
    "cache": ("cache",),
    "cache-store": ("cache_store",),
    "run": ("run",),
    "shared": ("shared",),
    "captioning": ("captioning",),
    "captioning-one-group": ("captioning", "--groups", "1"),
    "metrics-first": ("metrics", "--model", "first"),
    "metrics": ("metrics",),
    "metrics-spice-first": ("metrics", "--spice", "--model", "first", "--repeats", "1"),
    "metrics-spice": ("metrics", "--spice", "--repeats", "1"),
}
"""Name -> its module below benchmarks, and flags."""

EXTRA: dict[str, tuple[str, ...]] = {
    "images": ("images",),
    "many": ("many",),
    "memory-model": ("memory_model",),
    "devices": ("devices",),
    "captioning-batches": ("captioning_batches",),
    "captioning-cuda": ("captioning_cuda",),
    "captioning-curves": ("captioning_curves",),
    "captioning-leaving": ("captioning_leaving",),
    "decoding-fuzz": ("decoding_fuzz",),
    "gpu": ("gpu",),
    "gpu-part": ("gpu_part",),
    "growth": ("growth",),
    "hashing": ("hashing",),
    "honesty": ("honesty",),
    "planning": ("planning",),
    "probes": ("probes",),
    "resize": ("resize",),
    "shares": ("shares",),
    "startup": ("versions", "startup"),
    "run-cached": ("versions", "run-cached"),
}
"""Rows that need a GPU or have no peer: run by name only."""


def main() -> None:
    """Run one row as it is, or all of them and write the table."""
    if len(sys.argv) > 1:
        name, *flags = sys.argv[1:]
        if name in ("-h", "--help"):
            print(f"{__doc__}\nRows: {', '.join(ROWS)}.\nBy name only: {', '.join(EXTRA)}.")
            return
        sys.exit(subprocess.run(_order(name, flags), cwd=ROOT, check=False).returncode)
    found = {name: _last_line(name) for name in ROWS}
    table.write(found)
    sys.exit(1 if None in found.values() else 0)


def _order(name: str, flags: list[str]) -> list[str]:
    known = ROWS | EXTRA
    if name not in known:
        sys.exit(f"benchmarks: unknown {name!r}; known: {', '.join(known)}")
    module, *own = known[name]
    return [sys.executable, "-m", f"benchmarks.{module}", *own, *flags]


def _last_line(name: str) -> dict[str, Any] | None:
    """Run a row and return its JSON; None, and a line on stderr, where it fails."""
    done = subprocess.run(_order(name, []), cwd=ROOT, check=False, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        print(f"benchmarks: {name} failed with exit code {done.returncode}", file=sys.stderr)
        return None
    print(done.stdout, end="", flush=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


if __name__ == "__main__":
    main()
