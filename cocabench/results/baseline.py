"""A new baseline from a current run. A baseline keeps of the samples what metrics read, so that gates can pair them."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cocabench.core.errors import ResultsError
from cocabench.core.signature import short
from cocabench.core.types import Record
from cocabench.results.gate import match
from cocabench.results.records import choose
from cocabench.results.store import CAPTIONS, RecordSet, Store, read_numbers, samples_path, settle, write_atomically


@dataclass(frozen=True)
class Update:
    """What becomes of a baseline. replaced: old and new Records. added: new ones. kept: those without a successor."""

    replaced: tuple[tuple[Record, Record], ...]
    added: tuple[Record, ...]
    kept: tuple[Record, ...]

    @property
    def new(self) -> tuple[Record, ...]:
        return (*(new for _, new in self.replaced), *self.added)

    def lines(self) -> list[str]:
        """Return a line per Record that is added, replaced or kept."""
        return [
            *(f"replaced: {_name(old)} by {_name(new)}" for old, new in self.replaced),
            *(f"added: {_name(record)}" for record in self.added),
            *(f"kept: {_name(record)}, not in the current run" for record in self.kept),
        ]


def planned(baseline: Sequence[Record], current: Sequence[Record]) -> Update:
    """Return what a baseline becomes: each of its Records is replaced by the one that the gate holds against it."""
    pairs = [(old, match(old, current, baseline)) for old in baseline]
    replaced = tuple((old, new) for old, new in pairs if new is not None)
    taken = {(new.model, new.task) for _, new in replaced}
    added = tuple(r for r in choose(current).records if (r.model, r.task) not in taken)
    return Update(replaced, added, tuple(old for old, new in pairs if new is None))


def write(folder: Path, update: Update, baseline: RecordSet | None, current: RecordSet) -> None:
    """Make the new baseline beside the old one and put it in its place whole. Files that are no Records stay."""
    folder = folder.absolute()
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as place:
            staged = Path(place) / "new"
            if folder.is_dir():
                shutil.copytree(folder, staged)
            for old, _ in update.replaced:
                _remove(old, baseline, folder, staged)
            for record in update.new:
                _put(record, current, Store(staged))
            if folder.is_dir():
                folder.rename(Path(place) / "old")
            staged.rename(folder)
    except OSError as error:
        raise ResultsError(str(folder), f"cannot write ({error.strerror})", fix="check its permissions") from None


def _remove(record: Record, baseline: RecordSet | None, folder: Path, staged: Path) -> None:
    path = baseline.path(record) if baseline else None
    if path is None:
        return
    copy = staged / path.absolute().relative_to(folder)
    settle(copy)
    for file in (copy, samples_path(copy), copy.with_suffix(CAPTIONS)):
        file.unlink(missing_ok=True)
    if not any(copy.parent.iterdir()):
        copy.parent.rmdir()


def _put(record: Record, current: RecordSet, store: Store) -> None:
    path = current.path(record)
    if path is not None and samples_path(path).is_file():
        numbers = read_numbers(path, record)
        target = samples_path(store.path(record.model, record.task, record.signature))
        write_atomically(target, lambda p: numbers.to_parquet(p, index=False, compression="zstd"))
    store.put_record(record)


def _name(record: Record) -> str:
    return f"{record.model} on {record.task} ({short(record.signature)})"
