"""Figures on disk: drawn once, drawn again where data changed, and safe to stand in the page."""

from __future__ import annotations

from pathlib import Path

import pytest

from cocabench.report import figures
from cocabench.report import plots as plotting
from cocabench.report.content import gather
from cocabench.report.pair import pairs
from cocabench.report.plots import Plot, draw_all, inline, plots
from cocabench.report.series import MUTED, Panel, Point, Score, Series, styles
from tests.report.records import estimate, record


def drawn(*values: float) -> list[Plot]:
    records = [record(m, "t <i>$x$", {"acc1": estimate(v, 0.1)}) for m, v in zip("ab", values, strict=True)]
    report = gather(records)
    return plots(report, pairs(report)[0], [], styles(report.models))


def test_figures_are_drawn_again_only_where_their_data_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    real = plotting.draw
    monkeypatch.setattr(plotting, "draw", lambda plot, folder: (done.append(plot.name), real(plot, folder)))
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


def test_files_of_obsolete_figures_are_removed(tmp_path: Path) -> None:
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
    assert all(axes.get_ylim()[0] == 0 and axes.get_ylim()[1] > 90 for axes in figures.multiples(panels, "mean").axes)


@pytest.mark.parametrize(
    ("low", "high", "wanted"),
    [
        (1, 1000, [1, 10, 100, 1000]),
        (2, 30, [2, 5, 10, 20]),
        (140, 380, [150, 200, 300]),
        (87, 151, [100, 120, 140]),
        (99.9, 100.2, [99.9, 99.95, 100, 100.05, 100.1, 100.15, 100.2]),
    ],
)
def test_a_logarithmic_axis_has_at_least_two_round_ticks(low: float, high: float, wanted: list[float]) -> None:
    assert figures.ticks(low, high) == pytest.approx(wanted)


@pytest.mark.parametrize("n", range(2, 40))
def test_axes_of_any_length_have_three_to_nine_ticks(n: int) -> None:
    found = figures.ticks(n, n * (1 + n / 7) ** 2)
    assert 3 <= len(found) <= 9
    assert n <= found[0] < found[-1] <= n * (1 + n / 7) ** 2


def test_with_many_models_the_legend_names_the_front_and_others_are_grey() -> None:
    style = styles(["a"])["a"]
    points = [Point(str(i), float(i), Score(50.0 - i, None, None), i == 1, style) for i in range(1, 15)]
    figure = figures.pareto(points, "cost", "quality")
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["1"]
    marks = [line for line in figure.axes[0].lines if line.get_linestyle() == "None" or len(line.get_xdata()) == 1]
    assert {line.get_color() for line in marks[1:]} == {style.light, MUTED}


def test_svg_figures_are_transparent(tmp_path: Path) -> None:
    (plot, _) = drawn(0.5, 0.4)
    draw_all([plot], tmp_path)
    assert "#ffffff" not in (tmp_path / "figure1a.svg").read_text().lower()
