"""Make the current run the baseline. A baseline keeps the columns of samples that paired tests read."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cocabench.core.errors import ResultsError
from cocabench.core.signature import short
from cocabench.core.temporary import temporary_folder
from cocabench.core.types import Record
from cocabench.results.gate import matches
from cocabench.results.records import choose
from cocabench.results.store import RecordSet, Store, files_of, read_numbers, samples_path


@dataclass(frozen=True)
class Update:
    """The changes of a baseline. replaced: (old, new) Records. added: new ones. kept: old ones without a new one."""

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
    """Return the changes of a baseline: each Record is replaced by the one that the gate compares it with."""
    pairs = list(zip(baseline, matches(baseline, current), strict=True))
    replaced = tuple((old, new) for old, new in pairs if new is not None)
    taken = {(new.model, new.task) for _, new in replaced}
    added = tuple(r for r in choose(current).records if (r.model, r.task) not in taken)
    return Update(replaced, added, tuple(old for old, new in pairs if new is None))


def write(folder: Path, update: Update, baseline: RecordSet | None, current: RecordSet) -> None:
    """Make the new baseline beside the old one and exchange the two. Files that are no Records stay.

    A kill at any moment leaves the old baseline or the new one; what else it leaves goes with the next update.
    """
    folder = folder.resolve()
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        recover(folder)
        with temporary_folder(_prefix(folder), folder.parent) as place:
            staged = place / "new"
            if folder.is_dir():
                shutil.copytree(folder, staged, symlinks=True)
            for old, _ in update.replaced:
                _remove(old, baseline, folder, staged)
            for record in update.new:
                _put(record, current, Store(staged))
            if folder.is_dir():
                _exchange(staged, folder, place / OLD)
            else:
                staged.rename(folder)
    except (OSError, ResultsError) as error:
        if isinstance(error, ResultsError) and f"{os.sep}{_prefix(folder)}" not in error.where:
            raise
        stands = "; the old baseline stands" if folder.is_dir() else ""
        raise ResultsError(str(folder), _why(error), fix=f"free space, or check its permissions{stands}") from None


def _why(error: OSError | ResultsError) -> str:
    """Return why the new baseline could not be written, without its temporary folder, which is gone."""
    if isinstance(error, ResultsError):
        return error.got
    if isinstance(error, shutil.Error):  # a list of (from, to, text); the first says enough
        return "cannot write (" + re.sub(r"^\[Errno \d+\] |: '.*", "", str(error.args[0][0][2])) + ")"
    return f"cannot write ({error.strerror})"


OLD = "old"
"""Where the baseline is, in the temporary folder, between the two renames of a system that cannot exchange folders."""

AT_FDCWD, RENAME_EXCHANGE = -100, 2
"""Of Linux's renameat2."""


def recover(folder: Path) -> None:
    """Put a baseline back that a kill left between two renames."""
    if folder.exists() or not folder.parent.is_dir():
        return
    ours = re.compile(re.escape(_prefix(folder)) + r"[0-9a-f]{16}")
    places = [path / OLD for path in folder.parent.iterdir() if ours.fullmatch(path.name) and (path / OLD).is_dir()]
    if places:
        max(places, key=lambda old: old.parent.stat().st_mtime_ns).rename(folder)


def _prefix(folder: Path) -> str:
    return f".{folder.name}."


def _exchange(new: Path, folder: Path, old: Path) -> None:
    """Let two folders change places in one step, where the system can; else by way of a third place."""
    rename = getattr(ctypes.CDLL(None), "renameat2", None) if sys.platform == "linux" else None
    here, there = os.fsencode(new), os.fsencode(folder)
    if rename is None or rename(AT_FDCWD, here, AT_FDCWD, there, RENAME_EXCHANGE) != 0:
        folder.rename(old)
        new.rename(folder)


def _remove(record: Record, baseline: RecordSet | None, folder: Path, staged: Path) -> None:
    path = baseline.path(record) if baseline else None
    if path is None:
        return
    copy = staged / path.parent.resolve().relative_to(folder) / path.name
    for file in files_of(copy, record):
        file.unlink(missing_ok=True)
    if not any(copy.parent.iterdir()):
        copy.parent.rmdir()


def _put(record: Record, current: RecordSet, store: Store) -> None:
    path = current.path(record)
    if path is not None and samples_path(path, record).is_file():
        store.put(record, read_numbers(path, record))
    else:
        store.put_record(record)


def _name(record: Record) -> str:
    return f"{record.model} on {record.task} ({short(record.signature)})"
