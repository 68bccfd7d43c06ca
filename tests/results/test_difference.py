"""Paired tests on samples that are read, ordered and hashed once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cocabench.captioneval import declared
from cocabench.core.errors import UnpairedError
from cocabench.core.types import Estimate, Record, Signature, Status
from cocabench.metrics import intervals, power, statistics
from cocabench.metrics.base import Paired, estimate
from cocabench.results import difference
from cocabench.results.compare import compare_models
from cocabench.results.difference import Evidence, Finding, independent
from cocabench.results.gate import Rules, gate
from cocabench.results.records import read
from cocabench.results.store import Store
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
    numbers = frame.size + (3 + 1 + 2 + 20 + 2) * len(frame)  # lists: scores, label, counted, temperatures; names
    monkeypatch.setattr(difference, "MAX_NUMBERS_HELD", 2 * numbers)
    records = [_with(frame, tmp_path, name) for name in "abc"]
    held = Evidence(read(tmp_path))
    first, second, _ = (held.samples(record) for record in records)
    assert held.samples(records[1]) is second
    assert held.samples(records[0]) is not first


def test_samples_in_the_order_of_the_last_ones_are_put_in_order_like_them(tmp_path: Path) -> None:
    declared, *frames = EVERY["acc1"]
    shuffled = [frame.iloc[np.random.default_rng(0).permutation(len(frame))] for frame in (*frames, frames[0])]
    records = [_with(frame, tmp_path, name, "acc1") for name, frame in zip("abc", shuffled, strict=True)]
    held = Evidence(read(tmp_path))
    assert held.paired(records[0], records[1], "acc1") == statistics.compare(declared, *frames)
    assert held.paired(records[0], records[2], "acc1").changed == 0
    assert held.samples(records[2]).equals(held.samples(records[0]))


def test_samples_of_other_images_are_unpaired(tmp_path: Path) -> None:
    a, b = classified(tmp_path, "a", right(3, 9)), classified(tmp_path, "b", right(3, 8))
    with pytest.raises(UnpairedError, match="1 sample is in one of the two only"):
        Evidence(read(tmp_path)).paired(a, b, "acc1")


def test_edited_records_are_unpaired(tmp_path: Path) -> None:
    a, b = classified(tmp_path, "a", right(6, 9)), classified(tmp_path, "b", right(6, 9))
    edited = b.model_copy(update={"metrics": {"acc1": b.metrics["acc1"].model_copy(update={"value": 0.1})}})
    Store(tmp_path).put_record(edited)
    with pytest.raises(
        UnpairedError, match=r"a or b on pets was edited \(difference 0\.566667 in the Records, 0 in their samples"
    ):
        Evidence(read(tmp_path)).paired(a, edited, "acc1")


def _with(frame: pd.DataFrame, folder: Path, model: str, metric: str = "") -> Record:
    """Store a Record with other samples than its own, and their number where a metric is given."""
    record = classified(folder, model, np.array([True]))
    if metric:
        declared = EVERY[metric][0]
        one = {"metrics": {metric: estimate(declared, frame)}, "definitions": {metric: declared.info}}
        record = record.model_copy(update=one)
    return Store(folder).put(record, frame)


@pytest.mark.parametrize("share", [0.02, 0.5, 0.95])
def test_power_of_two_independent_shares_is_what_is_printed(share: float) -> None:
    rng, n = np.random.default_rng(0), 300

    def test(below: float) -> Paired:
        sides = rng.binomial(n, share, 1)[0] / n, rng.binomial(n, share - below, 1)[0] / n
        return independent(*(Estimate(value=v, **_wilson(v, n), n=n) for v in sides), shares=True)

    equal = test(0.0)
    exact = equal._replace(shares=((share, float(n)), (share, float(n))))
    drop = power.detectable(exact, level=0.05)
    if drop > share:  # it is a gain that would be found
        share, drop = share + drop, drop
    found = np.mean([test(drop).higher <= 0.05 for _ in range(1000)])
    assert 0.76 < found < 0.84


def _wilson(share: float, n: int) -> dict[str, float]:
    return intervals.of_proportion_like(share, share * (1 - share) / n, n)._asdict()


def test_too_few_images_of_a_score_are_not_tested_paired_or_not(tmp_path: Path) -> None:
    """Not even where Records of an older version hold intervals; and the gate cannot tell."""
    for folder, value in (("old", 1.0), ("new", 0.2)):
        for samples in (True, False):
            frame = pd.DataFrame({"id": range(20), "image_id": range(20), "cider": value + np.arange(20) / 20})
            _captioned(tmp_path / f"{folder}{samples}", frame.astype({"id": str, "image_id": str}), samples=samples)
    for samples in (True, False):
        (verdict,) = gate(read(tmp_path / f"old{samples}"), read(tmp_path / f"new{samples}"), Rules())
        assert (verdict.status, verdict.p_value, verdict.exit_code) == (Status.CANNOT_TELL, None, 0)
        assert verdict.unpaired == "too few images to test (n=20)"
        (row,) = compare_models(read(tmp_path / f"old{samples}", tmp_path / f"new{samples}")).rows
        assert row.difference is not None
        assert (row.difference.finding, row.difference.low) == (Finding.UNTESTED, None)


def _captioned(folder: Path, frame: pd.DataFrame, *, samples: bool) -> None:
    (cider,) = declared(["CIDEr"])
    value = float(frame["cider"].mean())
    record = Record(
        task="captions",
        model="m",
        evaluator="captioning",
        primary="CIDEr",
        signature=Signature(protocol={"task": "captions"}, model={"id": "m"}),
        metrics={"CIDEr": Estimate(value=value, low=value - 0.1, high=value + 0.1, n=20)},
        definitions={"CIDEr": cider.info},
        created="2025-01-01T00:00:00Z",
    )
    store = Store(folder)
    if samples:
        store.put(record, frame)
    else:
        store.put_record(record)


@pytest.mark.parametrize("value", [0.0, 1.0, 1.05])
def test_independent_shares_at_the_ends_and_beyond_have_a_detectable_difference(value: float) -> None:
    side = Estimate(value=value, low=value - 0.05, high=value + 0.05, n=93)
    found = independent(side, side, shares=True)
    assert found is not None
    assert 0 < power.detectable(found, level=0.05) < 1
