"""Where things stand in the charts of the page: lines, marks, and labels that overlap nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from cocabench.report.charts import Chart

WIDTH, HEIGHT = 400.0, 236.0
LEFT, TOP, BOTTOM = 38.0, 10.0, 36.0
LETTER, LINE_HEIGHT = 7.8, 13.0
"""A label's width per letter and its height, in the chart's units: of wide fonts as DejaVu, so that none is cut off."""

MAX_LABEL, MAX_PLAIN_LABEL, SMALL = 24, 18, 9.5 / 11.5
"""Longer labels are cut; those longer than MAX_PLAIN_LABEL are set smaller by a factor of SMALL (as in the style)."""

END_GAP = 8.0


class Tick(NamedTuple):
    at: float
    text: str


class Mark(NamedTuple):
    """A mark of a model with its interval (low and high are places, equal where there is none)."""

    model: str
    x: float
    y: float
    low: float
    high: float
    title: str


class Label(NamedTuple):
    """A label. anchor: start, middle or end of the text at x. model: '' for other words."""

    x: float
    y: float
    anchor: str
    text: str


class Path(NamedTuple):
    model: str
    d: str


class Drawn(NamedTuple):
    """A chart's content in a box of WIDTH x HEIGHT. rings: marks of the best points. others: grey dots."""

    right: float
    bottom: float
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    paths: tuple[Path, ...]
    marks: tuple[Mark, ...]
    rings: tuple[Mark, ...]
    labels: tuple[Label, ...]
    chance: str
    chance_y: float
    front: str
    others: tuple[tuple[float, float], ...]


def drawn(chart: Chart, names: Mapping[str, str]) -> Drawn:
    """Return the places of a chart's content. names: {model: its short name}."""
    texts = [_short(names.get(line.label, line.label)) for line in chart.lines]
    room = 14.0 if chart.scatter else 14 + max(map(width_of, texts), default=0.0)
    right, bottom = WIDTH - room, HEIGHT - BOTTOM

    def x(value: float) -> float:
        return round(LEFT + chart.x.place(value) * (right - LEFT), 1)

    def y(value: float) -> float:
        return round(bottom - chart.y.place(value) * (bottom - TOP), 1)

    def path(points: Sequence[tuple[float, float]]) -> str:
        return "M" + " ".join(f"{x(a):g} {y(b):g}" for a, b in points) if points else ""

    marks, rings = [], []
    for line in chart.lines:
        for i in line.marked:
            at, score = line.points[i]
            low, high = (score.value if end is None else end for end in (score.low, score.high))
            title = f"{names.get(line.model, line.model)}: {score.value:.1f}"
            mark = Mark(line.model, x(at), y(score.value), y(low), y(high), title)
            marks.append(mark)
            if i == line.best:
                rings.append(mark)
    others = tuple((x(a), y(b)) for a, b in chart.others)
    front = _segments(sorted((m.x, m.y) for m in marks if m.model in chart.front), right)
    labels = _beside(marks, texts, front, right, bottom) if chart.scatter else _at_ends(chart, texts, y, right, bottom)
    beside = [
        Label(x(line.points[i][0]) + 6, y(line.points[i][1].value) - 7, "start", text)
        for line in chart.lines
        for i, text in line.texts
    ]
    lines = [(line.model, [(a, s.value) for a, s in line.points]) for line in chart.lines if len(line.points) > 1]
    return Drawn(
        right,
        bottom,
        tuple(Tick(x(at), text) for at, text in zip(chart.x.ticks, chart.x.texts(), strict=True)),
        tuple(Tick(y(at), text) for at, text in zip(chart.y.ticks, chart.y.texts(), strict=True)),
        tuple(Path(model, path(points)) for model, points in lines),
        tuple(marks),
        tuple(rings),
        (*labels, *beside),
        path(chart.chance),
        y(chart.chance[-1][1]) if chart.chance else 0.0,
        _steps(sorted((m.x, m.y) for m in marks if m.model in chart.front), right) if chart.scatter else "",
        others,
    )


