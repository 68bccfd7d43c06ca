"""cocabench doctor: what works on this machine, and the remedy for what does not."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Annotated, NamedTuple

import typer
from rich.markup import escape

from cocabench.cli.console import print_table
from cocabench.cli.options import DataRoot, Java, Json, flag
from cocabench.core.errors import CocabenchError


class Check(NamedTuple):
    """One thing looked at. ok None: neither good nor bad."""

    name: str
    ok: bool | None
    found: str


def doctor(
    gpu: Annotated[bool, flag("--gpu", help="Also a smoke test on the GPU, about a minute.")] = False,
    data_root: DataRoot = Path("data"),
    java: Java = None,
    as_json: Json = False,
) -> None:
    """Show what works on this machine, each with its remedy. Exit code 1 where something needed is broken."""
    checks = [*_software(), *_hardware(), *_caption_metrics(java), *_data(data_root), *(_smoke() if gpu else ())]
    if as_json:
        print(json.dumps([check._asdict() for check in checks], ensure_ascii=False))
    else:
        _print(checks)
    if any(check.ok is False for check in checks):
        raise typer.Exit(1)


def _print(checks: Sequence[Check]) -> None:
    marks = {True: "[green]✓[/green]", False: "[red]✗[/red]", None: "[yellow]–[/yellow]"}
    print_table(["", "what", "found"], [[marks[c.ok], c.name, escape(c.found)] for c in checks])


def _software() -> Iterator[Check]:
    yield Check("python", True, platform.python_version())
    for package in ("cocabench", "torch", "torchvision", "open_clip_torch", "clip-benchmark", "pycocoevalcap"):
        try:
            yield Check(package, True, metadata.version(package))
        except metadata.PackageNotFoundError:
            yield Check(package, False, f"absent; pip install {package}")


def _hardware() -> Iterator[Check]:
    import torch

    yield Check("CPU", True, f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} torch threads")
    if torch.cuda.is_available():
        for i in range(torch.cuda.device_count()):
            memory = torch.cuda.get_device_properties(i).total_memory / 2**30
            yield Check(f"cuda:{i}", True, f"{torch.cuda.get_device_name(i)}, {memory:.0f} GiB")
    else:
        yield Check("CUDA", None, "no device; models run on the CPU")


def _caption_metrics(java: Path | None) -> Iterator[Check]:
    from cocabench import captioneval as captions

    missing = captions.unavailable(captions.NAMES, java=java)
    for name in captions.NAMES:
        yield Check(name, None if name in missing else True, missing.get(name, "can run"))
    yield Check(" and ".join(captions.MODEL_BASED), True, "can run with any model whose weights are here")


def _data(root: Path) -> Iterator[Check]:
    from cocabench.run.prepare import Settings, prepare
    from cocabench.specs.registry import all_tasks

    yield Check(
        "data root",
        True if root.is_dir() else None,
        f"{root.resolve()}{'' if root.is_dir() else ' does not exist; set --data-root or COCABENCH_DATA'}",
    )
    for task in all_tasks().values() if root.is_dir() else ():
        if "demo" not in task.spec.groups:
            try:
                data = prepare(task, Settings(data_root=root), modes={})
                yield Check(
                    task.name, True, f"{len(data.dataset):,} images" + "".join(f"; {d}" for d in data.departures)
                )
            except CocabenchError as error:
                yield Check(task.name, None, str(error))


def _smoke() -> Iterator[Check]:
    """Encode and caption the demo on the GPU in fp32, fp16 and bf16, and hold it against the CPU."""
    import torch

    if not torch.cuda.is_available():
        yield Check("GPU smoke test", False, "no CUDA device; install a driver and a CUDA build of torch")
        return
    from cocabench.models.smoke import deviations

    for name, deviation, allowed in deviations("cuda"):
        yield Check(
            f"GPU {name}",
            deviation <= allowed,
            f"differs from the CPU by {deviation:.2g} at most, allowed {allowed:.2g}",
        )
