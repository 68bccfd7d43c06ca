"""Parsing of task files (TOML) and model strings. No torch, no data.

The grammar of model strings, in order of precedence:

    demo | demo/NAME                 the checkpoints that come with cocabench
    hf-hub:ORG/REPO                  a Hugging Face Hub repository
    local-dir:DIR | DIR              a folder with open_clip_config.json and weights
    PLUGIN::ANYTHING                 a model of a plugin (entry point group cocabench.models)
    NAME                             an open_clip architecture with cocabench's default tag for it
    NAME:TAG                         … with an open_clip pretrained tag (case and - or _ do not matter)
    NAME:FILE                        … with a checkpoint file; a glob makes one model per file
    NAME:https://HOST/FILE           … with a checkpoint behind an address (s3://…, hf://… too), kept in the cache
    NAME:FILE#ema                    … with the exponential moving average that a training keeps in its checkpoint
    FILE.txt                         a list of model strings, or of CLIP_benchmark's NAME,TAG, one a line
    NAME:random@SEED                 … with reproducible random weights, labelled as such
    avg(A,B,…)                       the mean of the weights of checkpoints of one architecture; a glob adds its files
    mix(A,B,0.3)                     0.7 of A's weights and 0.3 of B's; mix(A,B,0:1:0.1) makes a model per step

NAME may also be the path of an architecture's JSON file. Commas separate models; a string with a comma is quoted
('ViT-B-32:"/runs/a,b.pt"') or escaped with a backslash (\\,). Only the first colon after NAME is a separator.
"""

from __future__ import annotations

import glob
import os
import re
import tomllib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from itertools import product
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from pydantic_core import ErrorDetails

from cocabench.core.errors import SpecError, UsageError, unreadable
from cocabench.core.files import expanded, read_text

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.@+/-]*$")]


class Spec(BaseModel):
    """A table of a TOML file: frozen; unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Expect(Spec):
    """The counts of the standard protocol ([expect]); results with other counts are labelled as not standard.

    Besides images and texts it may hold counts of the kind (classes), and a table per further split.
    """

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, int | dict[str, int]] = Field(init=False)

    images: int | None = None
    texts: int | None = None


class TaskSpec(Spec):
    """A parsed task file. The loader validates the keys of data, the kind those of params.

    licence: of the data, as their authors state it. hub: the data set's name on the Hugging Face Hub, ORG/NAME. Both
    are for people and part of no signature.
    language: of its texts, of a file with ``languages``, whose tasks are named SET/LANGUAGE and form the group SET.
    """

    name: Name
    version: Annotated[int, Field(ge=1, strict=True)]
    evaluator: str
    summary: str
    primary: str
    groups: tuple[Name, ...] = ()
    licence: str = ""
    hub: Annotated[str, StringConstraints(pattern=r"^([\w.-]+/[\w.-]+)?$")] = ""
    language: str = ""
    data: dict[str, Any]
    expect: Expect = Expect()
    params: dict[str, Any] = {}

    @property
    def loader(self) -> str:
        return str(self.data.get("loader", ""))

    @property
    def family(self) -> str:
        """The name of the set that the task is one language of, else its own name."""
        return self.name.removesuffix(f"/{self.language}") if self.language else self.name

    def expected(self, split: str) -> dict[str, int]:
        """Return the counts of [expect.SPLIT]."""
        found = dict(self.expect).get(split)
        return found if isinstance(found, dict) else {}


def read_toml(path: Path) -> dict[str, Any]:
    """Return a TOML file's table; SpecError if it cannot be read or is not TOML."""
    try:
        return tomllib.loads(read_text(path))
    except FileNotFoundError:
        raise SpecError(str(path), ["no such file"]) from None
    except tomllib.TOMLDecodeError as error:
        raise SpecError(str(path), [f"not readable as TOML: {error}"]) from None
    except RecursionError:
        raise SpecError(str(path), ["not readable as TOML: nested too deeply"]) from None
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(str(path), [unreadable(error)]) from None
    except ValueError:  # Python converts no more than 4,300 digits
        raise SpecError(str(path), ["not readable as TOML: a number with thousands of digits"]) from None


