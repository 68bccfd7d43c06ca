"""The flags of open_clip's trainer, taken from its own parser, so that a recipe can say all that it takes."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Mapping
from typing import Any

from open_clip_train.params import parse_args

from cocabench.core.errors import UsageError

OURS = {
    "model": "the recipe's model",
    "pretrained": "the recipe's model (NAME:TAG, NAME:FILE, NAME:random@SEED)",
    "resume": "--resume",
    "logs": "--output",
    "name": "--output",
    "device": "--device",
    "dist_backend": "--device",
    "horovod": "--nproc",
}
"""Flags that cocabench sets, and what sets them."""


def known() -> dict[str, Any]:
    """Return {flag: default} of open_clip_train, with underscores, but for those that cocabench sets."""
    return {name: value for name, value in vars(parse_args([])).items() if name not in OURS}


def argv(flags: Mapping[str, Any]) -> list[str]:
    """Return flags as words: True is the bare flag, False and None none at all, lists and tables several words."""
    words: list[str] = []
    for name, value in flags.items():
        if value is None or value is False:
            continue
        words.append(f"--{name.replace('_', '-')}")
        if isinstance(value, Mapping):
            words += [f"{key}={item}" for key, item in value.items()]
        elif value is not True:
            words += [str(item) for item in value] if isinstance(value, (list, tuple)) else [str(value)]
    return words


def parsed(words: list[str], where: str) -> dict[str, Any]:
    """Return what open_clip_train makes of the words; UsageError with its parser's complaint."""
    told = io.StringIO()
    try:
        with contextlib.redirect_stderr(told):
            return dict(vars(parse_args(words)))
    except SystemExit:
        complaint = told.getvalue().strip().rpartition("error: ")[2]
        if value := re.match(r"argument --([\w-]+): invalid (int|float) value: (.*)", complaint):
            flag, kind, got = value.groups()
            wanted = {"int": "a whole number", "float": "a number"}[kind]
            raise UsageError(f"{where}: trainer.{flag.replace('-', '_')}", f"got {got}", wanted=wanted) from None
        raise UsageError(where, re.sub(r"^argument --", "", complaint)) from None
