"""Captions and references in files: dictionaries by id, COCO's result and annotation files, or a Record's samples.

Candidates: ``{id: caption}``, ``{id: [caption]}`` or ``[{"image_id": id, "caption": caption}, …]``.
References: ``{id: [caption, …]}``, such a list with several rows per id, or ``{"annotations": [such rows]}``.
A Record (or its .samples.parquet) holds both.
Ids are compared as text: 42 and "42" are the same.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from cocabench.core.errors import DataError, MissingDataError, UsageError, unreadable
from cocabench.core.files import open_regular, parse_json, read_parquet, read_text
from cocabench.core.text import well_formed
from cocabench.results.store import is_record, read_record, read_samples

CANDIDATES = '{id: caption} or [{"image_id": id, "caption": caption}, …]'
REFERENCES = '{id: [captions]} or {"annotations": [{"image_id": id, "caption": caption}, …]}'


class Pairs(NamedTuple):
    """For every candidate its id, the caption, and the references, in the candidates' order.

    replaced: in how many ids and texts � stands for what is no character.
    missing: the ids that have references and no candidate.
    """

    ids: list[str]
    candidates: list[str]
    references: list[list[str]]
    missing: tuple[str, ...] = ()
    replaced: int = 0


def read_pairs(candidates: Path, references: Path | None = None) -> Pairs:
    """Read both files. Ids with references alone are ``missing``; a candidate without references is an error.

    If references is None, candidates must be a Record of a captioning task, which holds them.
    """
    samples = _samples(candidates)
    if samples is not None and references is None:
        groups = [list(group) for group in samples["references"]]
        return Pairs([str(key) for key in samples["image_id"]], list(samples["caption"]), groups)
    if references is None:
        raise UsageError("--references", "missing", wanted=f"{REFERENCES}; only a Record brings its own")
    if samples is None:
        mine = _by_id(candidates, CANDIDATES)
    else:
        mine = {str(key): [caption] for key, caption in zip(samples["image_id"], samples["caption"], strict=True)}
    theirs = _by_id(references, REFERENCES)
    for key, captions in mine.items():
        if len(captions) != 1:
            raise DataError(str(candidates), f"{len(captions)} captions for id {key}", wanted="one")
    if lost := [key for key in mine if not theirs.get(key)]:
        got = f"no references for {len(lost)} of {len(mine)} ids in {candidates.name}, the first is {lost[0]}"
        raise DataError(str(references), got)
    pairs = Pairs(list(mine), [captions[0] for captions in mine.values()], [theirs[key] for key in mine])
    used = [*pairs.ids, *pairs.candidates, *(text for group in pairs.references for text in group)]
    missing = tuple(key for key in theirs if key not in mine)
    return pairs._replace(missing=missing, replaced=sum("�" in text for text in used))


def _samples(path: Path) -> pd.DataFrame | None:
    """Return the samples of a Record or of a samples file; None if path is neither."""
    if path.suffix == ".parquet":
        found = _parquet(path)
    elif is_record(path) and path.is_file():
        found = read_samples(path, read_record(path))
    else:
        return None
    if lost := {"image_id", "caption", "references"} - set(found.columns):
        raise DataError(str(path), f"samples without {', '.join(sorted(lost))}", wanted="those of a captioning task")
    return found


def _parquet(path: Path) -> pd.DataFrame:
    try:
        with open_regular(path) as file:
            found: pd.DataFrame = read_parquet(file, path).to_pandas()
            return found
    except FileNotFoundError:
        raise MissingDataError(str(path), "no such file", wanted="the samples of a Record") from None
    except (OSError, ValueError) as error:
        raise DataError(str(path), f"not readable as parquet ({str(error).splitlines()[0]})") from None


def _by_id(path: Path, wanted: str) -> dict[str, list[str]]:
    content = _load(path, wanted)
    if isinstance(content, dict) and isinstance(content.get("annotations"), list):
        content = content["annotations"]
    if not isinstance(content, dict | list):
        raise DataError(str(path), f"a {type(content).__name__}", wanted=wanted)
    if not content:
        raise DataError(str(path), "empty", wanted=wanted)
    return _from_rows(path, content, wanted) if isinstance(content, list) else _from_table(path, content, wanted)


def _load(path: Path, wanted: str) -> object:
    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        if len(table := dict(pairs)) < len(pairs):
            twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
            raise DataError(str(path), f"key {twice!r} occurs twice")
        return table

    try:
        return parse_json(read_text(path, "utf-8-sig"), unique)
    except FileNotFoundError:
        raise MissingDataError(str(path), "no such file", wanted=wanted) from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DataError(str(path), unreadable(error), wanted=wanted) from None


def _from_rows(path: Path, rows: list[object], wanted: str) -> dict[str, list[str]]:
    table: dict[str, list[str]] = {}
    for number, row in enumerate(rows):
        key = row.get("image_id") if isinstance(row, dict) else None
        caption = row.get("caption") if isinstance(row, dict) else None
        if not isinstance(key, str | int) or isinstance(key, bool) or not isinstance(caption, str):
            raise DataError(str(path), f"row {number} is {json.dumps(row)[:80]}", wanted=wanted)
        table.setdefault(well_formed(str(key)), []).append(well_formed(caption))
    return table


def _from_table(path: Path, content: dict[str, object], wanted: str) -> dict[str, list[str]]:
    table = {}
    for key, value in content.items():
        captions = [value] if isinstance(value, str) else value
        if not isinstance(captions, list) or not all(isinstance(caption, str) for caption in captions):
            raise DataError(str(path), f"id {key} has {json.dumps(value)[:80]}", wanted=wanted)
        if (name := well_formed(key)) in table:
            raise DataError(str(path), f"two ids are {name!r}, without what is no character", wanted="ids that differ")
        table[name] = [well_formed(caption) for caption in captions]
    return table
