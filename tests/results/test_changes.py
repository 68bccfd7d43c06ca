"""Images on which the second model is worse or better."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cocabench.core.errors import ResultsError, UnknownNameError
from cocabench.results.changes import changes
from cocabench.results.difference import Evidence
from cocabench.results.records import read
from cocabench.results.store import Store
from tests.conftest import Command
from tests.samples import classified, right


def test_changes_lists_worse_and_better_images(tmp_path: Path) -> None:
    first = classified(tmp_path, "a", np.array([True, True, False, True]))
    second = classified(tmp_path, "b", np.array([False, True, True, False]))
    found = changes(first, second, Evidence(read(tmp_path)))
    assert [c.image_id for c in found.worse] == ["00000", "00003"]
    assert [c.image_id for c in found.better] == ["00002"]
    worse = found.worse[0]
    assert (worse.first, worse.second, worse.truth, worse.answers) == (1.0, 0.0, "cat", ("cat", "dog"))
    assert found.images == 4


def test_changes_errors_name_the_reason(tmp_path: Path) -> None:
    first = classified(tmp_path, "a", right(1, 4))
    bare = classified(tmp_path, "b", right(2, 4), samples=False)
    other = classified(tmp_path, "c", right(2, 4), protocol={"data": {"images": 5}})
    evidence = Evidence(read(tmp_path))
    with pytest.raises(ResultsError, match="no samples of b on pets"):
        changes(first, bare, evidence)
    with pytest.raises(ResultsError, match="not comparable"):
        changes(first, other, evidence)
    with pytest.raises(UnknownNameError, match="did you mean acc1"):
        changes(first, first, evidence, metric="acc")


def test_compare_samples_lists_images(command: Command, tmp_path: Path) -> None:
    classified(tmp_path, "a", right(40, 60))
    classified(tmp_path, "b", right(20, 60))
    result = command("compare", tmp_path, "--samples", "pets")
    assert "b is worse on 20 of 60 images (pets, acc1)" in result.out
    assert "answer of a" in result.out
    assert "8 more; --all-samples lists them" in result.out
    assert "b is better on 0 of 60 images" in result.out
    assert "00039" in command("compare", tmp_path, "--samples", "pets", "--all-samples").out
    refused = command("compare", tmp_path, "--samples", "pet")
    assert (refused.code, "did you mean pets" in refused.err) == (2, True)


def test_compare_marks_findings_and_prints_the_detectable_difference(command: Command, tmp_path: Path) -> None:
    for task, b in (("pets", 40), ("cars", 89)):
        classified(tmp_path, "a", right(90, 100), task)
        classified(tmp_path, "b", right(b, 100), task)
    lines = command("compare", tmp_path).out.splitlines()
    assert "▲ first better (p<0.001)" in lines[1]
    assert "not significant (detects a difference of " in lines[2]
    assert "classification: a against b: 1 better, 1 not significant, 0 worse" in lines
    assert lines[4].startswith("mean over 2 tasks of classification: 90.0, 64.5 | +25.5 ± ")


def test_compare_samples_omits_empty_columns(command: Command, tmp_path: Path) -> None:
    for name, hits in (("a", right(4, 6)), ("b", right(2, 6))):
        classified(tmp_path, name, hits)
    store = Store(tmp_path)
    for record in read(tmp_path):
        store.put(record, store.samples(record).drop(columns="top5_names"))
    result = command("compare", tmp_path, "--samples", "pets").out
    assert "truth" in result
    assert "answer of" not in result
