"""Recipes: what to train, from which weights, with which flags of open_clip's trainer. TOML, shipped or one's own."""

from __future__ import annotations

import contextlib
import io
import re
import tomllib
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from open_clip_train.params import parse_args
from pydantic import Field, ValidationError

from cocabench.core.errors import SpecError, UnknownNameError, UsageError
from cocabench.specs.spec import Name, Spec, problems, read_toml

Table = dict[str, Any]


class Recipe(Spec):
    """A training run, but for its data.

    model:        as --model of `cocabench run` takes it; NAME:random@SEED trains from scratch.
    architecture: changes to the model's open_clip config (embed_dim, vision_cfg, text_cfg, multimodal_cfg, pad_id).
    trainer:      open_clip_train's flags, with underscores.
    notes:        what is printed before the training starts.
    answers_after: the last words before the answer in each caption of questions: the caption loss counts what follows
                  them alone. '' for whole captions.
    """

    name: Name
    summary: str
    model: str
    source: str = ""
    notes: tuple[str, ...] = ()
    answers_after: str = ""
    architecture: Table = Field(default_factory=dict)
    trainer: Table = Field(default_factory=dict)


def folder() -> Path:
    """Return where the shipped recipes lie."""
    return Path(str(resources.files("cocabench") / "train" / "recipes"))


def shipped() -> dict[str, Path]:
    return {path.stem: path for path in sorted(folder().glob("*.toml"))}


def find_recipe(name: str, settings: Iterable[str] = ()) -> Recipe:
    """Return a shipped recipe by name, or one's own by its path, with ``key=value`` settings in place of its values.

    SpecError with all that is wrong with the file; UsageError for a setting that is no key, with the closest ones.
    """
    if not name.endswith(".toml") and name not in shipped():
        raise UnknownNameError("recipe", name, shipped(), fix="a .toml of your own is given by its path")
    path = Path(name) if name.endswith(".toml") else shipped()[name]
    recipe = _checked(read_toml(path), str(path))
    return _checked(_with(recipe.model_dump(), settings), "--set")


def _checked(table: Mapping[str, Any], where: str) -> Recipe:
    trainer = table.get("trainer", {})
    found = [_unknown(key) for key in trainer if key not in trainer_flags()] if isinstance(trainer, dict) else []
    found += _out_of_range(trainer) if isinstance(trainer, dict) else []
    try:
        recipe = Recipe.model_validate(table)
    except ValidationError as error:
        raise SpecError(where, [*problems(error, sorted(Recipe.model_fields)), *found]) from None
    if found:
        raise SpecError(where, found)
    return recipe


TEXTS = ("train_data", "val_data", "dataset_type", "csv_separator", "csv_img_key", "csv_caption_key", "distill_model")
LEAST = {
    **dict.fromkeys(("batch_size", "accum_freq", "epochs"), 1),
    **dict.fromkeys(("workers", "warmup", "train_num_samples", "val_num_samples", "lr", "wd", "seed"), 0),
}
"""The smallest values of the trainer's flags with which it trains."""


def _out_of_range(trainer: Table) -> list[str]:
    """Return a line per flag whose value would only fail, or mean nothing, once the training runs."""
    lines = []
    for key, value in trainer.items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if key in TEXTS and not isinstance(value, str):
            lines.append(f"trainer.{key}: got {value!r}; wanted text in quotes")
        elif key == "csv_separator" and len(value) != 1:
            lines.append(f"trainer.{key}: got {value!r}; wanted one character")
        elif key in LEAST and number and not LEAST[key] <= value < 2**53:
            lines.append(f"trainer.{key}: got {value}; wanted {LEAST[key]} or more")
    return lines


def _unknown(key: str) -> str:
    if key in SET_BY_COCABENCH:
        return f"trainer.{key}: not set here; {SET_BY_COCABENCH[key]} does"
    error = UnknownNameError("trainer", key, trainer_flags())
    return f"trainer.{key}: no flag of open_clip_train" + (f"; {error.fix}" if error.fix else "")


def _with(table: Table, settings: Iterable[str]) -> Table:
    for text in settings:
        key, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"--set {text}", "no '='", wanted="key=value")
        _set(table, key.strip().replace("-", "_"), _value(value.strip()))
    return table


def _set(table: Table, key: str, value: Any) -> None:
    """Set model, answers_after, an architecture.PATH, or a flag of the trainer."""
    first, *rest = key.split(".")
    if first == "architecture" and rest:
        inner = table["architecture"]
        for part in rest[:-1]:
            inner = inner.setdefault(part, {})
            if not isinstance(inner, dict):
                raise UsageError(f"--set {key}", f"{part} is no table", wanted="architecture.PATH")
        inner[rest[-1]] = value
    elif key in ("model", "answers_after"):
        table[key] = value
    elif key in SET_BY_COCABENCH:
        raise UsageError(f"--set {key}", "is not set so", fix=f"{SET_BY_COCABENCH[key]} sets it")
    elif key in trainer_flags():
        table["trainer"][key] = value
    else:
        raise UnknownNameError("--set", key, ["model", "architecture", "answers_after", *trainer_flags()])


def _value(text: str) -> Any:
    """Return a TOML value, or the text itself where it is none: ``lr=1e-3``, ``local_loss=true``, ``model=RN50``."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        return text


SET_BY_COCABENCH = {
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


def trainer_flags() -> dict[str, Any]:
    """Return {flag: default} of open_clip_train, with underscores, but for those that cocabench sets."""
    return {name: value for name, value in vars(parse_args([])).items() if name not in SET_BY_COCABENCH}


def flag_words(flags: Mapping[str, Any]) -> list[str]:
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


def parsed_flags(words: list[str], where: str) -> dict[str, Any]:
    """Return what open_clip_train makes of the words; UsageError with its parser's complaint."""
    printed = io.StringIO()
    try:
        with contextlib.redirect_stderr(printed):
            return dict(vars(parse_args(words)))
    except SystemExit:
        complaint = printed.getvalue().strip().rpartition("error: ")[2]
        if value := re.match(r"argument --([\w-]+): invalid (int|float) value: (.*)", complaint):
            flag, kind, got = value.groups()
            wanted = {"int": "a whole number", "float": "a number"}[kind]
            raise UsageError(f"{where}: trainer.{flag.replace('-', '_')}", f"got {got}", wanted=wanted) from None
        raise UsageError(where, re.sub(r"^argument --", "", complaint)) from None
