"""The samples behind Records: what makes a difference a paired one."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from pandas.util import hash_array

from cocabench.core.errors import UnpairedError
from cocabench.core.types import Record
from cocabench.kinds import find
from cocabench.metrics import paired
from cocabench.metrics.base import Metric, Paired
from cocabench.metrics.statistics import Moved, compare_ordered, moved, ordered
from cocabench.results.compare.choice import imported_by, published_by
from cocabench.results.store import RecordSet, read_numbers, read_samples, samples_path

KEPT_NUMBERS = 1 << 26
"""Numbers held at a time (512 MiB): those of 50 models on 50,000 images fit twice."""


class Evidence:
    """Reads the samples of Records, each once as far as memory allows, and tests two Records' metrics on them."""

    def __init__(self, *results: RecordSet) -> None:
        self._results = results
        self._read: OrderedDict[Path, pd.DataFrame] = OrderedDict()
        self._numbers = 0

    def paired(self, first: Record, second: Record, metric: str, *, seed: int = 0) -> Paired:
        """Return first minus second of a metric on their samples. UnpairedError says why there is no such test.

        WithheldError where images are too few for any.
        """
        declared = self.declared(first, metric)
        found = compare_ordered(declared, self.samples(first), self.samples(second), seed=seed)
        _agree(first, second, metric, found)
        return found

    def mean(self, pairs: Sequence[tuple[Record, Record, str]], *, seed: int = 0) -> Paired:
        """Return the mean over tasks of first minus second of a metric, images of several tasks drawn together.

        Images are the same where their ids are. UnpairedError where a task has no samples, or where two tasks read the
        same pictures under other ids: which images they share is unknown then.
        """
        parts = [self._moved(*pair) for pair in pairs]
        for i, (one, _, _) in enumerate(pairs):
            for k, (other, _, _) in enumerate(pairs[:i]):
                same = one.pictures and one.pictures == other.pictures
                if same and not np.isin(parts[i].images, parts[k].images).any():
                    raise UnpairedError("", f"{one.task} and {other.task} have the same images under other ids")
        return paired.of_tasks(parts, np.random.default_rng(seed))

    def _moved(self, first: Record, second: Record, metric: str) -> Moved:
        return moved(self.declared(first, metric), self.samples(first), self.samples(second))

    def declared(self, record: Record, metric: str) -> Metric:
        """Return the metric that a Record has under a name; UnpairedError where its kind does not know it."""
        found = find(record.evaluator).metric(metric)
        if found is None:
            raise UnpairedError(metric, f"the kind {record.evaluator!r} that is installed here has no such metric")
        return found

    def samples(self, record: Record) -> pd.DataFrame:
        """Return what metrics read of a Record's samples, by image and id, which are 64-bit hashes of the ids.

        UnpairedError where there are none.
        """
        path = self._path(record)
        if path not in self._read:
            self._keep(path, _hashed(ordered(read_numbers(path, record))))
        self._read.move_to_end(path)
        return self._read[path]

    def _keep(self, path: Path, samples: pd.DataFrame) -> None:
        """Hold samples, and let go of those that were not asked for the longest where there are too many."""
        self._read[path] = samples
        self._numbers += _size(samples)
        while self._numbers > KEPT_NUMBERS and len(self._read) > 1:
            self._numbers -= _size(self._read.popitem(last=False)[1])

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


def _agree(first: Record, second: Record, metric: str, found: Paired) -> None:
    """Raise UnpairedError where the samples' difference is not that of the Records, as after an edit of one of them."""
    a, b = (held.value if (held := r.metrics.get(metric)) else None for r in (first, second))
    if a is not None and b is not None and not math.isclose(a - b, found.value, rel_tol=1e-6, abs_tol=1e-6):
        told = f"{a - b:.6g} by the Records, {found.value:.6g} by their samples"
        raise UnpairedError("", f"one of {first.model} and {second.model} on {first.task} was edited ({told})")


def _hashed(samples: pd.DataFrame) -> pd.DataFrame:
    """Numbers are held against each other, and grouped, many times faster than text."""
    names = ("id", "image_id")
    hashes = {name: hash_array(samples[name].to_numpy(object), categorize=False) for name in names}
    return samples.assign(**hashes)


def _size(samples: pd.DataFrame) -> int:
    """Return how many numbers samples hold, those in lists among them."""
    lists = [column for name, column in samples.items() if column.dtype == object and name != "domain"]
    return samples.size + sum(int(column.map(np.size, na_action="ignore").sum()) for column in lists)
