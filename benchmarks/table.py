"""The table in RESULTS.md, between its two marks; the prose around it stays."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).with_name("RESULTS.md")
START, END = "<!-- table: python -m benchmarks -->", "<!-- end of the table -->"
HEAD = ("command", "what", "against", "ours", "theirs", "ratio", "wanted", "peak memory, ours / theirs")


def write(found: dict[str, dict[str, Any] | None]) -> None:
    """Replace the table with one of these rows: name -> the JSON of its last line, None where it failed."""
    before, rest = RESULTS.read_text(encoding="utf-8").split(START)
    after = rest.split(END)[1]
    RESULTS.write_text(before + START + "\n" + _table(found) + END + after, encoding="utf-8")


def _table(found: dict[str, dict[str, Any] | None]) -> str:
    lines = [HEAD, ("---",) * len(HEAD), *(_cells(name, report) for name, report in found.items())]
    return f"\n{machine()}\n\n" + "".join(f"| {' | '.join(cells)} |\n" for cells in lines) + "\n"


def _cells(name: str, report: dict[str, Any] | None) -> tuple[str, ...]:
    command = f"`python -m benchmarks {name}`"
    if report is None:
        return (command, "failed", *("–",) * (len(HEAD) - 2))
    ours, theirs = report["ours"], report["theirs"]
    return (
        command,
        report["what"],
        report["against"],
        f"{ours['median_s']:.3g} s",
        f"{theirs['median_s']:.3g} s",
        f"**{report['ratio']:.3g}**",
        f"{report['target']:g}",
        f"{ours['peak_mib']:.0f} / {theirs['peak_mib']:.0f} MiB",
    )


def machine() -> str:
    """Return the machine, its vector instructions (peers depend on them), the versions and the date in one line."""
    import torch

    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("torch", "numpy"))
    what = f"{platform.machine()} ({torch.backends.cpu.get_cpu_capability()}), {os.cpu_count()} cores, {memory:.0f} GiB"
    return f"Machine: {what}; Python {platform.python_version()}, {versions}; {datetime.date.today()}."
