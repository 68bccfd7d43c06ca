"""Figures on disk: drawn once, drawn again where data changed, and safe to stand in the page."""

from __future__ import annotations

from pathlib import Path

import pytest

from cocabench.report import charts, drawing
from cocabench.report.colours import styles
from cocabench.report.content import gather
from cocabench.report.drawing import Plot, draw_all, inline
from cocabench.report.pair import pairs
from cocabench.report.plots import plots
from cocabench.report.series import Panel, Score, Series
from tests.report.records import estimate, record


def drawn(*values: float) -> list[Plot]:
    records = [record(m, "t <i>$x$", {"acc1": estimate(v, 0.1)}) for m, v in zip("ab", values, strict=True)]
    report = gather(records)
    return plots(report, pairs(report)[0], [], styles(report.models))


def test_figures_are_drawn_again_only_where_their_data_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    real = drawing.draw
    monkeypatch.setattr(drawing, "draw", lambda plot, folder: (done.append(plot.name), real(plot, folder)))
    files = draw_all(drawn(0.5, 0.4), tmp_path)
    assert [f.name for f in files] == [f"figure1{part}.{form}" for part in "ab" for form in ("svg", "png", "pdf")]
    assert all(file.stat().st_size for file in files)
    draw_all(drawn(0.5, 0.4), tmp_path)
    assert done == ["figure1a", "figure1b"]
    (tmp_path / "figure1b.pdf").unlink()
    draw_all(drawn(0.5, 0.4), tmp_path)
    assert done == ["figure1a", "figure1b", "figure1b"]
    draw_all(drawn(0.5, 0.3), tmp_path)
    assert len(done) == 5


def test_figures_that_are_no_more_are_removed(tmp_path: Path) -> None:
    (tmp_path / "mine.png").write_bytes(b"mine")
    draw_all(drawn(0.5, 0.4)[:1], tmp_path)
    draw_all([], tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["manifest.json", "mine.png"]


def test_an_inline_figure_takes_the_page_s_colours_and_its_own_ids(tmp_path: Path) -> None:
    (plot, _) = drawn(0.5, 0.4)
    draw_all([plot], tmp_path)
    text = inline(plot, tmp_path)
    assert text.startswith("<svg viewBox=")
    assert "var(--c0)" in text
    assert "var(--ink)" in text
    assert "t &lt;i&gt;$x$" in text
    assert 'id="figure1a-' in text
    assert "<metadata" not in text


def test_every_panel_shows_its_highest_mean() -> None:
    (style,) = styles(["a"]).values()
    panels = [Panel(name, (Series("a", (0.0,), (Score(y, None, None),), style),)) for name, y in (("x", 9), ("y", 90))]
    assert all(axes.get_ylim()[0] == 0 and axes.get_ylim()[1] > 90 for axes in charts.multiples(panels, "mean").axes)
