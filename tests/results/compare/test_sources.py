"""What may be named as results, and how models of one name are told apart."""

from __future__ import annotations

from pathlib import Path

import pytest

from cocabench.core.errors import ResultsError
from cocabench.results.compare import Finding, compare, read
from cocabench.results.store import Store
from tests.samples import classified, right


def test_a_model_in_two_folders_is_told_apart_and_paired(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    classified(old, "m", right(90, 100))
    classified(new, "m", right(60, 100))
    found = read(old, new)
    assert [r.model for r in found] == [f"m [{old}]", f"m [{new}]"]
    (row,) = compare(found).rows
    assert row.difference is not None
    assert (row.difference.paired, row.difference.changed) == (True, 30)
    assert row.finding is Finding.FIRST


def test_other_models_keep_their_names_and_the_order_of_the_sources(tmp_path: Path) -> None:
    classified(tmp_path / "one", "zebra", right(1, 2))
    classified(tmp_path / "two", "ape", right(1, 2))
    assert [r.model for r in read(tmp_path / "one", tmp_path / "two")] == ["zebra", "ape"]


def test_two_records_of_one_model_and_task_are_told_apart_by_signature(tmp_path: Path) -> None:
    records = [classified(tmp_path, "m", right(1, 2), protocol={"precision": p}) for p in ("fp16", "fp32")]
    files = [Store(tmp_path).path(r.model, r.task, r.signature) for r in records]
    assert [r.model for r in read(*files)] == [f"m [{file.stem.rpartition('-')[2]}]" for file in files]
    assert [r.model for r in read(*reversed(files))] == [r.model for r in reversed(read(*files).records)]
    assert {r.model for r in read(tmp_path)} == {"m"}


def test_published_numbers_are_a_source() -> None:
    found = read("published:coca_ViT-L-14:laion2b_s13b_b90k")
    assert {r.model for r in found} == {"coca_ViT-L-14:laion2b_s13b_b90k (published)"}
    with pytest.raises(ResultsError, match="no such file"):
        read("publishd:coca_ViT-L-14")
