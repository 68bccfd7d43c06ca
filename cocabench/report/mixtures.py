"""The figure of mixtures of two checkpoints: each task set against ImageNet along the line, as WiSE-FT's paper does it.

Without a result on ImageNet the report's first task takes its place.
"""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import JsonValue

from cocabench.report.charts import Chart, Line
from cocabench.report.content import Report
from cocabench.report.differences import metric_label
from cocabench.report.style import Score, linear
from cocabench.results.compare import Row

REFERENCE = "imagenet1k"
"""The task of the x axis."""

MAX_CHARTS = 16

Shares = tuple[tuple[float, str], ...]
"""The share of the second checkpoint and the model, in the order of the shares."""


def lines(report: Report) -> list[Shares]:
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


def charts(report: Report) -> Iterator[Chart]:
    """Yield a chart for each task besides the x axis's: two scores along each line, with the second one's share."""
    rows = [row for row in report.comparison.rows if row.primary]
    reference = next((row for row in rows if row.task == REFERENCE), rows[0] if rows else None)
    held, made = lines(report), 0
    for row in rows:
        if reference is None or row is reference or made == MAX_CHARTS:
            continue
        found = tuple(drawn for line in held if (drawn := _line(report, reference, row, line)))
        if found:
            made += 1
            points = [point for line in found for point in line.points]
            x = linear([x for x, _ in points], zero=False)
            y = linear([v for _, score in points for v in score if v is not None], zero=False)
            labels = report.labels[row.task], report.labels[reference.task]
            caption = f"{labels[0]} ({metric_label(row)}) against {labels[1]} along the mixtures"
            yield Chart(f"mixture_{made}", caption, f"{labels[1]}, {metric_label(reference)}", x, y, found)


def _line(report: Report, reference: Row, row: Row, line: Shares) -> Line | None:
    """Return the points of a line that have both scores, with their shares; None for fewer than three."""
    points: list[tuple[float, Score]] = []
    shares: list[float] = []
    for share, model in line:
        x, y = report.score(reference, model), report.score(row, model)
        if x is not None and y is not None:
            points.append((x.value, y))
            shares.append(share)
    if len(points) < 3:
        return None
    first, last = line[0][1], line[-1][1]
    texts = tuple((k, f"{shares[k]:g}") for k in sorted({0, len(shares) // 2, len(shares) - 1}))
    label = f"{report.names[first]} to {report.names[last]}"
    return Line(first, label, tuple(points), tuple(range(len(points))), None, texts)
