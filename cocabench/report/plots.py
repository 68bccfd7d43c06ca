"""Which figures a report has, and the data of each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from cocabench.report import curves
from cocabench.report.colours import Style
from cocabench.report.content import Report
from cocabench.report.costs import Cost, front
from cocabench.report.drawing import Plot
from cocabench.report.leaderboard import standing_means
from cocabench.report.pair import Pair, Score
from cocabench.report.series import Panel, Point, Series
from cocabench.results.compare import averages, in_order
from cocabench.results.published import SUFFIX

COSTS = {
    "parameters": ("total_params", "parameters, millions (logarithmic)"),
    "gflops": ("total_gflops", "GFLOPs of an image and a text (logarithmic)"),
}
MOST_PANELS, MOST_BARS, MOST_CURVES = 16, 8, 16


def plots(report: Report, pair: Pair | None, costs: Sequence[Cost], palette: Mapping[str, Style]) -> list[Plot]:
    """Return the figures in the order of the page. pair: the two models of Figure 1."""
    return [
        *(_pair(pair, palette) if pair else ()),
        *_groups(report, palette),
        *_pareto(report, costs, palette),
        *_curves(report, palette),
    ]


def _pair(pair: Pair, palette: Mapping[str, Style]) -> Iterator[Plot]:
    data = (pair, palette[pair.first], palette[pair.second])
    alt = f"{pair.summary}. The table beside it has the numbers."
    yield Plot("figure1a", "Figure 1 (a): scores", alt, "scores", data, inline=False)
    yield Plot("figure1b", "Figure 1 (b): differences", alt, "differences", data, inline=False)


def _groups(report: Report, palette: Mapping[str, Style]) -> Iterator[Plot]:
    found = averages(report.comparison)
    if not 2 < len(found) <= MOST_PANELS or not 1 < len(report.models) <= MOST_BARS:
        return
    panels = tuple(
        Panel(
            average.group,
            tuple(
                Series(model, (float(i),), (Score(value, None, None),), palette[model])
                for i, (model, value) in enumerate(zip(report.models, average.values, strict=True))
            ),
        )
        for average in found
    )
    alt = "; ".join(
        f"{average.group}: " + ", ".join(f"{m} {v:.1f}" for m, v in zip(report.models, average.values, strict=True))
        for average in found
    )
    yield Plot("groups", "Means per group", alt, "multiples", (panels, "mean of primary metrics"))


def _pareto(report: Report, costs: Sequence[Cost], palette: Mapping[str, Style]) -> Iterator[Plot]:
    means = standing_means(report)
    for kind, quality in ((kind, means[kind]) for kind in in_order(means)):
        for name, (field, label) in COSTS.items():
            known = [(c.model, getattr(c, field), quality.get(c.model)) for c in costs]
            yield from _front(kind, name, label, [(m, x, y) for m, x, y in known if x and y], palette)
        rates = [(c.model, rate, quality.get(c.model)) for c in costs if (rate := c.rate("images_per_s"))]
        slower = [(m, 1000 / rate, y) for m, rate, y in rates if y]
        yield from _front(kind, "time", "milliseconds per image (logarithmic)", slower, palette)


def _front(
    kind: str, name: str, label: str, known: Sequence[tuple[str, float, Score]], palette: Mapping[str, Style]
) -> Iterator[Plot]:
    if len({x for _, x, _ in known}) < 2:
        return
    best = set(front([(x, y.value) for _, x, y in known]))
    points = tuple(Point(m.removesuffix(SUFFIX), x, y, i in best, palette[m]) for i, (m, x, y) in enumerate(known))
    named = ", ".join(f"{p.model} ({p.x:,.4g}; {p.y.value:.1f})" for p in points if p.front)
    cost = label.removesuffix(" (logarithmic)")
    alt, title = f"Pareto front of {kind} against {cost}: {named}.", f"{kind.capitalize()} against {cost}"
    yield Plot(f"pareto_{kind}_{name}", title, alt, "pareto", (points, label, f"{kind}, mean"))


def _curves(report: Report, palette: Mapping[str, Style]) -> Iterator[Plot]:
    for i, (row, lines) in enumerate(curves.curves(report, palette)[:MOST_CURVES]):
        alt = "; ".join(
            f"{line.name}: " + ", ".join(f"{x:.0f}: {y.value:.1f}" for x, y in zip(line.xs, line.ys, strict=True))
            for line in lines
        )
        yield Plot(f"curve_{i + 1}", f"{row.task}, {row.metric}", alt, "curve", (lines, "epoch", row.metric))