def task_tables(path: Path) -> list[dict[str, Any]]:
    """Return the tables of a file's tasks: one, or one per [[variants]] table and language.

    All variants have the same keys; lists of variants, ``[[{…}, …], [{…}, …]]``, stand for every combination of one
    from each. In strings of the rest of the file, ``{key}`` is replaced by the variant's value
    (``{key:,}``: a number with thousands separators); a string that is exactly ``{key}`` becomes the value itself and
    keeps its type. Other braces are unchanged.

    ``languages = ["de", "fr"]`` are variants of the key ``language``, combined with the others; a table in place of a
    name, ``{ language = "de", classes = 738 }``, gives further keys. The task of each is named NAME/LANGUAGE, in the
    group NAME.
    """
    table = read_toml(path)
    several = "languages" in table
    if not several and "variants" not in table:
        return [table]
    if several and (wrong := _wrong_languages(table)):
        raise SpecError(str(path), wrong)
    variants = _variants(table)
    used: set[str] = {"language"} if several else set()
    if wrong := _wrong_variants(variants):
        raise SpecError(str(path), wrong)
    try:
        tables = [_filled(table, variant, used) for variant in variants]
    except ValueError as error:
        raise SpecError(str(path), [f"variants: {error}"]) from None
    if idle := sorted(variants[0].keys() - used):
        raise SpecError(
            str(path), [f"variants.{key}: unused; write {{{key}}} where to insert its value" for key in idle]
        )
    return (
        [_in_language(own, variant["language"]) for own, variant in zip(tables, variants, strict=True)]
        if several
        else tables
    )


def _variants(table: dict[str, Any]) -> Any:
    """Return a file's variants, combined with its languages, and take both out of its table."""
    variants = _combined(table.pop("variants", [{}]))
    if "languages" not in table:
        return variants
    tables = [one if isinstance(one, dict) else {"language": one} for one in table.pop("languages")]
    return _combined([variants, tables])


def _wrong_languages(table: dict[str, Any]) -> list[str]:
    """Return the problems of a file's languages, one per line."""
    languages = table["languages"]
    names = [one.get("language") if isinstance(one, dict) else one for one in languages or ()]
    if not isinstance(languages, list) or not names or not all(isinstance(name, str) and name for name in names):
        return ['languages: wanted a list of names, ["de", "fr"], or of tables with the key language']
    repeated = [name for name, n in Counter(names).items() if n > 1]
    return [f"languages: {name!r} more than once" for name in repeated] + (
        ["language: give it, or languages"] if "language" in table else []
    )


def _in_language(table: dict[str, Any], language: str) -> dict[str, Any]:
    """Return a task's table with its language, which its name ends with, and the group of all languages."""
    name, groups = table.get("name"), table.get("groups", [])
    if not isinstance(name, str) or not isinstance(groups, list):
        return table | {"language": language}
    return table | {"name": f"{name}/{language}", "groups": [name, *groups], "language": language}


def _combined(variants: Any) -> Any:
    """Return the variants themselves, or of lists of variants each combination of one from each."""
    lists = isinstance(variants, list) and variants and all(isinstance(one, list) for one in variants)
    if not lists or not all(isinstance(one, dict) for some in variants for one in some):
        return variants
    return [{key: value for one in chosen for key, value in one.items()} for chosen in product(*variants)]


def _wrong_variants(variants: Any) -> list[str]:
    """Return the problems of a file's variants, one per line."""
    if not isinstance(variants, list) or not variants or not all(isinstance(one, dict) for one in variants):
        return ["variants: wanted a list of tables, such as [[variants]]"]
    keys = dict.fromkeys(key for one in variants for key in one)
    missing = [f"variants.{k}.{key}: missing" for k, one in enumerate(variants) for key in keys if key not in one]
    return missing + (["variants.c: choose another key; {c} is the class name in templates"] if "c" in keys else [])


def _filled(value: Any, variant: dict[str, Any], used: set[str]) -> Any:
    """Return the value with ``{key}`` replaced by a variant's values, and add the keys found to used."""
    if isinstance(value, dict):
        return {key: _filled(item, variant, used) for key, item in value.items()}
    if isinstance(value, list):
        return [_filled(item, variant, used) for item in value]
    if not isinstance(value, str):
        return value
    used.update(found := {match["key"] for match in _PLACEHOLDER.finditer(value)} & variant.keys())
    if len(found) == 1 and value == f"{{{(key := next(iter(found)))}}}":
        return variant[key]

    def text_of(match: re.Match[str]) -> str:
        return format(variant[match["key"]], match["format"] or "") if match["key"] in variant else match[0]

    return _PLACEHOLDER.sub(text_of, value)


_PLACEHOLDER = re.compile(r"\{(?P<key>[\w-]+)(?::(?P<format>,))?\}")


