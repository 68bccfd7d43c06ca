"""The figure of published models: which rows and ticks it has, and that other pages have none."""

from __future__ import annotations

from pathlib import Path

import pytest

from cocabench.report.content import gather
from cocabench.report.standing import dots
from cocabench.report.write import write_report
from cocabench.results.records import read
from cocabench.results.standing import pool
from tests.samples import classified, right


def test_ticks_are_the_published_numbers_and_marks_the_measured_ones(tmp_path: Path) -> None:
    classified(tmp_path / "in", "mine", right(300, 500), "imagenet1k")
    classified(tmp_path / "in", "mine", right(300, 500), "emoji")
    write_report(read(tmp_path / "in"), tmp_path / "out", figures=False)
    page = (tmp_path / "out" / "index.html").read_text()
    assert "Among published models" in page
    found = dots(gather(read(tmp_path / "in")), ["mine"])
    assert found is not None
    (row,) = found.panels[0].rows
    published = pool()["imagenet1k", "acc1"]
    assert sorted(row.others) == pytest.approx(sorted(100 * value for value in published.values()))
    assert row.points[0].score.value == pytest.approx(60)
    assert f"% of {len(published)}" in row.about


def test_tasks_without_published_numbers_have_no_figure(tmp_path: Path) -> None:
    classified(tmp_path, "mine", right(300, 500), "emoji")
    assert dots(gather(read(tmp_path)), ["mine"]) is None
