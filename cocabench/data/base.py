"""What the loaders share: where their folder is, and what a sound data set is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from cocabench.core.errors import DataError, MissingDataError
from cocabench.core.types import Dataset, Example
from cocabench.data.files import absent, some
from cocabench.specs.spec import Spec


class LocalLoader(Spec):
    """A loader whose files lie below --data-root.

    path:   the data set's folder (or its file, for tables) below --data-root.
    source: where the data set can be had, in words; told where it is missing.
    """

    path: str
    source: str = ""

    @property
    def name(self) -> str:
        return Path(self.path).name

    def folder(self, root: Path) -> Path:
        """Return the absolute path of the data set's folder; MissingDataError where there is none."""
        folder = self.location(root)
        if not folder.is_dir():
            raise self.missing(folder, "no such folder")
        return folder

    def location(self, root: Path) -> Path:
        return (root.expanduser() / self.path).absolute()

    def missing(self, where: Path, got: str, wanted: str = "") -> MissingDataError:
        """Return the error that says what is not there, how to point at it and where it can be had."""
        fix = f"--data-root DIR or COCABENCH_DATA names the folder that holds {self.path}"
        return MissingDataError(str(where), got, wanted=wanted, fix=f"{fix} ({self.source})" if self.source else fix)

    def require(self, files: Sequence[Path]) -> None:
        """MissingDataError that names the first of the files that are not there."""
        if lost := absent(files):
            raise self.missing(lost[0].parent, f"{len(lost)} of {len(files)} images missing: {_names(lost)}")


def sound(dataset: Dataset, where: Path, *, texts: bool = False) -> Dataset:
    """Return the data set; DataError where it is not sound.

    It is not where it is empty, ids repeat, a label has no class, or (texts=True) an image has no caption.
    """
    if not dataset.examples:
        raise DataError(str(where), "no images", wanted=f"images of the split {dataset.split!r}")
    counts = Counter(example.id for example in dataset.examples)
    if repeated := [name for name, n in counts.items() if n > 1]:
        raise DataError(str(where), f"{len(repeated)} ids occur more than once: {some(repeated)}")
    n = len(dataset.classes)
    if n and (alien := [example.id for example in dataset.examples if any(k >= n for k in _labels(example))]):
        raise DataError(str(where), f"{len(alien)} images with labels beyond the {n} classes: {some(alien)}")
    if texts and (bare := [example.id for example in dataset.examples if not _captioned(example)]):
        raise DataError(str(where), f"captions missing for {len(bare)} of {len(dataset)} images: {some(bare)}")
    return dataset


def check_captioned(dataset: Dataset, what: str) -> None:
    """DataError where an example has no caption (what: of which kind), or several images to be told apart."""
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
    for names in ([Path(p).stem for p in paths], [Path(p).name for p in paths]):
        if len(set(names)) == len(set(paths)):
            return names
    return list(paths)


def _names(paths: Iterable[Path]) -> str:
    return some(path.name for path in paths)
