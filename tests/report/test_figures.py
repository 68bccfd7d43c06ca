"""Figures: axes with round ticks, labels that overlap nothing, and files that are drawn once."""

from __future__ import annotations

from itertools import combinations, pairwise
from pathlib import Path

import pytest

from cocabench.report import figures
from cocabench.report import plots as plotting
from cocabench.report.charts import Chart, Line, forest
from cocabench.report.content import gather
from cocabench.report.costs import front
from cocabench.report.differences import differences
from cocabench.report.drawing import LETTER, LINE_HEIGHT, Label, drawn
from cocabench.report.pictures import Thumbnails
from cocabench.report.plots import Plot, draw_all, plots
from cocabench.report.style import DARK, LIGHT, MARKS, Axis, Score, linear, logarithmic
from cocabench.report.write import content_of
from tests.report.records import estimate, record


def two(*values: float) -> list[Plot]:
    records = [
        record(m, f"t <i>$x$ {i}", {"acc1": estimate(v, 0.1)})
        for i in range(2)
        for m, v in zip("ab", values, strict=True)
    ]
    return plots(content_of(gather(records), Thumbnails()))


@pytest.mark.slow
def test_figures_are_drawn_again_only_where_their_data_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    real = plotting.draw
    monkeypatch.setattr(plotting, "draw", lambda plot, folder: (done.append(plot.name), real(plot, folder)))
    files = draw_all(two(0.5, 0.4), tmp_path)
    names = ("differences", "kind-classification")
    assert [f.name for f in files] == [f"{name}.{form}" for name in names for form in ("svg", "png", "pdf")]
    assert all(file.stat().st_size for file in files)
    draw_all(two(0.5, 0.4), tmp_path)
    assert done == list(names)
    (tmp_path / "differences.pdf").unlink()
    draw_all(two(0.5, 0.4), tmp_path)
    assert done == [*names, "differences"]
    draw_all(two(0.5, 0.3), tmp_path)
    assert len(done) == 5
    svg = (tmp_path / "differences.svg").read_text()
    assert "t &lt;i&gt;$x$" in svg
    assert "#ffffff" not in svg.lower()


@pytest.mark.slow
def test_files_of_obsolete_figures_are_removed(tmp_path: Path) -> None:
    (tmp_path / "mine.png").write_bytes(b"mine")
    draw_all(two(0.5, 0.4)[:1], tmp_path)
    draw_all([], tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["manifest.json", "mine.png"]


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ((0, 70), [0, 20, 40, 60, 80]),
        ((3, 9), [0, 2, 4, 6, 8, 10]),
        ((-41, 28), [-60, -40, -20, 0, 20, 40]),
        ((0, 0.004), [0, 0.001, 0.002, 0.003, 0.004]),
        ((0, 0), [0, 0.2, 0.4, 0.6, 0.8, 1]),
    ],
)
def test_a_linear_axis_has_round_ticks_at_both_ends(values: tuple[float, float], wanted: list[float]) -> None:
    axis = linear(values, most=5)
    assert axis.ticks == pytest.approx(wanted)
    assert (axis.low, axis.high) == (axis.ticks[0], axis.ticks[-1])
    assert axis.even


def test_an_axis_of_numbers_far_from_zero_need_not_begin_there() -> None:
    assert linear((73, 88), zero=False).ticks == (70, 75, 80, 85, 90)


@pytest.mark.parametrize("n", range(2, 60, 3))
def test_a_logarithmic_axis_has_three_to_seven_round_ticks_within(n: int) -> None:
    axis = logarithmic((n, n * (1 + n / 7) ** 2))
    assert 3 <= len(axis.ticks) <= 7
    assert axis.low <= axis.ticks[0] < axis.ticks[-1] <= axis.high
    assert [axis.place(x) for x in (axis.low, axis.high)] == [0, 1]


def test_ticks_are_written_with_the_decimals_that_tell_them_apart() -> None:
    assert linear((0, 1)).texts() == ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]
    assert linear((-20, 20)).texts(sign=True) == ["−20", "−10", "0", "+10", "+20"]
    assert Axis(0, 5, (0, 2.5, 5)).texts() == ["0.0", "2.5", "5.0"]
    assert Axis(1, 2000, (1, 1000), log=True).texts() == ["1", "1,000"]


def boxes(labels: tuple[Label, ...]) -> list[tuple[float, float, float, float]]:
    left = {"start": 0.0, "middle": 0.5, "end": 1.0}
    found = []
    for label in labels:
        width = LETTER * len(label.text)
        x = label.x - left[label.anchor] * width
        found.append((x, label.y - 9, x + width, label.y + 2))
    return found


