"""What the loaders share: their folder, the checks of a data set, its fingerprint, and random subsets of it."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

from pydantic import JsonValue

from cocabench.core.errors import DataError, MissingDataError, UsageError
from cocabench.core.files import expanded
from cocabench.core.formatting import plural
from cocabench.core.signature import digest_lines
from cocabench.core.text import well_formed
from cocabench.core.types import Dataset, Example, Note
from cocabench.data.files import absent, folders_with, some
from cocabench.data.inputs import note_file
from cocabench.specs.spec import Spec

EVERYTHING = ("*", "*/*")


class Repository(NamedTuple):
    """A repository of data on the hub, or the address of a folder.

    revision: a commit, branch or tag, '' for the newest.

    folder: where its files lie below --data-root. patterns: of the files that are wanted; one without a / is of those
    at the top. below: the folder of the repository whose files these are. split: of the data.
    """

    name: str
    revision: str
    folder: str
    patterns: tuple[str, ...] = EVERYTHING
    below: str = ""
    split: str = ""


class LocalLoader(Spec):
    """A loader whose files lie below --data-root.

    path:   the data set's folder (or its file, for tables) below --data-root.
    source: where to get the data set, in words; part of the error if it is missing.
    hub:    the repository of the Hugging Face Hub whose files path holds: ORG/NAME, or ORG/NAME@REVISION.
    """

    path: str
    source: str = ""
    hub: str = ""

    @property
    def name(self) -> str:
        return Path(self.path).name

    def folder(self, root: Path) -> Path:
        """Return the absolute path of the data set's folder; MissingDataError if there is none."""
        folder = self.location(root)
        if not note_file(folder).is_dir():
            raise self.missing(folder, "no such folder")
        return folder

    def location(self, root: Path) -> Path:
        return (expanded(root) / self.path).absolute()

    def repository(self) -> Repository | None:
        """Return the repository that holds the data set; None if none is known."""
        name, _, revision = self.hub.partition("@")
        return Repository(name, revision, self.path) if name else None

    def served(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return the folders in which the data set may lie behind an address, and patterns of the files it needs."""
        return (self.path,), EVERYTHING

    @property
    def downloads(self) -> bool:
        """Whether ``build(download=True)`` fetches the data set in a way of its own."""
        return False

    def there(self, root: Path) -> bool:
        """Return whether there is a copy of the data set, whole or not."""
        return self.location(root).exists()

    def missing(self, where: Path, got: str, wanted: str = "") -> MissingDataError:
        """Return the error that says what is not there, how to point at it and where to get it."""
        fix = f"--data-root DIR or COCABENCH_DATA names the folder that holds {self.path}"
        return MissingDataError(str(where), got, wanted=wanted, fix=f"{fix} ({self.source})" if self.source else fix)

    def image_folder(self, folder: Path, first: str, images: str = "") -> tuple[Path, tuple[Note, ...]]:
        """Return the folder of the images: ``images`` below folder, else the one that holds the file ``first``.

        That is folder, or one at most two levels below it. The first of several is taken, and a note names the others.
        """
        if images:
            return folder / images, ()
        found = [place.relative_to(folder).as_posix() for place in folders_with(folder, first)]
        if not found:
            raise self.missing(folder, f"no image {first} there nor in its subfolders")
        said = f"{first} is in several folders; images were read from {found[0]}, not from {some(found[1:])}"
        notes = (Note("data", f"{said}: images = '…' in [data] chooses"),) if len(found) > 1 else ()
        return folder / found[0], notes

    def require(self, files: Sequence[Path | str]) -> None:
        """Raise MissingDataError naming the first few files that do not exist."""
        if lost := absent(files):
            names = some(path.name for path in lost)
            raise self.missing(lost[0].parent, f"{len(lost)} of {len(files)} images missing: {names}")


def checked(dataset: Dataset, where: Path, *, texts: bool = False) -> Dataset:
    """Return the data set; DataError if empty, ids repeat, a label is negative or has no class, or (texts) an image no
    caption."""
    if not dataset.examples:
        raise DataError(str(where), "no images", wanted=f"images of the split {dataset.split!r}")
    counts = Counter(example.id for example in dataset.examples)
    if repeated := [name for name, n in counts.items() if n > 1]:
        raise DataError(str(where), f"{len(repeated)} ids occur more than once: {some(repeated)}")
    if negative := [example.id for example in dataset.examples if any(k < 0 for k in _labels(example))]:
        raise DataError(
            str(where), f"{plural(len(negative), 'image')} with negative labels: {some(negative)}", wanted="0 or more"
        )
    n = len(dataset.classes)
    if n and (alien := [example.id for example in dataset.examples if any(k >= n for k in _labels(example))]):
        of = f"{plural(len(alien), 'image')} with labels beyond the {plural(n, 'class', 'classes')}"
        raise DataError(str(where), f"{of}: {some(alien)}")
    if texts and (bare := [example.id for example in dataset.examples if not _captioned(example)]):
        raise DataError(str(where), f"captions missing for {len(bare)} of {len(dataset)} images: {some(bare)}")
    return dataset


def readable(dataset: Dataset) -> Dataset:
    """Return the data set with � for what is no character (a lone surrogate, of JSON or of a file's name), and a Note.

    DataError where ids become the same by that, and for examples of a plugin's that are none.
    """
    for k, example in enumerate(dataset.examples):
        if odd := [text for text in (example.id, *_all_texts(example)) if not isinstance(text, str)]:
            raise DataError(f"data set {dataset.name}", f"example {k}: got {odd[0]!r}"[:200], wanted="an id and texts")
    if _encodable(dataset):
        return dataset
    examples = [_well_formed(example) for example in dataset.examples]
    n = sum(new != old for new, old in zip(examples, dataset.examples, strict=True))
    classes = tuple(map(well_formed, dataset.classes))
    said = Note(
        "data",
        f"� stands for what is no Unicode character in {plural(n, 'example or class name', 'examples or class names')}",
    )
    whole = [_well_formed(example) for example in dataset.whole]
    changed = replace(dataset, examples=examples, classes=classes, notes=(*dataset.notes, said), whole=whole)
    return checked(changed, Path(dataset.name))


def _all_texts(example: Example) -> list[object]:
    """Return the captions of an example and its negatives, whatever a loader put there."""
    groups = (example.texts, *(example.negatives or ()))
    return [text for group in groups for text in (group if isinstance(group, (tuple, list)) else (group,))]


def _encodable(dataset: Dataset) -> bool:
    try:
        "".join([*_hashed_lines(*dataset.examples), *dataset.classes]).encode()
    except UnicodeEncodeError:
        return False
    return True


def _well_formed(example: Example) -> Example:
    return replace(
        example,
        id=well_formed(example.id),
        texts=tuple(map(well_formed, example.texts)),
        domain=well_formed(example.domain),
        negatives=tuple(tuple(map(well_formed, group)) for group in example.negatives),
        metadata=json.loads(well_formed(json.dumps(example.metadata, ensure_ascii=False))),
    )


def check_captioned(dataset: Dataset, what: str) -> None:
    """Raise DataError if an example has no caption (what: of which kind), or several images."""
    if without := next((example.id for example in dataset.examples if not example.texts), None):
        raise DataError(dataset.name, f"no {what} for {without}", wanted="one at least for every image")
    if several := next((example.id for example in dataset.examples if example.others), None):
        fix = 'evaluator = "image_caption_selection" reads such data'
        raise DataError(dataset.name, f"several images in {several}", wanted="one", fix=fix)


def _labels(example: Example) -> tuple[int, ...]:
    label = () if example.label is None else example.label
    return label if isinstance(label, tuple) else (label,)


def _captioned(example: Example) -> bool:
    return bool(example.texts) and all(example.texts)


def short_ids(paths: Sequence[str]) -> list[str]:
    """Name images by their stems, by their file names where stems repeat, else by the paths as written.

    An id must not hold a machine's path, and two images must not share one.
    """
    names = list(map(_file_name, paths))
    for short in (list(map(_stem, names)), names):
        if len(set(short)) == len(set(paths)):
            return short
    return list(paths)


def _file_name(path: str) -> str:
    name = os.path.basename(path)
    return name if name not in ("", ".") else Path(path).name


def _stem(name: str) -> str:
    """Return pathlib's stem of a file name, at a fifth of the time."""
    dot = name.rfind(".")
    return name[:dot] if 0 < dot < len(name) - 1 else name


def fingerprint(dataset: Dataset) -> dict[str, JsonValue]:
    """Return counts, and a hash of ids, texts, labels, domains, negatives and metadata in order.

    The same data gives the same fingerprint on every machine.
    """
    return {
        "images": sum(len(example.images) for example in dataset.examples),
        "texts": sum(len(example.texts) for example in dataset.examples),
        "classes": len(dataset.classes),
        "hash": digest_lines(_hashed_lines(*dataset.examples)),
    }


def rows_hash(splits: Mapping[str, Dataset]) -> str:
    """Return a hash of the same as ``fingerprint``, of several data sets, without the order of examples and captions.

    The captions of an example with several images keep their order, which says to which image each belongs.
    """
    lines = (f"{split} {digest_lines(_in_any_order(e))}" for split, data in splits.items() for e in data.examples)
    return digest_lines(sorted(lines))


def _in_any_order(example: Example) -> Iterator[str]:
    pairs = list(zip_longest(example.texts, example.negatives, fillvalue=()))
    for text, negatives in pairs if example.others else sorted(pairs, key=repr):
        yield f"t{text}"
        yield from (f"n{negative}" for negative in sorted(negatives))
    yield f"o{len(example.others)}"
    yield from _hashed_lines(replace(example, texts=(), negatives=()))


def _hashed_lines(*examples: Example) -> Iterator[str]:
    """Yield what is hashed, each line with a letter that says what it is."""
    for example in examples:
        yield f"i{example.id}"
        yield from [f"t{text}" for text in example.texts]
        yield f"l{example.label}"
        yield f"d{example.domain}"
        yield from (f"n{k} {text}" for k, group in enumerate(example.negatives) for text in group)
        if example.metadata:  # only where there is any, so that the hashes of other data stay
            yield f"m{json.dumps(example.metadata, sort_keys=True, ensure_ascii=False)}"


def limited(dataset: Dataset, limit: int | None, seed: int) -> Dataset:
    """Return limit random examples in their original order, or the data set itself if it has no more.

    The examples with the smallest hash of seed and id are taken: the same everywhere, and a smaller limit gives a
    subset of a larger one. Classes stay as they are.
    """
    if limit is not None and limit < 1:
        raise UsageError("--limit", f"got {limit}", wanted="1 or more")
    if limit is None or limit >= len(dataset):
        return dataset
    hashes = [hashlib.sha256(f"{seed}:{example.id}".encode()).digest() for example in dataset.examples]
    chosen = sorted(sorted(range(len(hashes)), key=hashes.__getitem__)[:limit])
    what = "items" if any(example.others for example in dataset.examples) else "images"
    note = Note("limited", f"limited to {limit} of {len(dataset)} {what}, chosen at random with seed {seed}")
    examples = [dataset.examples[k] for k in chosen]
    return replace(dataset, examples=examples, notes=(*dataset.notes, note), whole=dataset.examples)