def problems(error: ValidationError, fields: list[str], prefix: str = "") -> list[str]:
    """Return pydantic's errors, one per line, with a suggestion for each unknown key."""
    lines = []
    for item in error.errors():
        where = prefix + ".".join(str(part) for part in item["loc"])
        if not item["loc"]:
            lines.append(prefix + wanted(item))
        elif item["type"] == "extra_forbidden":
            lines.append(f"{where}: unknown key; {guess(str(item['loc'][-1]), fields)}")
        elif item["type"] == "missing":
            lines.append(f"{where}: missing")
        else:
            lines.append(f"{where}: got {item['input']!r}; {wanted(item)}")
    return lines


def guess(name: str, known: Sequence[str]) -> str:
    """Return ``did you mean 'ks'?``, or the list of known names."""
    import difflib

    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}"


_WANTED = {
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float", "int_parsing_size"), "a whole number"),
    **dict.fromkeys(("float_type", "float_parsing", "finite_number"), "a number"),
    **dict.fromkeys(("bool_type", "bool_parsing"), "true or false"),
    **dict.fromkeys(("list_type", "tuple_type"), "a list"),
    **dict.fromkeys(("dict_type", "model_type"), "a table"),
    "string_type": "text in quotes",
    "greater_than_equal": "{ge:g} or more",
    "greater_than": "more than {gt:g}",
    "less_than_equal": "{le:g} or less",
    "less_than": "less than {lt:g}",
    "literal_error": "{expected}",
    "enum": "{expected}",
    "string_pattern_mismatch": "text that matches {pattern}",
}
"""The wanted value for pydantic's error types."""


def wanted(item: ErrorDetails) -> str:
    """Return ``wanted a whole number`` for a pydantic error, or its own message if we have none."""
    if item["type"] in _WANTED:
        return "wanted " + _WANTED[item["type"]].format(**item.get("ctx", {}))
    said = item["msg"].removeprefix("Value error, ")
    return f"{said[:1].lower()}{said[1:]}"