def _short(text: str) -> str:
    """Return text, cut in the middle where it is long: names of one architecture differ at their ends."""
    half = MAX_LABEL // 2
    return text if len(text) <= MAX_LABEL else f"{text[: half - 1]}…{text[-half:]}"


def width_of(text: str) -> float:
    """Return the width of a label."""
    return LETTER * len(text) * (SMALL if len(text) > MAX_PLAIN_LABEL else 1.0)


def _steps(points: Sequence[tuple[float, float]], right: float) -> str:
    """Return the Pareto front as steps: the best quality at each cost, up to the right end."""
    if not points:
        return ""
    d = f"M{points[0][0]:g} {points[0][1]:g}"
    for px, py in points[1:]:
        d += f" H{px:g} V{py:g}"
    return f"{d} H{right:g}"


def _at_ends(
    chart: Chart, texts: Sequence[str], y: Callable[[float], float], right: float, bottom: float
) -> Iterator[Label]:
    """Yield a label right of each line's end, moved apart where ends are close."""
    ends = sorted((y(line.points[-1][1].value), text) for line, text in zip(chart.lines, texts, strict=True))
    at = _apart([end for end, _ in ends], TOP + 4, bottom - 2)
    yield from (Label(right + END_GAP, spot + 4, "start", text) for spot, (_, text) in zip(at, ends, strict=True))


def _apart(places: Sequence[float], low: float, high: float) -> list[float]:
    """Return sorted places at least a line's height apart and within bounds, near where they were."""
    found = [min(high, max(low, place)) for place in places]
    for i in range(1, len(found)):
        found[i] = max(found[i], found[i - 1] + LINE_HEIGHT)
    if found and found[-1] > high:
        found[-1] = high
        for i in range(len(found) - 2, -1, -1):
            found[i] = min(found[i], found[i + 1] - LINE_HEIGHT)
    return found


Box = tuple[float, float, float, float]


def _segments(points: Sequence[tuple[float, float]], right: float) -> list[Box]:
    """Return the level parts of the Pareto front as boxes."""
    ends = [*(x for x, _ in points[1:]), right][: len(points)]
    return [(x, y - 3, end, y + 3) for (x, y), end in zip(points, ends, strict=True)]


def _beside(
    marks: Sequence[Mark], texts: Sequence[str], lines: Sequence[Box], right: float, bottom: float
) -> list[Label]:
    """Return a label beside each mark, on the side where it covers least: no mark, interval, line, or other label."""
    taken: list[Box] = [*lines]
    taken += [(m.x - 6, min(m.high, m.y - 6), m.x + 6, max(m.low, m.y + 6)) for m in marks]
    labels = []
    for mark, text in zip(marks, texts, strict=True):
        width, x, y = width_of(text), mark.x, mark.y
        right_of = Label(x + 10, y + 4, "start", text), (x + 9, y - 7, x + 10 + width, y + 7)
        left_of = Label(x - 10, y + 4, "end", text), (x - 10 - width, y - 7, x - 9, y + 7)
        level = [
            (Label(x, at, "middle", text), (x - width / 2, at - 10, x + width / 2, at + 3))
            for at in (y - 14, y + 22, y - 28, y + 36)
        ]
        spots = [right_of, left_of, *level]
        label, box = min(spots, key=lambda spot: _cost(spot[1], taken, right, bottom))
        taken.append(box)
        labels.append(label)
    return labels


def _cost(box: Box, taken: Sequence[Box], right: float, bottom: float) -> float:
    """Return how much of other things a box covers, and how far it stands out of the chart."""
    x0, y0, x1, y1 = box
    widths = [(min(x1, other[2]) - max(x0, other[0]), min(y1, other[3]) - max(y0, other[1])) for other in taken]
    covered = sum(max(0.0, width) * max(0.0, height) for width, height in widths)
    out = (LEFT - x0, x1 - right - 12, TOP - 6 - y0, y1 - bottom)
    return covered + 200 * sum(max(0.0, far) for far in out)
