"""Class names, prompt templates and ImageNet's synset lists: the shipped ones (CLIP_benchmark's), or a user's files.

A reference is a shipped name, or the path of a file: ``imagenet1k``, ``my/names.txt``, ``my/templates.json``, and
``my/many.json#food101`` for one data set of CLIP_benchmark's custom files ({dataset: [...]}). Those in other languages,
``imagenet1k/cn`` and ``babel_imagenet/DE``, are read from the installed clip-benchmark.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from functools import cache
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, cast

from cocabench.core.errors import DataError, UnknownNameError
from cocabench.core.files import expanded
from cocabench.core.formatting import plural
from cocabench.core.text import well_formed
from cocabench.data.files import read_json, read_lines, some
from cocabench.data.inputs import note_file, note_folder


def class_names(ref: str) -> tuple[str, ...]:
    """Return a data set's class names, in the order of its labels.

    A user's file: a JSON list, {dataset: [names]}, or text with a name a line.
    """
    if ref in _shipped("classnames"):
        return _shipped("classnames")[ref]
    if found := _translated(ref):
        return found.names
    path, value = _own(ref, "class names")
    names = _strings(value, path, "a list of class names")
    _check_no_code(names, path, "a class name a line, or a JSON list of them")
    return names


def templates(ref: str) -> tuple[str, ...] | dict[str, tuple[str, ...]]:
    """Return prompt templates with ``{c}`` where the class name goes, or each class's own finished prompts.

    A user's file: a JSON list, {dataset: [templates]}, text with a template a line (open_clip's ``{}`` is read as
    ``{c}``); or, in the form of CuPL, {class name: [prompts]} or {dataset: {class name: [prompts]}}.
    """
    if ref in _shipped("templates"):
        return _shipped("templates")[ref]
    if found := _translated(ref):
        return found.templates
    path, value = _own(ref, "templates")
    if isinstance(value, dict):
        wanted = "lists of prompts by class name"
        return {str(name): _strings(prompts, path, wanted) for name, prompts in value.items()}
    return _with_placeholder(_strings(value, path, "a list of templates"), path)


def places(own: Sequence[str], names: Sequence[str], where: str) -> tuple[int, ...]:
    """Return which of the names (m,) each of a data set's own classes (n,) is.

    By name where each of them is one of the names, letter case and _ or - for a space aside; by number where they are
    numbers from 0 on; else one by one in their order. DataError where there are more or fewer of them then, or where
    one that is among the names does not stand in its place.
    """
    plain, own_plain = [_plain(name) for name in names], [_plain(name) for name in own]
    there, here = Counter(plain), Counter(own_plain)
    if all(there[name] == here[name] == 1 for name in own_plain):
        return tuple(map(plain.index, own_plain))
    if "0" in own and all(name.isdecimal() and int(name) < len(names) for name in own):
        return tuple(map(int, own))
    lost = some(repr(one) for one, name in zip(own, own_plain, strict=True) if name not in there)
    without, fix = f", without {lost}" if lost else "", "name them alike, each once"
    if len(own) != len(names):
        classes, given = plural(len(own), "class", "classes"), plural(len(names), "class name")
        raise DataError(where, f"{classes} in the data, {given}{without}", fix=fix)
    if moved := [
        one for one, name, other in zip(own, own_plain, plain, strict=True) if name in there and name != other
    ]:
        got = f"classes in another order than the class names ({some(map(repr, moved))}){without}"
        raise DataError(where, got, fix=fix)
    return tuple(range(len(names)))


def _plain(name: str) -> str:
    return " ".join(re.sub(r"[_-]", " ", name).casefold().split())


def synsets(ref: str) -> tuple[str, ...]:
    """Return the WordNet ids of imagenet1k, imagenetv2, imagenet_sketch, imagenet-a or imagenet-r by label.

    Those of ``babel_imagenet/DE`` are the classes that have a name in that language.
    """
    if found := _translated(ref):
        return tuple(_shipped("synsets")["imagenet1k"][k] for k in found.classes)
    if ref not in _shipped("synsets"):
        raise UnknownNameError("synsets", ref, _shipped("synsets"))
    return _shipped("synsets")[ref]


def differences(names: Sequence[str], texts: Sequence[str], dataset: str) -> list[str]:
    """Return how a folder's class names and templates differ from those that clip-benchmark has of the data set.

    dataset: its name there, such as vtab/pets. What either of the two does not have is not compared.
    """
    short = dataset.removeprefix("vtab/")
    keys = (*((f"{short}_vtab",) if short != dataset else ()), dataset, short)
    pairs = (("class names", "classnames", tuple(names)), ("templates", "templates", tuple(texts)))
    found = []
    for what, kind, own in pairs:
        theirs = next((_shipped(kind)[key] for key in keys if key in _shipped(kind)), ())
        if own and theirs and own != theirs:
            odd = [f"{a!r} in place of {b!r}" for a, b in zip(own, theirs, strict=False) if a != b]
            number = f"{len(own)} {what}, not {len(theirs)}" if len(own) != len(theirs) else ""
            others = f"{len(odd)} of {len(theirs)} {what} are others, such as {odd[0]}" if odd else ""
            found.append("; ".join(filter(None, (number, others))))
    return found


@cache
def _shipped(kind: str) -> dict[str, tuple[str, ...]]:
    """Read a shipped file. A string in place of a list is the name of the data set that has the same list."""
    table = json.loads((resources.files("cocabench.data") / f"{kind}.json").read_text(encoding="utf-8"))
    return {name: tuple(table[value] if isinstance(value, str) else value) for name, value in table.items()}


class Translated(NamedTuple):
    """classes: which of ImageNet's 1,000 have a name (m,), 0-999. names: theirs (m,). templates: with ``{c}``."""

    classes: tuple[int, ...]
    names: tuple[str, ...]
    templates: tuple[str, ...]


