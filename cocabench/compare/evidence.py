"""The samples behind Records: what makes a difference a paired one."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from cocabench.compare.choice import imported_by, published_by
from cocabench.errors import UnpairedError
from cocabench.metrics import catalogue, pairing
from cocabench.metrics.base import Metric, Paired
from cocabench.store import Results, read_numbers, read_samples, samples_path
from cocabench.types import Record


class Evidence:
    """Reads the samples of Records, each once, and tests two Records' metrics on them."""

    def __init__(self, *results: Results) -> None:
        self._results = results
        self._read: dict[Path, pd.DataFrame] = {}

    def paired(self, first: Record, second: Record, metric: str, *, seed: int = 0) -> Paired:
        """Return first minus second of a metric on their samples. UnpairedError says why there is no such test."""
        declared = self.declared(first, metric)
        return pairing.compare(declared, self.samples(first), self.samples(second), seed=seed)

    def declared(self, record: Record, metric: str) -> Metric:
        """Return the declared metric that a Record measures under a name; UnpairedError for those of plugins."""
        found = catalogue.declared(record.evaluator, metric)
        if found is None:
            raise UnpairedError(metric, f"a metric of the evaluator {record.evaluator!r}, which is not cocabench's own")
        return found

    def samples(self, record: Record) -> pd.DataFrame:
        """Return what metrics read of a Record's samples; UnpairedError where there are none."""
        path = self._path(record)
        if path not in self._read:
            self._read[path] = read_numbers(path, record)
        return self._read[path]

    def rows(self, record: Record) -> pd.DataFrame:
        """Return all that is kept of a Record's samples, captions and names among it; UnpairedError as above."""
        return read_samples(self._path(record), record)

    def _path(self, record: Record) -> Path:
        if source := published_by(record) or imported_by(record):
            raise UnpairedError("", f"{record.model} is from {source}, without samples")
        path = next((path for results in self._results if (path := results.path(record)) is not None), None)
        if path is None or not samples_path(path).is_file():
            raise UnpairedError("", f"no samples of {record.model} on {record.task}")
        return path
