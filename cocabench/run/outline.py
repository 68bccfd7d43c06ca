"""What a plan says of a task's data, kept between runs as long as no file that it was read from changes.

Only what cocabench's own loaders and kinds look at is known (``data.inputs``): the data of plugins are read each time,
and so are those that clip-benchmark's own classes read.
"""

from __future__ import annotations

import json
import os
import sysconfig
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cache as cached
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

from pydantic import BaseModel, JsonValue

from cocabench.core import __version__
from cocabench.core.cache import key_of
from cocabench.core.files import MEMBER_BYTES, PIXELS, ROWS
from cocabench.core.types import Cache, ImageSource, Machine, Note
from cocabench.data.images import file_of
from cocabench.data.inputs import Inputs, noted, stamp
from cocabench.specs.registry import Task

PACKAGE = Path(__file__).parents[1]
OUTLINES = "outlines of data sets 1"
"""The cache space; keys are from ``key``."""


class Named(NamedTuple):
    """A metric: its name with and without a domain, the key of the extra model that it needs, its version."""

    name: str
    plain: str
    model: str
    version: int


@dataclass(frozen=True)
class Outline:
    """What a plan says of a task's data. Plain values.

    protocol: the protocol part of the signature, without extra models. notes: deviations from the standard protocol.
    said: all that a run will say of the data. work: estimated numbers of images, texts and captions. images: how many
    are the task's own, which come before those of further splits. image_files: ``contents.hash_of_marks`` of all.
    folders: in which they lie. varying: the parts of the protocol that name the machine.
    """

    protocol: dict[str, JsonValue]
    notes: tuple[Note, ...]
    said: tuple[Note, ...]
    metrics: tuple[Named, ...]
    work: dict[str, int]
    images: int
    image_files: str
    folders: tuple[str, ...]
    varying: tuple[str, ...] = ()

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def of(cls, table: dict[str, Any]) -> Outline:
        """Return the Outline of the parsed ``to_json``."""
        notes, said = (tuple(Note(*pair) for pair in table[key]) for key in ("notes", "said"))
        folders, varying = (tuple(table[key]) for key in ("folders", "varying"))
        metrics = tuple(Named(*row) for row in table["metrics"])
        return cls(**table | {"notes": notes, "said": said, "metrics": metrics, "folders": folders, "varying": varying})


T = TypeVar("T")
Read = Callable[[], tuple[Outline, Sequence[ImageSource], T]]
"""Reads the data: returns the Outline, all images, and the data themselves."""


def key(task: Task, root: Path, machine: Machine, *rest: JsonValue) -> bytes | None:
    """Return what an Outline depends on besides the files of the data; None if that is not known.

    rest: what else is done to the data. The code counts by cocabench's files, packages by the folder that holds them.
    """
    if not (_ours(task.kind) and _ours(task.loader)):
        return None
    parts: list[JsonValue] = [
        task.spec.model_dump(mode="json"),
        [_described(task.kind), _described(task.loader)],
        [str(root), os.getcwd()],
        machine.device,
        [limit.most for limit in (PIXELS, MEMBER_BYTES, ROWS)],
        [__version__, _code(), _packages()],
        *rest,
    ]
    return key_of(json.dumps(parts, sort_keys=True))


def recalled(cache: Cache, key: bytes, read: Read[T]) -> tuple[Outline, T | None]:
    """Return the Outline that is kept, if none of its inputs changed; else read the data and keep their Outline."""
    for content in cache.get(OUTLINES, [key]).values():
        kept = json.loads(content)
        inputs = Inputs(**{name: set(paths) for name, paths in kept["inputs"].items()})
        if stamp(inputs) == kept["stamp"]:
            return Outline.of(kept["outline"]), None
    return read_and_keep(cache, key, read)


def read_and_keep(cache: Cache, key: bytes, read: Read[T]) -> tuple[Outline, T]:
    """Read the data, and keep their Outline if all that was looked at is known and settled, and no machine in it."""
    start = time.time()
    with noted() as inputs:
        outline, images, data = read()
    if (
        not (inputs.beyond or outline.varying)
        and _add_files(inputs, images)
        and (found := stamp(inputs, read_at=start))
    ):
        paths = {name: sorted(paths) for name, paths in vars(inputs).items()}
        content = json.dumps({"inputs": paths, "stamp": found, "outline": asdict(outline)})
        cache.put(OUTLINES, {key: content.encode()}, label="outlines of data sets")
    return outline, data


def _add_files(inputs: Inputs, images: Iterable[ImageSource]) -> bool:
    """Add the files of images to the inputs that do not cover them; return whether all are known."""
    for image in images:
        if (file := file_of(image)) is None:
            return False
        if file and not inputs.covers(file):
            inputs.files.add(file)
    return True


def _ours(part: object) -> bool:
    return type(part).__module__.startswith("cocabench.")


def _described(part: object) -> list[JsonValue]:
    kind = type(part)
    return [kind.__module__, kind.__qualname__, cast(BaseModel, part).model_dump(mode="json")]


@cached
def _code() -> str:
    """Return a stamp of the files of the package, among them lists of class names and the demo's images."""
    found = Inputs()
    for folder, below, files in os.walk(PACKAGE):
        below[:] = [name for name in below if name != "__pycache__"]
        found.files.update(os.path.join(folder, name) for name in files)
    return stamp(found)


def _packages() -> list[JsonValue]:
    """Return when packages were last installed or removed."""
    folders = {sysconfig.get_path(name) for name in ("purelib", "platlib")}
    return [[folder, os.stat(folder).st_mtime_ns] for folder in sorted(folders) if os.path.isdir(folder)]
