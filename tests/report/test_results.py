"""cocabench.Results: a sequence of Records with their samples, saved, reported and shown."""

from pathlib import Path

import pandas as pd
import pytest

import cocabench
from cocabench.core.errors import ResultsError, UsageError
from cocabench.report.results import Results
from tests.report.pictured import results as pictured


@pytest.fixture
def stored(tmp_path: Path) -> Results:
    """Return results of two models with pictures, as they are loaded from a folder."""
    pictured(tmp_path / "from")
    return cocabench.load(tmp_path / "from")


def in_memory(results: Results) -> Results:
    return Results(results.records, (None,) * len(results), tuple(results.samples(r) for r in results))


def test_results_are_a_sequence_of_records(stored: Results) -> None:
    assert list(stored) == list(stored.records)
    assert stored[0] is stored.records[0]
    assert stored[-1] in stored
    part = in_memory(stored)[1:3]
    assert isinstance(part, Results)
    assert part.records == stored.records[1:3]
    pd.testing.assert_frame_equal(part.samples(part[0]), stored.samples(stored[1]))
    assert len(stored.frame()) == sum(len(record.metrics) for record in stored)


def test_samples_are_found_by_task_and_model_or_by_record(stored: Results) -> None:
    record = stored[0]
    pd.testing.assert_frame_equal(stored.samples(record.task, record.model), stored.samples(record))
    with pytest.raises(UsageError, match=r"2 results; wanted one; name the model: one, two"):
        stored.samples(record.task)
    with pytest.raises(UsageError, match=r"samples\('nowhere'\): no such result; wanted one of"):
        stored.samples("nowhere")


def test_saved_results_load_unchanged_with_samples_and_pictures(stored: Results, tmp_path: Path) -> None:
    for results, name in ((stored, "a"), (in_memory(stored), "b")):
        saved = results.save(tmp_path / name)
        loaded = cocabench.load(tmp_path / name)
        assert sorted(loaded, key=repr) == sorted(stored, key=repr)
        assert set(saved.paths) == set(loaded.paths)
        for record in stored:
            pd.testing.assert_frame_equal(loaded.samples(record), stored.samples(record))
    assert list((tmp_path / "a" / "thumbnails").iterdir())


def test_results_without_samples_can_be_saved(stored: Results, tmp_path: Path) -> None:
    for path in (tmp_path / "from").rglob("*.samples.parquet"):
        path.unlink()
    saved = stored.save(tmp_path / "to")
    assert len(cocabench.load(tmp_path / "to")) == len(stored)
    with pytest.raises(ResultsError, match="no samples beside the Record"):
        saved.samples(saved[0])


def test_a_report_of_results_in_memory_has_their_samples(stored: Results, tmp_path: Path) -> None:
    page = in_memory(stored).report(tmp_path / "page", title="Step 7")
    assert page == tmp_path / "page" / "index.html"
    text = page.read_text()
    assert "Step 7" in text
    assert all(record.task in text for record in stored)
    assert (tmp_path / "page" / "data.json").is_file()


def test_repr_is_short(stored: Results) -> None:
    lines = repr(stored).splitlines()
    assert lines[0] == f"{len(stored)} results"
    assert lines[1].startswith(f"{stored[0].model}  {stored[0].task}  {stored[0].primary} ")
    many = Results(stored.records[:1] * 100, stored.paths[:1] * 100)
    assert repr(many).splitlines()[-1] == "… and 80 more"
    assert len(repr(many)) < 2500
