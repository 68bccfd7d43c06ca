"""Find the image file of each id in a folder, however the data set names its files."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from cocabench.core.errors import DataError, MissingDataError
from cocabench.data.files import images_below, read_json, some
from cocabench.data.images import FileImage


def images_of(ids: Sequence[str], folder: Path, *, names: Mapping[str, str] | None = None) -> list[FileImage]:
    """Return the image of every id: the file that names says, else the one whose name is the id.

    A name is the path below folder, the file name, the same without its ending, or, of COCO's
    (COCO_val2014_000000391895.jpg), the number at its end. DataError where an id has no file or several.
    """
    if not folder.is_dir():
        raise MissingDataError(str(folder), "no such folder", wanted="the images of the captions")
    by_name, by_number = _index(images_below(folder))
    wanted = [(names or {}).get(key, key) for key in ids]
    found = [by_name.get(name) or by_number.get(name, []) for name in wanted]
    if lost := [key for key, paths in zip(ids, found, strict=True) if not paths]:
        raise DataError(str(folder), f"no image for {len(lost)} of {len(ids)} ids: {some(lost)}")
    if double := [some(paths) for paths in found if len(paths) > 1]:
        raise DataError(str(folder), f"{len(double)} ids have several images: {double[0]}")
    return [FileImage(folder / paths[0]) for paths in found]


def file_names(annotations: Path) -> dict[str, str]:
    """Return {image id: file name} where a file of references lists its images as COCO's do; else nothing."""
    content = read_json(annotations) if annotations.suffix == ".json" else None
    rows = content.get("images") if isinstance(content, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        return {}
    return {str(row["id"]): Path(row["file_name"]).name for row in rows if {"id", "file_name"} <= row.keys()}


Index = Mapping[str, list[PurePosixPath]]


def _index(paths: Iterable[PurePosixPath]) -> tuple[Index, Index]:
    """Return the paths by their names, and by the number at the end of their names."""
    by_name: dict[str, list[PurePosixPath]] = defaultdict(list)
    by_number: dict[str, list[PurePosixPath]] = defaultdict(list)
    for path in paths:
        for name in {str(path), path.name, path.stem}:
            by_name[name].append(path)
        if number := re.search(r"_0*(\d+)$", path.stem):
            by_number[number[1]].append(path)
    return by_name, by_number
