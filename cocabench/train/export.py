"""Training files from any data set: a table with a row per caption, or webdataset shards with a sample per caption."""

from __future__ import annotations

import csv
import io
import json
import random
import shutil
import tarfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple, cast

from pydantic import BaseModel, ValidationError

from cocabench.core.errors import DataError, UsageError
from cocabench.core.signature import digest
from cocabench.core.types import Dataset, Example, Progress, silent
from cocabench.data.base import fingerprint
from cocabench.data.images import FileImage
from cocabench.results.store import write_atomically
from cocabench.specs.registry import Loader, entry
from cocabench.specs.spec import problems
from cocabench.train.pictures import encoded, extracted

IMAGE_KEY, CAPTION_KEY = "filepath", "title"
"""open_clip_train's own names of the columns."""

_MISSING = frozenset({
    "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA", "NULL",
    "NaN", "None", "n/a", "nan", "null",
})  # fmt: skip
"""What pandas.read_csv takes for a missing value (its documentation, na_values)."""


class Written(NamedTuple):
    """What an export wrote: images and captions, and the shards (0 for a table)."""

    images: int
    captions: int
    shards: int = 0


def build(loader: str, keys: Mapping[str, str], root: Path, *, download: bool = False) -> Dataset:
    """Return the data set that a loader makes of its keys, which are those of a task's [data] table.

    Values are text, as flags give them. UsageError names unknown keys, with the closest ones, and wrong values.
    """
    kind = cast(type[BaseModel], entry("datasets", loader))
    try:
        made = cast(Loader, kind.model_validate(dict(keys)))
    except ValidationError as error:
        fields = [_flag(name) for name in sorted(kind.model_fields)]
        found = (line.partition(":") for line in problems(error, fields, "--"))
        raise UsageError(
            f"--from {loader}", "; ".join(_flag(key) + colon + said for key, colon, said in found)
        ) from None
    dataset = made.build(root.expanduser().resolve(), download=download)
    if bare := [example.id for example in dataset.examples if not example.texts]:
        got = f"{len(bare)} of {len(dataset)} images have no caption (first: {bare[0]})"
        raise DataError(dataset.name, got, fix="training needs captions: choose another split or loader")
    return dataset


def _flag(key: str) -> str:
    return key.replace("_", "-")


def write_table(dataset: Dataset, path: Path, *, images: Path | None = None, progress: Progress = silent) -> Written:
    """Write filepath and title, a row per caption; tabs between them where path ends with .tsv, else commas.

    Paths are absolute. Images that are no files of their own (in archives, cropped, drawn on white) go into the folder
    images; UsageError where there are some and none is given. The table appears whole or not at all.
    """
    packed = [example for example in dataset.examples if not isinstance(example.image, FileImage)]
    if packed and images is None:
        got = f"{len(packed)} of {len(dataset)} images are no files of their own (first: {packed[0].image})"
        raise UsageError(str(path), got, fix="--images DIR extracts them, or write shards: cocabench data webdataset")
    rows = []
    for done, example in enumerate(dataset.examples, start=1):
        file = _file(example, images)
        rows += [(file, _read_back(text)) for text in example.texts]
        progress("images", done, len(dataset))
    text = io.StringIO()
    writer = csv.writer(text, delimiter="\t" if path.suffix == ".tsv" else ",", lineterminator="\n")
    writer.writerows([(IMAGE_KEY, CAPTION_KEY), *rows])
    write_atomically(path, lambda temporary: temporary.write_text(text.getvalue(), encoding="utf-8"))
    return Written(len(dataset), len(rows))


def _file(example: Example, images: Path | None) -> str:
    if isinstance(example.image, FileImage):
        return str(example.image.path.absolute())
    assert images, "checked before"
    return str(extracted(example, images).absolute())


def _read_back(text: str) -> str:
    """Add a space to a caption such as "None", which the trainer would read as missing and train on as "nan"."""
    return f"{text} " if text in _MISSING else text


def write_shards(
    dataset: Dataset, folder: Path, *, samples: int = 10_000, seed: int = 0, progress: Progress = silent
) -> Written:
    """Write folder/000000.tar … and sizes.json, which tells open_clip_train how many samples there are.

    Each caption is a sample with its image. Samples are shuffled, because the trainer draws from a buffer of a few
    thousand neighbours and captions of one image would be each other's negatives. The folder appears when it is whole;
    until then it is FOLDER.partial, in which an interrupted export goes on.
    """
    if folder.exists():
        raise UsageError(str(folder), "is there already", fix="choose another --output, or remove it")
    pairs = [(i, text) for i, example in enumerate(dataset.examples) for text in example.texts]
    random.Random(seed).shuffle(pairs)
    parts = [pairs[start : start + samples] for start in range(0, len(pairs), samples)]
    partial_folder = _started(folder, digest(fingerprint(dataset), samples, seed))
    sizes = {}
    for number, part in enumerate(parts):
        name = f"{number:06}.tar"
        sizes[name] = len(part)
        if not (partial_folder / name).exists():
            write_atomically(partial_folder / name, partial(_write_shard, dataset, part, number * samples))
        progress("shards", number + 1, len(parts))
    write_atomically(partial_folder / "sizes.json", lambda path: path.write_text(json.dumps(sizes)))
    (partial_folder / ".plan").unlink()
    partial_folder.rename(folder)
    return Written(len(dataset), len(pairs), len(parts))


def _started(folder: Path, plan: str) -> Path:
    """Return the folder of an export under way, emptied where it is of other data or settings."""
    partial_folder = folder.with_name(f"{folder.name}.partial")
    note = partial_folder / ".plan"
    if partial_folder.exists() and not (note.is_file() and note.read_text() == plan):
        shutil.rmtree(partial_folder)
    write_atomically(note, lambda path: path.write_text(plan))
    return partial_folder


def _write_shard(dataset: Dataset, pairs: Sequence[tuple[int, str]], first: int, path: Path) -> None:
    with tarfile.open(path, "w") as tar:
        for number, (index, text) in enumerate(pairs, start=first):
            image = encoded(dataset.examples[index].image)
            _add(tar, f"{number:09}.{image.suffix}", image.content)
            _add(tar, f"{number:09}.txt", text.encode())


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))