TRANSLATIONS = ("imagenet1k", "babel_imagenet")
"""The sets of class names that clip-benchmark has in other languages than English."""


def languages(name: str) -> tuple[str, ...]:
    """Return the languages of one of TRANSLATIONS, as clip-benchmark writes them.

    babel_imagenet: of its 93 the 90 with prompts; BR, FY and LA have none, and clip-benchmark ends with a KeyError.
    """
    if name == "babel_imagenet":
        return tuple(code for code in _peer("babel_imagenet.json") if code in _peer("nllb_dist13b_prompts.json"))
    files = note_folder(_peer_folder()).glob("*_zeroshot_classification_templates.json")
    return tuple(sorted(code for file in files if (code := file.name.partition("_")[0]) != "en"))


def _translated(ref: str) -> Translated | None:
    """Return a set's names and templates in a language; None for other references, an error for other languages."""
    name, slash, code = ref.partition("/")
    if name not in TRANSLATIONS or not slash or ref.endswith((".json", ".txt")):
        return None
    if code not in (known := languages(name)):
        raise UnknownNameError(f"{name}: language", code, known)
    if name == "babel_imagenet":
        classes, names = _peer("babel_imagenet.json")[code]
        return Translated(tuple(classes), tuple(names), _formatted(_peer("nllb_dist13b_prompts.json")[code]))
    names = _peer(f"{code}_classnames.json")[name]
    texts = _peer(f"{code}_zeroshot_classification_templates.json")[name]
    return Translated(tuple(range(len(names))), tuple(names), tuple(texts))


def _formatted(texts: Sequence[str]) -> tuple[str, ...]:
    return tuple(text.replace("{}", "{c}") for text in texts)


@cache
def _peer(file: str) -> Any:
    """Return one of clip-benchmark's files."""
    return json.loads((_peer_folder() / file).read_text(encoding="utf-8"))


@cache
def _peer_folder() -> Path:
    """Return the folder of clip-benchmark's files, without importing it (it imports torch)."""
    package = find_spec("clip_benchmark")
    if package is None or package.origin is None:
        raise DataError("class names", "clip-benchmark is not installed", fix="pip install clip-benchmark")
    return Path(package.origin).parent / "datasets"


def _own(ref: str, kind: str) -> tuple[Path, Any]:
    """Return the path and the content of a user's file, of one data set where it holds several."""
    name, _, dataset = ref.partition("#")
    path = expanded(name)
    if not note_file(path).is_file() and path.suffix not in (".json", ".txt"):
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
    if odd := next((item for item in value if well_formed(item) != item), None):
        raise DataError(str(path), f"{odd!r} holds what is no Unicode character", wanted=wanted)
    return tuple(item.strip() for item in cast(list[str], value))


def _with_placeholder(found: tuple[str, ...], path: Path) -> tuple[str, ...]:
    _check_no_code(found, path, "a template a line, such as: a photo of a {c}.")
    converted = tuple(text.replace("{}", "{c}") for text in found)
    if plain := [text for text in converted if "{c}" not in text]:
        raise DataError(str(path), f"{plural(len(plain), 'template')} without {{c}}: {some(map(repr, plain))}")
    return converted


_CODE = re.compile(
    r"""lambda\b.*:  # a function
    | [fFrRuU]{0,2}(["']).*\1,$  # a string with a comma behind it
    | [fF](["']).*\2$
    | \w+\ ?=\ ?\[$ | [\[\]]$""",
    re.VERBOSE,
)
"""A line of Python."""


def _check_no_code(found: Sequence[str], path: Path, wanted: str) -> None:
    """Raise DataError for lines that were copied from Python: a model would be asked for their commas and quotes."""
    if code := [text for text in found if _CODE.match(text)]:
        got = f"{plural(len(code), 'entry that is', 'entries that are')} Python, not text: {some(map(repr, code))}"
        raise DataError(str(path), got, wanted=wanted)
