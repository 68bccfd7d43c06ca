"""Training data as open_clip's trainer will find them: counted and checked before it starts."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import braceexpand

from cocabench.core.errors import DataError, MissingDataError, UsageError
from cocabench.data.files import absent, read_text, some

MAKE = "`cocabench data csv` or `cocabench data webdataset` writes them"


@dataclass(frozen=True)
class Inputs:
    """What is trained on. flags: what the trainer must be told; samples: captions an epoch, 0 where unknown."""

    flags: dict[str, Any]
    samples: int
    shards: int = 0


def inputs(flags: Mapping[str, Any]) -> Inputs:
    """Return the data that a recipe's train_data names: a table, a folder of shards, or shards in open_clip's notation.

    MissingDataError for what is not there, DataError for tables without the columns or captions.
    """
    named = flags.get("train_data")
    if flags.get("dataset_type") == "synthetic":
        return Inputs({}, int(flags.get("train_num_samples") or 0))
    if not named:
        raise UsageError("train_data", "no training data named", fix=f"--set train_data=FILE or FOLDER; {MAKE}")
    if Path(named).is_dir():
        return _shards([str(path) for path in sorted(Path(named).glob("*.tar"))], named, flags)
    if named.endswith((".csv", ".tsv")) and flags.get("dataset_type", "auto") in ("auto", "csv"):
        return _table(Path(named), flags)
    return _shards([one for part in named.split("::") for one in braceexpand.braceexpand(part)], named, flags)


def _table(file: Path, flags: Mapping[str, Any]) -> Inputs:
    if not file.is_file():
        raise MissingDataError(str(file), "no such file", fix=MAKE)
    text = read_text(file)
    separator = flags.get("csv_separator") or ("\t" if "\t" in text.partition("\n")[0] else ",")
    rows = list(csv.DictReader(io.StringIO(text, newline=""), delimiter=separator))
    keys = [flags.get("csv_img_key", "filepath"), flags.get("csv_caption_key", "title")]
    if not rows or any(key not in rows[0] for key in keys):
        raise DataError(str(file), f"columns {some(map(repr, rows[0] if rows else []), 8)}", wanted=" and ".join(keys))
    if lost := absent([Path(path).absolute() for path in dict.fromkeys(row[keys[0]] for row in rows)]):
        raise MissingDataError(str(file), f"{len(lost)} of its images are not there (first: {lost[0]})", fix=MAKE)
    return Inputs({"train_data": str(file), "csv_separator": separator}, len(rows))


def _shards(shards: list[str], named: str, flags: Mapping[str, Any]) -> Inputs:
    if not shards:
        raise MissingDataError(named, "no .tar shards in it", fix=MAKE)
    here = [Path(shard).absolute() for shard in shards if "://" not in shard and not shard.startswith("pipe:")]
    if lost := absent(here):
        got = f"{len(lost)} of {len(shards)} shards missing: {some(map(str, lost))}"
        raise MissingDataError(named, got, fix=MAKE)
    version = metadata.version("webdataset")
    if tuple(map(int, re.findall(r"\d+", version)[:3])) > (0, 2, 86):
        got = f"webdataset {version}, which open_clip's trainer cannot read shards with"
        raise UsageError(
            named, got, wanted="0.2.86 at most", fix="pip install 'cocabench[train]', or train from a table"
        )
    samples = flags.get("train_num_samples") or _counted(shards)
    if not samples:
        got = "no sizes.json beside the shards"
        raise UsageError(named, got, fix="--set train_num_samples=N says how many samples there are")
    return Inputs({"train_data": _joined(shards), "dataset_type": "webdataset"}, int(samples), len(shards))


def _counted(shards: list[str]) -> int:
    """Return the samples that sizes.json counts, 0 without one."""
    file = Path(shards[0]).parent / "sizes.json"
    if not file.is_file():
        return 0
    sizes = json.loads(file.read_text())
    return sum(int(sizes[Path(shard).name]) for shard in shards)


def _joined(shards: list[str]) -> str:
    """Return shards in brace notation where they are numbered without a gap, else with open_clip's ``::``."""
    first, last = (re.fullmatch(r"(.*?)(\d+)(\.tar)", shard) for shard in (shards[0], shards[-1]))
    if first and last and len(shards) > 1:
        braced = f"{first[1]}{{{first[2]}..{last[2]}}}{first[3]}"
        if list(braceexpand.braceexpand(braced)) == shards:
            return braced
    return "::".join(shards)