def overlap(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return min(a[2], b[2]) > max(a[0], b[0]) and min(a[3], b[3]) > max(a[1], b[1])


def test_labels_at_the_ends_of_lines_stand_apart() -> None:
    ends = (50.0, 50.5, 51.0, 49.8, 90.0)
    lines = tuple(Line(str(i), f"model {i}", ((1.0, Score(10.0)), (10.0, Score(y))), ()) for i, y in enumerate(ends))
    chart = Chart("c", "", "K", logarithmic((1, 10)), linear((0, 100)), lines)
    labels = drawn(chart, {}).labels
    heights = sorted(label.y for label in labels)
    assert all(b - a >= LINE_HEIGHT - 1e-9 for a, b in pairwise(heights))
    assert [label.text for label in sorted(labels, key=lambda label: -label.y)] == [
        f"model {i}" for i in sorted(range(5), key=lambda i: ends[i])
    ]


@pytest.mark.parametrize("seed", range(5))
def test_labels_beside_points_cover_no_label_no_point_and_no_front(seed: int) -> None:
    import numpy as np

    rng = np.random.default_rng(seed)
    spots = [(float(x), float(y)) for x, y in zip(rng.uniform(1, 9, 6), np.linspace(15, 85, 6), strict=True)]
    lines = tuple(Line(str(i), f"m{i}", ((x, Score(y)),), (0,)) for i, (x, y) in enumerate(spots))
    best = tuple(str(i) for i in front(spots))
    chart = Chart("c", "", "cost", linear((0, 10)), linear((0, 100)), lines, (), best)
    places = drawn(chart, {})
    found = boxes(places.labels)
    assert not [pair for pair in combinations(found, 2) if overlap(*pair)]
    marks = [(m.x - 4, m.y - 4, m.x + 4, m.y + 4) for m in places.marks]
    assert not [1 for box in found for mark in marks if overlap(box, mark)]


def test_the_zero_of_every_kind_stands_at_one_place() -> None:
    records = [
        *(record(m, "t", {"acc1": estimate(v, 0.1)}) for m, v in (("a", 0.5), ("b", 0.4))),
        *(record(m, "c", {"CIDEr": estimate(v, 0.2)}, evaluator="captioning") for m, v in (("a", 0.5), ("b", 1.4))),
    ]
    found = differences(gather(records))
    groups = [(s.kind, [s]) for s in found.tasks]
    one, other = forest("a", groups, found.shown).parts
    assert other.axis.high > 5 * one.axis.high
    assert one.axis.place(0) == pytest.approx(other.axis.place(0))
    assert 0 in other.axis.ticks
    (row,) = other.rows
    assert row.effects[0].text == "+90.0"


def test_a_metric_that_is_better_when_lower_points_right_where_a_model_is_better() -> None:
    ranks = [
        record(m, "r", {"t2i_median_rank": estimate(v, 0.5)}, evaluator="retrieval", primary="t2i_median_rank")
        for m, v in (("a", 9.0), ("b", 3.0))
    ]
    found = differences(gather(ranks))
    (part,) = forest("a", [("", list(found.tasks))], found.shown).parts
    (effect,) = part.rows[0].effects
    assert (effect.text, effect.significant) == ("+6.0", True)


def test_hollow_marks_are_not_significant() -> None:
    records = [
        record(m, t, {"acc1": estimate(v, 0.02)})
        for t, v, m in (("t", 0.9, "a"), ("t", 0.5, "b"), ("u", 0.5, "a"), ("u", 0.51, "b"))
    ]
    content = content_of(gather(records), Thumbnails())
    figure = figures.forest(content.forests[0], {m: (m, i) for i, m in enumerate("ab")})
    faces = [line.get_markerfacecolor() for line in figure.axes[0].lines if line.get_marker() in MARKS]
    assert sorted(face == LIGHT[1] for face in faces) == [False, False, True], "the mean is not tested without samples"


def contrast(one: str, other: str) -> float:
    """WCAG 2: (lighter + 0.05) / (darker + 0.05) of relative luminances."""

    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize(("colours", "page"), [(LIGHT, "#fcfcfb"), (DARK, "#14161a")])
def test_model_colours_have_contrast_for_text(colours: tuple[str, ...], page: str) -> None:
    assert all(contrast(colour, page) >= 4.5 for colour in colours)
    assert len(set(MARKS)) == len(colours)
