"""Training data: written from any data set as tables or shards, and checked as open_clip's trainer will find them."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import random
import re
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple, cast

import braceexpand
from PIL import UnidentifiedImageError
from pydantic import BaseModel, ValidationError

from cocabench.core.errors import BadImageError, DataError, MissingDataError, UsageError, unreadable
from cocabench.core.files import ROWS, parse_json
from cocabench.core.signature import digest
from cocabench.core.types import Dataset, Example, ImageSource, Progress, silent
from cocabench.data import fetch
from cocabench.data.base import fingerprint, readable
from cocabench.data.files import absent, read_text, some
from cocabench.data.images import BytesImage, FileImage, TarImage, UnconvertedImage, eight_bit, identity, opened
from cocabench.data.questions import TEMPLATE, answered
from cocabench.data.remote import url_of
from cocabench.results.store import slug, write_atomically
from cocabench.specs.registry import Loader, entry
from cocabench.specs.spec import problems

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


def build(
    loader: str, keys: Mapping[str, str], root: Path, *, template: str | None = None, download: bool = False
) -> Dataset:
    """Return the data set that a loader makes of its keys, which are those of a task's [data] table.

    Values are text, as flags give them. UsageError names unknown keys, with the closest ones, and wrong values.
    Captions of questions are the questions with their answers, by the template (None: of tasks; ``answered``).
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
    if download or url_of(root):
        fetch.ensure(made, root)
    dataset = readable(made.build(fetch.root_of(root), download=download))
    try:
        made_of = [
            replace(example, texts=answered(example, template or TEMPLATE) or example.texts)
            for example in dataset.examples
        ]
    except ValueError as error:
        raise UsageError("--template", str(error)) from None
    dataset = replace(dataset, examples=made_of)
    if bare := [example.id for example in dataset.examples if not example.texts]:
        got = f"{len(bare)} of {len(dataset)} images have no caption (first: {bare[0]})"
        raise DataError(dataset.name, got, fix="training needs captions: choose another split or loader")
    return replace(dataset, examples=[replace(e, image=_in_its_file(e.image)) for e in dataset.examples])


def _in_its_file(image: ImageSource) -> ImageSource:
    return image.source if isinstance(image, UnconvertedImage) else image


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
    until then it is FOLDER.partial, in which an interrupted export continues.
    """
    if folder.exists():
        raise UsageError(str(folder), "already exists", fix="choose another --output, or remove it")
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
    """Return the folder of an export under way, emptied where it is of other data or settings.

    UsageError where it holds what no export wrote.
    """
    partial_folder = folder.with_name(f"{folder.name}.partial")
    note = partial_folder / ".plan"
    held = {path.name for path in partial_folder.iterdir()} if partial_folder.is_dir() else set()
    ours = {name for name in held if re.fullmatch(r"\d{6,}\.tar|sizes\.json|\.plan|\.[\w.]+\.[0-9a-f]{16}", name)}
    if held - ours or (held and not note.is_file()) or (partial_folder.exists() and not partial_folder.is_dir()):
        fix = "move it away, or choose another --output"
        raise UsageError(str(partial_folder), "in the way, and no unfinished export", fix=fix)
    if held and note.read_text() != plan:
        for name in ours:
            (partial_folder / name).unlink()
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


_SUFFIX = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp"}
"""The formats that open_clip_train takes from shards; others become PNG, which loses nothing."""


class Encoded(NamedTuple):
    """An encoded image: its bytes and the suffix of its format, without a dot."""

    content: bytes
    suffix: str


def encoded(source: ImageSource) -> Encoded:
    """Return an image's own bytes where they are a JPEG, PNG or WebP file, else a PNG of what the source shows."""
    content = source.identity() if isinstance(source, (FileImage, TarImage, BytesImage)) else None
    try:
        found = _SUFFIX.get(opened(io.BytesIO(content), source).format or "") if content else None
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError):
        raise BadImageError(str(source), "not an image", fix="remove it from the data set") from None
    if content and found:
        return Encoded(content, found)
    file = io.BytesIO()
    image = eight_bit(source.open())
    (image if image.mode in ("L", "RGB", "RGBA") else image.convert("RGB")).save(file, "PNG")
    return Encoded(file.getvalue(), "png")


def extracted(example: Example, folder: Path) -> Path:
    """Return the file of an example's image below folder, written unless it exists.

    Its name ends with a hash of the image, so that no two images share one, whatever their ids are.
    """
    stem = folder / f"{slug(example.id)[:80]}-{hashlib.sha256(identity(example.image)).hexdigest()[:16]}"
    for suffix in _SUFFIX.values():
        if (path := stem.with_name(f"{stem.name}.{suffix}")).is_file():
            return path
    image = encoded(example.image)
    path = stem.with_name(f"{stem.name}.{image.suffix}")
    write_atomically(path, lambda temporary: temporary.write_bytes(image.content))
    return path


MAKE = "`cocabench data csv` or `cocabench data webdataset` writes them"


@dataclass(frozen=True)
class Inputs:
    """What is trained on. flags: for the trainer; samples: captions an epoch, 0 if unknown."""

    flags: dict[str, Any]
    samples: int
    shards: int = 0


