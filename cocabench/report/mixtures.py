"""The figure of mixtures of two checkpoints: each task set against ImageNet along the line, as WiSE-FT's paper does it.

Without a result on ImageNet the report's first task takes its place.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import JsonValue

from cocabench.core.formatting import shortened
from cocabench.report.content import Report
from cocabench.report.pair import score_of
from cocabench.report.series import INK, Score, Series, Style
from cocabench.results.compare import Row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

REFERENCE = "imagenet1k"
"""The task of the x axis."""

Line = tuple[tuple[float, str], ...]
"""The share of the second checkpoint and the model, in the order of the shares."""


def lines(report: Report) -> list[Line]:
    """Return the lines between two checkpoints: three models or more, the checkpoints themselves among them."""
    found: dict[tuple[str, str], dict[float, str]] = {}
    weights: dict[str, str] = {}
    for record in report.records:
        weights[str(record.signature.model.get("weights"))] = record.model
        if (ends := _ends(record.signature.model.get("mixture"))) is not None:
            one, other, share = ends
            found.setdefault((one, other), {})[share] = record.model
    for (one, other), models in found.items():
        for end, share in ((one, 0.0), (other, 1.0)):
            if end in weights:
                models.setdefault(share, weights[end])
    return [tuple(sorted(models.items())) for models in found.values() if len(models) > 2]


def _ends(mixture: JsonValue) -> tuple[str, str, float] | None:
    """Return the hashes of the two checkpoints of a mixture, and the share of the second."""
    match mixture:
        case [{"weights": str() as one, "share": float() | int()}, {"weights": str() as other, "share": share}]:
            return one, other, float(str(share))
    return None


def plots_of(report: Report, palette: Mapping[str, Style]) -> Iterator[tuple[str, str, tuple[Any, ...]]]:
    """Yield the title, the alternative text and the data of ``line`` for each task besides the x axis's."""
    rows = [row for row in report.comparison.rows if row.primary]
    reference = next((row for row in rows if row.task == REFERENCE), rows[0] if rows else None)
    for row in rows:
        if reference is None or row is reference:
            continue
        found = [made for line in lines(report) if (made := _series(report, reference, row, line, palette))]
        if found:
            labels = [f"{one.task}, {one.metric}" for one in (reference, row)]
            alt = "; ".join(
                f"{series.name}: "
                + ", ".join(f"{x:.1f} and {y.value:.1f}" for x, y in zip(series.xs, series.ys, strict=True))
                for series, _ in found
            )
            yield f"{row.task} against {reference.task} along the mixtures", alt, (tuple(found), *labels)


def _series(
    report: Report, reference: Row, row: Row, line: Line, palette: Mapping[str, Style]
) -> tuple[Series, tuple[float, ...]] | None:
    """Return the points of a line that have both scores, and their shares; None for fewer than three."""
    points: list[tuple[float, Score, float]] = []
    for share, model in line:
        at = report.models.index(model)
        x, y = (score_of(one.cells[at].estimate, one.info) for one in (reference, row))
        if x is not None and y is not None:
            points.append((x.value, y, share))
    if len(points) < 3:
        return None
    xs, ys, shares = zip(*points, strict=True)
    first, last = line[0][1], line[-1][1]
    return Series(f"{first} to {last}", xs, ys, palette[first]), shares


def line(drawn: Sequence[tuple[Series, Sequence[float]]], x_label: str, y_label: str) -> Figure:
    """Draw two scores of the models along each line; the numbers are the second checkpoint's share."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2, 3.6))
    axes = figure.add_axes((0.13, 0.15, 0.83, 0.79))
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.spines[["top", "right"]].set_visible(False)
    for series, shares in drawn:
        colour, values = series.style.light, [y.value for y in series.ys]
        axes.plot(series.xs, values, color=colour, marker=series.style.mark, markersize=4, linewidth=1.4, zorder=3)
        for x, y in zip(series.xs, series.ys, strict=True):
            if y.low is not None and y.high is not None:
                axes.vlines(x, y.low, y.high, color=colour, linewidth=0.8, alpha=0.5, zorder=2)
        for k in sorted({0, len(shares) // 2, len(shares) - 1}):
            place: dict[str, Any] = {"textcoords": "offset points", "fontsize": 8, "color": INK}
            axes.annotate(f"{shares[k]:g}", (series.xs[k], values[k]), (5, 5), **place)
        axes.plot([], [], color=colour, marker=series.style.mark, label=shortened(series.name, 60))
    axes.legend(loc="best", fontsize=7, frameon=False)
    axes.margins(x=0.08, y=0.15)
    return figure
