"""Compares goldens, and says where they differ: the path, what the golden holds, what was got."""

from __future__ import annotations

import difflib
import json
import math
import os
import platform
import re
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

RELATIVE = 1e-12
"""How far a value may be off."""

ELSEWHERE = 1e-4
"""How far sums of a column's floats, and means of cosines, may be off on another machine: its float32 are others."""

BY_MACHINE = frozenset({"exact", "file", "captions_file", "pictures"})
"""Keys of what holds last bits, versions of packages, or encoded pictures: compared on the machine that made them."""

NEAR_TIES = re.compile(
    r"records/demo/(clip mnist |\w+ (emoji_languages/(hi|ru)|emoji_retrieval|g_\w+) \w+/samples/columns/"
    r"(i2t_wrong|n_above|tied_negatives|top5|top5_names)/)"
)
"""Columns of images whose classes or texts an Intel and an AMD, or a processor without AVX-512, rank otherwise: their
hashes, as above."""

MACHINES_NOTE = "not measured alike"
"""Of the gate: printed where the baseline's machine or packages are others."""

PACKAGES = ("torch", "torchvision", "open_clip_torch", "numpy", "scipy", "pandas", "pillow", "pycocoevalcap")


def environment() -> dict[str, str]:
    """Return what decides the last bits: the processor, the threads, Python, and the packages that compute."""
    packages = {name: version(name).partition("+")[0] for name in PACKAGES}
    threads = os.environ.get("OMP_NUM_THREADS", "")
    return {"processor": _processor(), "threads": threads, "python": platform.python_version(), **packages}


def _processor() -> str:
    """Return the processor's model, and the widest instructions that it has."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    pairs = dict(line.split(":", 1) for line in reversed(lines) if ":" in line)
    fields = {key.strip(): value.strip() for key, value in pairs.items()}
    wide = [flag for flag in ("avx2", "avx512f", "amx_tile") if flag in fields.get("flags", "").split()]
    named = (fields.get(key, "") for key in ("model name", "cpu family", "model", "stepping"))
    return " ".join([*named, *wide])


def folders_differ(golden: Path, got: Path, *, scenes: Sequence[str] | None = None) -> list[str]:
    """Return a line for each difference of two folders of goldens, of these scenes or of all; empty where equal."""
    same = _read(golden / "environment.json") == _read(got / "environment.json")
    found: list[str] = []
    for name in _files(golden, got, scenes):
        here, there = golden / name, got / name
        if not (here.is_file() and there.is_file()):
            found.append(f"{name}: {'only in the golden' if here.is_file() else 'not in the golden'}")
        elif here.suffix == ".json":
            found += [f"{name}: {line}" for line in differences(_read(here), _read(there), same_machine=same)]
        else:
            texts = (side.read_text(encoding="utf-8") for side in (here, there))
            found += texts_differ(name, *(texts if same else map(elsewhere, texts)))
    return found


def _files(golden: Path, got: Path, scenes: Sequence[str] | None) -> list[str]:
    found = {
        str(path.relative_to(root)) for root in (golden, got) for kind in ("numbers", "words")
        for path in (root / kind).rglob("*") if path.is_file()
    }  # fmt: skip
    return sorted(name for name in found if scenes is None or Path(name).parts[1].removesuffix(".json") in scenes)


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def differences(golden: Any, got: Any, *, same_machine: bool, path: str = "") -> Iterator[str]:
    """Yield ``path: golden …, got …`` for each leaf of two trees that differs."""
    key = path.rpartition("/")[2]
    if key == "warnings":
        yield from warnings_differ(golden, got, path)
    elif not same_machine and (key in BY_MACHINE or (key == "hash" and NEAR_TIES.match(path))):
        return
    elif isinstance(golden, dict) and isinstance(got, dict):
        yield from _tables_differ(golden, got, same_machine=same_machine, path=path)
    elif isinstance(golden, list) and isinstance(got, list):
        if len(golden) != len(got):
            yield f"{path}: golden has {len(golden)} items, got {len(got)}: {_short(golden)}, got {_short(got)}"
            return
        for i, (left, right) in enumerate(zip(golden, got, strict=True)):
            yield from differences(left, right, same_machine=same_machine, path=f"{path}[{i}]")
    elif not _equal(golden, got, same_machine=same_machine, of_floats=key == "sum" or "CLIPScore" in path):
        yield f"{path}: golden {_short(golden)}, got {_short(got)}"


def _tables_differ(golden: dict[str, Any], got: dict[str, Any], *, same_machine: bool, path: str) -> Iterator[str]:
    floats = "float" in str(golden.get("family", ""))
    if not same_machine and "CLIPScore" in str(golden.get("metric", "")):  # its test draws signs of last bits
        golden, got = ({key: side[key] for key in side if key != "difference_p_value"} for side in (golden, got))
        path = f"{path} of CLIPScore"
    for key in dict.fromkeys([*golden, *got]):
        below = f"{path}/{key}" if path else key
        if key not in got:
            yield f"{below}: golden {_short(golden[key])}, got nothing"
        elif key not in golden:
            yield f"{below}: not in the golden, got {_short(got[key])}"
        elif not (floats and key == "rounded" and not same_machine):
            yield from differences(golden[key], got[key], same_machine=same_machine, path=below)


def _equal(golden: Any, got: Any, *, same_machine: bool, of_floats: bool) -> bool:
    """Numbers may be off by 1e-12: two processors of one model can round the last bit differently."""
    if type(golden) is not type(got):
        return False
    if isinstance(golden, float) and of_floats and not same_machine:
        return math.isclose(golden, got, rel_tol=ELSEWHERE, abs_tol=ELSEWHERE)
    if isinstance(golden, float):
        return math.isclose(golden, got, rel_tol=RELATIVE, abs_tol=RELATIVE)
    return bool(golden == got)


def warnings_differ(golden: Any, got: Any, path: str) -> Iterator[str]:
    """Compare a Record's warnings, now by their texts. The one place that changes when they have codes."""
    for i in range(max(len(golden), len(got))):
        pair = [repr(side[i]) if i < len(side) else "nothing" for side in (golden, got)]
        if pair[0] != pair[1]:
            yield f"{path}[{i}]: golden {pair[0]}, got {pair[1]}"


def elsewhere(text: str) -> str:
    """Return what words say on every machine: numbers of four digits, and no widths of columns, which follow names."""
    lines = (line for line in text.splitlines() if MACHINES_NOTE not in line)
    return "\n".join(_LONG_NUMBER.sub(lambda found: f"{float(found[0]):.4g}", _GAP.sub("  ", line)) for line in lines)


_GAP = re.compile(r" {2,}")
_LONG_NUMBER = re.compile(r"(?<![\w.])\d+\.\d+(?![\w.])")


def texts_differ(name: str, golden: str, got: str, most: int = 60) -> list[str]:
    """Return ``name:line: golden '…', got '…'`` for each line that differs, at most so many."""
    left, right = golden.splitlines(), got.splitlines()
    found: list[str] = []
    for tag, a, b, c, d in difflib.SequenceMatcher(None, left, right, autojunk=False).get_opcodes():
        if tag != "equal":
            for k in range(max(b - a, d - c)):
                old = repr(left[a + k]) if a + k < b else "nothing"
                new = repr(right[c + k]) if c + k < d else "nothing"
                found.append(f"{name}:{a + k + 1}: golden {old}, got {new}")
    return found if len(found) <= most else [*found[:most], f"{name}: and {len(found) - most} more lines"]


def _short(value: Any, most: int = 160) -> str:
    text = json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else repr(value)
    return text if len(text) <= most else f"{text[:most]} …"