class WeightsKind(StrEnum):
    DEMO = "demo"
    HUB = "hub"
    FOLDER = "folder"
    PLUGIN = "plugin"
    TAG = "tag"
    FILE = "file"
    RANDOM = "random"
    MIXTURE = "mixture"


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A parsed model string.

    text: as typed (for a glob: with one of its files). kind: where the weights come from. name: an open_clip
    architecture, the path of an architecture's JSON, a folder, a hub repository or a plugin. weights: a tag ('' for the
    default), a file, a seed, or the text after a plugin's name. quick_gelu: the value of --quick-gelu, None if unset.
    preprocess: the tag of --preprocess, '' for none. resize: the value of --resize. typed: whether the user wrote the
    text on the command line or in a call, so that it may name Python code; False for texts of task files, recipes and
    plans. inside: which weights of a file, '' or 'ema'. parts, shares: of a mixture.
    """

    text: str
    kind: WeightsKind
    name: str
    weights: str = ""
    quick_gelu: bool | None = None
    preprocess: str = ""
    resize: str = "own"
    typed: bool = False
    inside: str = ""
    parts: tuple[ModelSpec, ...] = ()
    shares: tuple[float, ...] = ()


def check_preprocess(specs: Sequence[ModelSpec], tag: str) -> None:
    """Raise UsageError for --preprocess where no model is a checkpoint file: others say their preprocessing."""
    takers = (WeightsKind.FILE, WeightsKind.MIXTURE, WeightsKind.PLUGIN)
    if tag and not any(spec.kind in takers for spec in specs):
        got = "no model is a checkpoint file, NAME:FILE"
        raise UsageError(f"--preprocess {tag}", got, fix="leave it out: the others say how they preprocess")


_SHARDS = ".index.json"
_WEIGHT_SUFFIXES = (".pt", ".pth", ".bin", ".safetensors", ".ckpt", ".npz", ".npy", _SHARDS)
_PATH_START = ("/", "./", "../", "~")


def split_models(text: str) -> list[str]:
    """Split at commas that are not quoted or escaped, and remove these quotes and backslashes."""
    if "," in text and os.path.exists(os.path.expanduser(text)):
        return [text]
    mixture = r"(?:(?<![^,\s])(?:avg|mix)\((?:[^()]|\([^()]*\))*\))"
    quoted = r"""(?:(?<![^,:\s])(?:"[^"]*"|'[^']*')(?![^,]))"""
    tokens = (token.strip() for token in re.findall(rf"((?:{mixture}|{quoted}|\\,|[^,])+)", text))
    clean = (token if _MIXTURE.fullmatch(token) else _unquoted(token) for token in tokens)
    return [token for token in clean if token]


def _unquoted(token: str) -> str:
    return re.sub(r"""(^|:)(["'])(.*)\2$""", r"\1\3", token).replace("\\,", ",")


_MIXTURE = re.compile(r"(avg|mix)\((.*)\)", re.DOTALL)


def parse_models(text: str, *, typed: bool = False) -> list[ModelSpec]:
    """Parse the value of --model; globs become one ModelSpec per file, in natural order; duplicates are removed.

    typed: see ``ModelSpec``.
    """
    specs = [
        replace(spec, typed=typed)
        for item in (one for part in split_models(text) for one in _in_list(part))
        for one in _swept(item)
        for spec in _expand(parse_model(one))
    ]
    if not specs:
        raise UsageError("--model", "no model given", fix="see `cocabench list models`")
    return list(dict.fromkeys(specs))


def listed(path: Path) -> list[str]:
    """Return the lines of a list, without empty ones and comments; SpecError if it cannot be read.

    A comment begins at a # behind a space or at the start of a line: FILE#ema is none.
    """
    try:
        lines = [re.split(r"(?:^|\s)#", line)[0].strip() for line in read_text(path).splitlines()]
    except (OSError, ValueError) as error:
        raise SpecError(str(path), [unreadable(error)]) from None
    if not (found := [line for line in lines if line]):
        raise SpecError(str(path), ["no names; wanted one a line"])
    return found


def _in_list(item: str) -> list[str]:
    """Return the models of a list (*.txt), whose lines may be CLIP_benchmark's NAME,TAG; other items alone."""
    if not item.endswith(".txt"):
        return [item]
    pairs = (line.partition(",") for line in listed(expanded(item)))
    return [f"{name.strip()}:{tag.strip()}" if tag else name for name, _, tag in pairs]


def parse_model(text: str) -> ModelSpec:
    """Parse one model string by the grammar in this module's docstring."""
    if match := _MIXTURE.fullmatch(text):
        return _mixture(text, match[1], split_models(match[2]))
    if text == "demo" or text.startswith("demo/"):
        return ModelSpec(text, WeightsKind.DEMO, text.removeprefix("demo").removeprefix("/"))
    for prefix, kind in (("hf-hub:", WeightsKind.HUB), ("local-dir:", WeightsKind.FOLDER)):
        if text.startswith(prefix):
            return _named(text, kind, text.removeprefix(prefix), prefix)
    if match := re.match(r"^([A-Za-z0-9_-]+)::(.+)$", text):
        return ModelSpec(text, WeightsKind.PLUGIN, match[1], match[2])
    if _is_model_folder(text):
        return ModelSpec(text, WeightsKind.FOLDER, text)
    if (match := re.match(r"^(.*?\.json)(?::(.*))?$", text)) and not match[1].endswith(_SHARDS):
        return _weights(text, match[1], match[2])
    if text.startswith(_PATH_START) or (text.endswith(_WEIGHT_SUFFIXES) and ":" not in text):
        fix = "write NAME:FILE with the name of the architecture, for example ViT-B-32:" + text
        raise UsageError(f"--model {text}", "neither a folder nor an architecture", fix=fix)
    name, colon, weights = text.partition(":")
    return _weights(text, name, weights if colon else None)


def _is_model_folder(text: str) -> bool:
    """Return whether text is a model folder; a folder that only shares an architecture's name is not."""
    path = expanded(text)
    return path.is_dir() and ("/" in text or (path / "open_clip_config.json").is_file())


_REPOSITORY = re.compile(r"(?!.*(--|\.\.))(\w[\w.-]*/)?\w[\w.-]*(@[\w./-]+)?", re.ASCII)


def _named(text: str, kind: WeightsKind, name: str, prefix: str) -> ModelSpec:
    if not name:
        raise UsageError(f"--model {text}", f"no name after {prefix!r}")
    if kind is WeightsKind.HUB and not _REPOSITORY.fullmatch(name):
        raise UsageError(f"--model {text}", "not a repository's name", wanted="hf-hub:ORG/REPO")
    return ModelSpec(text, kind, name)


def _weights(text: str, name: str, weights: str | None) -> ModelSpec:
    if not name or weights == "":
        raise UsageError(f"--model {text}", "an empty part", wanted="NAME or NAME:WEIGHTS")
    if weights is None:
        if name.endswith(".json"):
            raise UsageError(
                f"--model {text}", "an architecture without weights", wanted=f"{name}:FILE or {name}:random@0"
            )
        return ModelSpec(text, WeightsKind.TAG, name)
    if match := re.fullmatch(r"random(?:@(\d+))?", weights):
        return ModelSpec(f"{name}:random@{match[1] or 0}", WeightsKind.RANDOM, name, match[1] or "0")
    if weights.startswith("random@"):
        wanted = f"{name}:random@SEED, a whole number from 0"
        raise UsageError(f"--model {text}", f"the seed {weights.removeprefix('random@')!r}", wanted=wanted)
    file, mark, inside = weights.rpartition("#")
    if mark and file.endswith(_WEIGHT_SUFFIXES) and not expanded(weights).is_file():
        if inside != "ema":
            raise UsageError(f"--model {text}", f"unknown weights #{inside} of a file", wanted="#ema, or none")
        return ModelSpec(text, WeightsKind.FILE, name, file, inside=inside)
    if "/" in weights or weights.endswith(_WEIGHT_SUFFIXES) or expanded(weights).is_file():
        return ModelSpec(text, WeightsKind.FILE, name, weights)
    tag = weights.lower().replace("-", "_")
    return ModelSpec(f"{name}:{tag}", WeightsKind.TAG, name, tag)


def _expand(spec: ModelSpec) -> Iterator[ModelSpec]:
    """Yield one spec per file of a glob; an existing file with the literal name takes precedence."""
    path = expanded(spec.weights)
    if spec.kind is not WeightsKind.FILE or not glob.has_magic(spec.weights) or path.exists() or "://" in spec.weights:
        yield spec
        return
    files = sorted(glob.glob(str(path), recursive=True), key=_natural)
    if not files:
        raise UsageError(f"--model {spec.text}", "no file matches the pattern")
    for file in files:
        mark = f"#{spec.inside}" if spec.inside else ""
        yield replace(spec, text=f"{spec.name}:{file}{mark}", weights=file)


MAX_STEPS = 101
"""Models of a sweep ``mix(A,B,0:1:0.01)``."""


def _swept(text: str) -> list[str]:
    """Return the mixtures of a sweep, a text for each; other texts as they are."""
    match = _MIXTURE.fullmatch(text)
    items = split_models(match[2]) if match else []
    if not match or match[1] != "mix" or len(items) != 3 or ":" not in items[2]:
        return [text]
    wrong = UsageError(f"--model {text}", f"the range {items[2]}", wanted="FIRST:LAST:STEP, as 0:1:0.1")
    try:
        first, last, step = map(Decimal, items[2].split(":"))
        fits = 0 <= first <= last <= 1 and step > 0
    except (ValueError, InvalidOperation):  # the second of a comparison with NaN too
        raise wrong from None
    if not fits:
        raise wrong
    n = int(min((last - first) / max(step, Decimal("1e-9")), Decimal(10**9))) + 1
    if n > MAX_STEPS:
        raise UsageError(f"--model {text}", f"{n} models", wanted=f"{MAX_STEPS} at most", fix="use a larger step")
    before = match[2].rpartition(",")[0]
    return [f"mix({before},{(first + k * step).normalize():f})" for k in range(n)]


def _mixture(text: str, verb: str, items: Sequence[str]) -> ModelSpec:
    """Return the ModelSpec of avg(A,B,…) or mix(A,B,SHARE)."""
    if verb == "avg":
        parts = tuple(spec for item in items for spec in _expand(parse_model(item)))
        if len(parts) < 2:
            raise UsageError(f"--model {text}", "the mean of one model", wanted="avg(A,B,…)")
        return ModelSpec(text, WeightsKind.MIXTURE, verb, parts=parts, shares=(1 / len(parts),) * len(parts))
    try:
        one, other, number = items
        share = float(number)
    except ValueError:
        raise UsageError(f"--model {text}", "no mixture of two models", wanted="mix(A,B,0.5): half of each") from None
    if not 0 <= share <= 1:
        raise UsageError(f"--model {text}", f"the share {number}", wanted="0 (all of the first) to 1 (of the second)")
    parts = (parse_model(one), parse_model(other))
    return ModelSpec(text, WeightsKind.MIXTURE, verb, parts=parts, shares=(1 - share, share))


def _natural(text: str) -> list[tuple[int, int | str]]:
    return [(0, int(part)) if part.isdigit() else (1, part) for part in re.split(r"(\d+)", text)]
