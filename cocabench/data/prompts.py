"""Class names, prompt templates and ImageNet's synset lists: the shipped ones (CLIP_benchmark's), or a user's files.

A reference is a shipped name, or the path of a file: ``imagenet1k``, ``my/names.txt``, ``my/templates.json``, and
``my/many.json#food101`` for one data set of CLIP_benchmark's custom files ({dataset: [...]}).
"""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, cast

from cocabench.core.errors import DataError, UnknownNameError
from cocabench.data.files import read_json, read_lines, some


def class_names(ref: str) -> tuple[str, ...]:
    """Return a data set's class names, in the order of its labels.

    A user's file: a JSON list, {dataset: [names]}, or text with a name a line.
    """
    if ref in _shipped("classnames"):
        return _shipped("classnames")[ref]
    path, value = _own(ref, "class names")
    return _strings(value, path, "a list of class names")


def templates(ref: str) -> tuple[str, ...] | dict[str, tuple[str, ...]]:
    """Return prompt templates with ``{c}`` where the class name goes, or each class's own finished prompts.

    A user's file: a JSON list, {dataset: [templates]}, text with a template a line (open_clip's ``{}`` is read as
    ``{c}``); or, in the form of CuPL, {class name: [prompts]} or {dataset: {class name: [prompts]}}.
    """
    if ref in _shipped("templates"):
        return _shipped("templates")[ref]
    path, value = _own(ref, "templates")
    if isinstance(value, dict):
        wanted = "lists of prompts by class name"
        return {str(name): _strings(prompts, path, wanted) for name, prompts in value.items()}
    return _with_placeholder(_strings(value, path, "a list of templates"), path)


def synsets(ref: str) -> tuple[str, ...]:
    """Return the WordNet ids of imagenet1k, imagenetv2, imagenet_sketch, imagenet-a or imagenet-r by label."""
    if ref not in _shipped("synsets"):
        raise UnknownNameError("synsets", ref, _shipped("synsets"))
    return _shipped("synsets")[ref]


@cache
def _shipped(kind: str) -> dict[str, tuple[str, ...]]:
    """Read a shipped file. A string in place of a list is the name of the data set that has the same list."""
    table = json.loads((resources.files("cocabench.data") / f"{kind}.json").read_text(encoding="utf-8"))
    return {name: tuple(table[value] if isinstance(value, str) else value) for name, value in table.items()}


def _own(ref: str, kind: str) -> tuple[Path, Any]:
    """Return the path and the content of a user's file, of one data set where it holds several."""
    name, _, dataset = ref.partition("#")
    path = Path(name).expanduser()
    if not path.is_file() and path.suffix not in (".json", ".txt"):
        shipped = _shipped(kind.replace(" ", ""))
        raise UnknownNameError(kind, ref, shipped, fix="or write the path of a .json or .txt file")
    value = read_json(path) if path.suffix == ".json" else read_lines(path)
    if not isinstance(value, dict) or (kind == "templates" and not dataset and _by_class(value)):
        return path, value
    return path, _one_dataset(value, path, dataset)


def _one_dataset(table: dict[str, Any], path: Path, dataset: str) -> Any:
    """Return what a {dataset: …} file holds for the data set, or for the only one."""
    if dataset:
        if dataset not in table:
            raise UnknownNameError(f"{path}: data set", dataset, table)
        return table[dataset]
    if len(table) != 1:
        fix = f"write {path}#NAME"
        raise DataError(str(path), f"{len(table)} data sets ({some(table)})", wanted="one", fix=fix)
    return next(iter(table.values()))


def _by_class(table: dict[str, Any]) -> bool:
    """Tell {class name: [finished prompts]} from {dataset: [templates or names]}: prompts have no placeholder."""
    lists = [value for value in table.values() if isinstance(value, list)]
    return len(lists) == len(table) > 1 and not any("{" in str(text) for value in lists for text in value)


def _strings(value: Any, path: Path, wanted: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or not all(isinstance(item, str) and item.strip() for item in value):
        raise DataError(str(path), "something else, or an empty entry", wanted=wanted)
    return tuple(item.strip() for item in cast(list[str], value))


def _with_placeholder(found: tuple[str, ...], path: Path) -> tuple[str, ...]:
    converted = tuple(text.replace("{}", "{c}") for text in found)
    if plain := [text for text in converted if "{c}" not in text]:
        raise DataError(str(path), f"{len(plain)} templates without {{c}}: {some(map(repr, plain))}")
    return converted