def inputs(flags: Mapping[str, Any], answers_after: str = "") -> Inputs:
    """Return the data that a recipe's train_data names: a table, a folder of shards, or shards in open_clip's notation.

    MissingDataError for what is not there, DataError for tables without the columns, or with a caption that lacks
    answers_after.
    """
    named = flags.get("train_data")
    if flags.get("dataset_type") == "synthetic":
        return Inputs({}, int(flags.get("train_num_samples") or 0))
    if not named:
        raise UsageError("train_data", "no training data named", fix=f"--set train_data=FILE or FOLDER; {MAKE}")
    if Path(named).is_dir():
        return _shards([str(path) for path in sorted(Path(named).absolute().glob("*.tar"))], named, flags)
    if named.endswith((".csv", ".tsv")) and flags.get("dataset_type", "auto") in ("auto", "csv"):
        return _table(Path(named), flags, answers_after)
    return _shards(_expanded(named), named, flags)


def check_sources(flags: Mapping[str, Any], *, allow_pipe: bool = False) -> None:
    """Raise UsageError where webdataset would run a shell command that a recipe names, unless it is allowed, and for a
    teacher whose config nobody has checked.

    Addresses (https://…, gs://…) are handed to a shell too, between single quotes.
    """
    for key in ("train_data", "val_data"):
        for source in _expanded(str(flags.get(key) or "")):
            scheme = source.strip().partition(":")[0].lower()
            if scheme == "pipe" and not allow_pipe:
                got, fix = f"{source[:80]!r} runs a command", "--allow-pipe, if you trust the recipe"
                raise UsageError(f"trainer.{key}", got, fix=fix)
            if scheme != "pipe" and ":" in source and "'" in source:
                raise UsageError(f"trainer.{key}", f"{source[:80]!r} holds a quote", wanted="an address without one")
    if ":" in (teacher := str(flags.get("distill_model") or "")):
        raise UsageError("trainer.distill_model", teacher[:80], wanted="the name of one of open_clip's architectures")


def _expanded(named: str) -> list[str]:
    """Return the shards that open_clip's notation names: braces expand, ``::`` separates."""
    groups = re.findall(r"\{([^{}]*)\}", named)
    ROWS.check(math.prod(map(_choices, groups)), named[:80])
    try:
        return [one for part in named.split("::") for one in braceexpand.braceexpand(part)]
    except ValueError:
        raise UsageError(named[:80], "unbalanced braces", wanted="{000..099}, or none") from None


def _choices(group: str) -> int:
    """Return how many texts a group in braces stands for: ``1..9``, ``a,b``."""
    bounds = re.fullmatch(r"(-?\d+)\.\.(-?\d+)(\.\.-?\d+)?", group)
    return abs(int(bounds[2]) - int(bounds[1])) + 1 if bounds and len(group) < 100 else group.count(",") + 1


def _table(file: Path, flags: Mapping[str, Any], answers_after: str) -> Inputs:
    if not file.is_file():
        raise MissingDataError(str(file), "no such file", fix=MAKE)
    text = read_text(file)
    separator = flags.get("csv_separator") or ("\t" if "\t" in text.partition("\n")[0] else ",")
    try:
        rows = list(csv.DictReader(io.StringIO(text, newline=""), delimiter=separator))
    except csv.Error as error:
        raise DataError(str(file), f"not a table ({error})") from None
    keys = [flags.get("csv_img_key", "filepath"), flags.get("csv_caption_key", "title")]
    if not rows or any(key not in rows[0] for key in keys):
        raise DataError(str(file), f"columns {some(map(repr, rows[0] if rows else []), 8)}", wanted=" and ".join(keys))
    if lost := absent([Path(path).absolute() for path in dict.fromkeys(row[keys[0]] for row in rows)]):
        raise MissingDataError(str(file), f"{len(lost)} of its images are not there (first: {lost[0]})", fix=MAKE)
    if bare := [number for number, row in enumerate(rows, 1) if answers_after not in (row[keys[1]] or "")]:
        got = f"{len(bare)} of {len(rows)} captions without {answers_after!r} (first: row {bare[0]})"
        raise DataError(
            str(file), got, wanted="answers after it", fix="--set answers_after=WORDS, as the template ends"
        )
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
    joined = _joined(shards)
    if _expanded(joined) != shards:
        got = f"a shard whose path holds {{, }} or ::, which separate shards (first: {shards[0]})"
        raise UsageError(named, got, fix="rename the folder or the shards")
    return Inputs({"train_data": joined, "dataset_type": "webdataset"}, int(samples), len(shards))


def _counted(shards: list[str]) -> int:
    """Return the samples that sizes.json counts, 0 without one."""
    file = Path(shards[0]).parent / "sizes.json"
    if not file.is_file():
        return 0
    try:
        sizes = parse_json(read_text(file))
        return sum(int(sizes[Path(shard).name]) for shard in shards)
    except (OSError, ValueError, TypeError, KeyError) as error:
        got = unreadable(error) if isinstance(error, OSError | ValueError) else "not {shard: samples} of these shards"
        raise DataError(str(file), got, fix="--set train_num_samples=N says how many samples there are") from None


def _joined(shards: list[str]) -> str:
    """Return shards in brace notation where they are numbered without a gap, else with open_clip's ``::``."""
    first, last = (re.fullmatch(r"(.*?)(\d+)(\.tar)", shard) for shard in (shards[0], shards[-1]))
    if first and last and len(shards) > 1:
        braced = f"{first[1]}{{{first[2]}..{last[2]}}}{first[3]}"
        if list(braceexpand.braceexpand(braced)) == shards:
            return braced
    return "::".join(shards)
