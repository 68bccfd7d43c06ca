"""Results: what ``cocabench.load`` and ``cocabench.evaluate`` return."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import overload

import pandas as pd

from cocabench.core.errors import ResultsError, UnknownNameError, UsageError
from cocabench.core.formatting import number, plural
from cocabench.core.signature import digest
from cocabench.core.temporary import temporary_folder
from cocabench.core.types import Record
from cocabench.results import store
from cocabench.results.store import RecordSet, Store

ROWS_SHOWN = 20
COLUMNS_SHOWN = ("model", "task", "metric", "value")


@dataclass(frozen=True, repr=False)
class Results(RecordSet, Sequence[Record]):
    """A sequence of Records with their samples, oldest first: ``results[0]``, ``results[:5]``, ``for r in results``.

    records: the Records as a tuple. paths: the file of each, None if it is not stored.

    >>> import cocabench
    >>> results = cocabench.load("results/baselines")
    >>> results.model("demo/clip").frame().query("metric == 'acc1'").round(3)[["task", "value", "n"]].values.tolist()[0]
    ['emoji_activities', 0.706, 85]
    >>> results.samples("emoji_flags", "demo/clip").columns.tolist()[:2]
    ['id', 'image_id']
    """

    @overload
    def __getitem__(self, i: int) -> Record: ...
    @overload
    def __getitem__(self, i: slice) -> Results: ...
    def __getitem__(self, i: int | slice) -> Record | Results:
        if isinstance(i, int):
            return self.records[i]
        return Results(self.records[i], self.paths[i], self.held[i])

    def model(self, name: str) -> Results:
        """Return the results of one model, for ``cocabench.compare``; UnknownNameError where there are none."""
        places = [i for i, record in enumerate(self.records) if record.model == name]
        if not places:
            raise UnknownNameError("model", name, [record.model for record in self.records])
        held = tuple(self.held[i] for i in places) if self.held else ()
        return Results(tuple(self.records[i] for i in places), tuple(self.paths[i] for i in places), held)

    def samples(self, task: str | Record, model: str | None = None) -> pd.DataFrame:
        """Return the per-sample statistics of one result: a row per image, text or pair, depending on the kind of task.

        task: the name of a task, or one of these Records. model: the name of a model, if several have results on the
        task. Raises UsageError unless exactly one result matches, ResultsError if its samples were not stored.
        """
        if isinstance(task, Record):
            return super().samples(task)
        found = [r for r in self.records if r.task == task and model in (None, r.model)]
        if len(found) == 1:
            return super().samples(found[0])
        where = f"samples({task!r}{f', {model!r}' if model else ''})"
        if not found:
            known = ", ".join(dict.fromkeys(f"{r.task} of {r.model}" for r in self.records[:ROWS_SHOWN]))
            raise UsageError(where, "no such result", wanted=f"one of {known}")
        fix = "give one of the Records instead" if model else f"name the model: {', '.join(r.model for r in found)}"
        raise UsageError(where, f"{len(found)} results", wanted="one", fix=fix)

    def save(self, folder: str | Path) -> Results:
        """Write the Records and their samples to a results folder and return the stored Results.

        ``cocabench report``, ``compare`` and ``gate`` read such folders. Raises ResultsError if it cannot be written.
        """
        target, kept = Store(Path(folder)), []
        for record, path in zip(self.records, self.paths, strict=True):
            try:
                kept.append(target.put(record, super().samples(record)))
            except ResultsError:
                if path is None or store.samples_path(path, record).is_file():
                    raise
                kept.append(record)
                target.put_record(record)
            self._copy_thumbnails(record, path, target)
        stored = target.results(kept)
        return Results(stored.records, stored.paths)

    def report(self, folder: str | Path, *, title: str = "cocabench report") -> Path:
        """Write a report (index.html, tables, figures) to a folder, as ``cocabench report`` does; return index.html.

        Pictures of samples are shown for stored results only (``evaluate(…, output=…)``).
        """
        from cocabench.report.write import write_report

        with temporary_folder("cocabench-report-") as own:
            there = self if all(self.paths) else self.save(own)
            page, *_ = write_report(there, Path(folder), title=title)
        return page

    def _copy_thumbnails(self, record: Record, path: Path | None, target: Store) -> None:
        data = record.signature.protocol.get("data")
        if path is None or data is None:
            return
        fingerprint = digest(data)
        known = Store(path.parent.parent).thumbnails(fingerprint)
        if new := known.keys() - target.thumbnails(fingerprint).keys():
            target.put_thumbnails(fingerprint, {key: known[key] for key in sorted(new)})

    def __repr__(self) -> str:
        rows = self._rows()
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
        return "\n".join([self._title(), *lines, *self._more()])

    def _repr_html_(self) -> str:
        """Return the same table for a notebook."""
        head = "".join(f"<th>{escape(name)}</th>" for name in COLUMNS_SHOWN)
        rows = "".join(f"<tr>{''.join(f'<td>{escape(text)}</td>' for text in row)}</tr>" for row in self._rows())
        below = "".join(f"<p>{escape(text)}</p>" for text in self._more())
        return f"<table><caption>{self._title()}</caption><tr>{head}</tr>{rows}</table>{below}"

    def _title(self) -> str:
        return plural(len(self), "result")

    def _rows(self) -> list[tuple[str, ...]]:
        """Return the model, task, primary metric and its printed value of the first Records."""
        return [
            (
                r.model,
                r.task,
                r.primary,
                number(r.metrics[r.primary], r.definitions[r.primary]) if r.primary in r.metrics else "no score",
            )
            for r in self.records[:ROWS_SHOWN]
        ]

    def _more(self) -> list[str]:
        return [f"… and {len(self) - ROWS_SHOWN} more"] * (len(self) > ROWS_SHOWN)


def load(*paths: str | Path) -> Results:
    """Return the Records in folders, Record files, or files with an array of Records (``run --json``), oldest first.

    Raises ResultsError if there are none or one cannot be read. Warns with IgnoredRecordWarning about a Record whose
    folder was renamed: its samples cannot be found, so it is left out.

    >>> import cocabench
    >>> len(cocabench.load("results/baselines")) > 0
    True
    """
    found = store.load(*paths)
    return Results(found.records, found.paths)
