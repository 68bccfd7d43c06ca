"""python -m benchmarks [NAME …] [--json]: run some or all; the last line of each is its JSON."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

NAMES = ("captioning", "metrics")


def main() -> None:
    asked = [a for a in sys.argv[1:] if not a.startswith("-")] or list(NAMES)
    flags = [a for a in sys.argv[1:] if a.startswith("-")]
    if unknown := [name for name in asked if name not in NAMES]:
        sys.exit(f"benchmarks: unknown {', '.join(unknown)}; known: {', '.join(NAMES)}")
    for name in asked:
        sys.argv = [str(Path(__file__).with_name(f"{name}.py")), *flags]
        runpy.run_module(f"benchmarks.{name}", run_name="__main__")


if __name__ == "__main__":
    main()
