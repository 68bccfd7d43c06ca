"""Samples are read, ordered and hashed once: the numbers are those of the samples themselves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cocabench.core.errors import UnpairedError
from cocabench.core.types import Record
from cocabench.metrics import statistics
from cocabench.metrics.base import estimate
from cocabench.results import difference
from cocabench.results.difference import Evidence
from cocabench.results.records import read
from cocabench.results.store import Store, samples_path
from tests.metrics.frames import EVERY
from tests.samples import classified, right


@pytest.mark.parametrize("kept", [1, difference.MAX_NUMBERS_HELD])
@pytest.mark.parametrize("metric", ["acc1", "mean_per_class_recall", "mean_average_precision"])
def test_paired_test_depends_neither_on_order_nor_on_memory(
    metric: str, kept: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(difference, "MAX_NUMBERS_HELD", kept)
    declared, *frames = EVERY[metric]
    records = [
        _with(frame.sample(frac=1, random_state=seed), tmp_path, f"m{seed}", metric)
        for seed, frame in enumerate(frames)
    ]
    held = Evidence(read(tmp_path))
    expected = statistics.compare(declared, *frames)
    assert [held.paired(*records, metric) for _ in range(2)] == [expected] * 2
    assert expected.value != 0


def test_evidence_drops_samples_beyond_its_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = EVERY["mean_average_precision"][1]
    numbers = frame.size + 3 * len(frame) + len(frame)  # three scores and a label in lists
    monkeypatch.setattr(difference, "MAX_NUMBERS_HELD", 2 * numbers)
    records = [_with(frame, tmp_path, name) for name in "abc"]
    held = Evidence(read(tmp_path))
    first, second, _ = (held.samples(record) for record in records)
    assert held.samples(records[1]) is second
    assert held.samples(records[0]) is not first


def test_samples_of_other_images_are_unpaired(tmp_path: Path) -> None:
    a, b = classified(tmp_path, "a", right(3, 9)), classified(tmp_path, "b", right(3, 8))
    with pytest.raises(UnpairedError, match="1 samples are in one of the two only"):
        Evidence(read(tmp_path)).paired(a, b, "acc1")


def test_edited_records_are_unpaired(tmp_path: Path) -> None:
    a, b = classified(tmp_path, "a", right(6, 9)), classified(tmp_path, "b", right(6, 9))
    edited = b.model_copy(update={"metrics": {"acc1": b.metrics["acc1"].model_copy(update={"value": 0.1})}})
    Store(tmp_path).put_record(edited)
    with pytest.raises(UnpairedError, match=r"b on pets was edited \(0\.566667 by the Records, 0 by their samples"):
        Evidence(read(tmp_path)).paired(a, edited, "acc1")


def _with(frame: pd.DataFrame, folder: Path, model: str, metric: str = "") -> Record:
    """Store a Record with other samples than its own, and their number where a metric is given."""
    record = classified(folder, model, np.array([True]))
    if metric:
        record = record.model_copy(update={"metrics": {metric: estimate(EVERY[metric][0], frame)}})
        Store(folder).put_record(record)
    path = Store(folder).path(record.model, record.task, record.signature)
    frame.to_parquet(samples_path(path), index=False)
    return record
