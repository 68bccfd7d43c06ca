"""The figures of a report: their data, and their files in SVG, PNG and PDF.

Several processes draw them, and only those whose data changed.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cocabench.core.files import parse_json, read_text
from cocabench.core.helpers import end_with_parent
from cocabench.core.signature import digest
from cocabench.kinds import find, in_words
from cocabench.report import mixtures
from cocabench.report.content import Report
from cocabench.report.costs import Cost, front
from cocabench.report.leaderboard import standing_means
from cocabench.report.pair import Pair, score_of
from cocabench.report.series import Panel, Point, Score, Series, Style, themed
from cocabench.results.compare import Row, averages, in_order
from cocabench.results.epochs import epoch_of, runs
from cocabench.results.published import SUFFIX
from cocabench.results.store import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COSTS = {
    "parameters": ("total_params", "parameters, millions (logarithmic)"),
    "gflops": ("total_gflops", "GFLOPs of an image and a text (logarithmic)"),
}
MAX_PANELS, MAX_BARS, MAX_CURVES = 16, 8, 16
SUFFIXES = (".svg", ".png", ".pdf")
MANIFEST = "manifest.json"

MAX_FIGURES_IN_PROCESS = 3
"""Up to this many figures are drawn in this process, since starting others costs as much."""

STYLE: Any = {
    "svg.hashsalt": "cocabench",
    "svg.fonttype": "none",
    "pdf.fonttype": 42,
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "text.parse_math": False,
    "axes.facecolor": "none",
}


def plots(report: Report, pair: Pair | None, costs: Sequence[Cost], palette: Mapping[str, Style]) -> list[Plot]:
    """Return the figures in the order of the page. pair: the two models of Figure 1."""
    return [
        *(_pair(pair, palette) if pair else ()),
        *_groups(report, palette),
        *_pareto(report, costs, palette),
        *_curves(report, palette),
        *_mixtures(report, palette),
    ]


def _mixtures(report: Report, palette: Mapping[str, Style]) -> Iterator[Plot]:
    for i, (title, alt, data) in enumerate(islice(mixtures.plots_of(report, palette), MAX_CURVES)):
        yield Plot(f"mixture_{i + 1}", title, alt, "line", data)


def _pair(pair: Pair, palette: Mapping[str, Style]) -> Iterator[Plot]:
    data = (pair, palette[pair.first], palette[pair.second])
    alt = f"{pair.summary}. The table beside it has the numbers."
    yield Plot("figure1a", "Figure 1 (a): scores", alt, "scores", data, inline=False)
    yield Plot("figure1b", "Figure 1 (b): differences", alt, "differences", data, inline=False)


def _groups(report: Report, palette: Mapping[str, Style]) -> Iterator[Plot]:
    found = averages(report.comparison)
    if not 2 < len(found) <= MAX_PANELS or not 1 < len(report.models) <= MAX_BARS:
        return
    panels = tuple(
        Panel(
            in_words(average.group),
            tuple(
                Series(model, (float(i),), (Score(value, None, None),), palette[model])
                for i, (model, value) in enumerate(zip(report.models, average.values, strict=True))
            ),
        )
        for average in found
    )
    alt = "; ".join(
        f"{in_words(average.group)}: "
        + ", ".join(f"{m} {v:.1f}" for m, v in zip(report.models, average.values, strict=True))
        for average in found
    )
    yield Plot("groups", "Means per group", alt, "multiples", (panels, "mean of primary metrics"))


def _pareto(report: Report, costs: Sequence[Cost], palette: Mapping[str, Style]) -> Iterator[Plot]:
    means = standing_means(report)
    for kind, quality in ((kind, means[kind]) for kind in in_order(means) if find(kind).declared):
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
    alt, title = f"Pareto front of {in_words(kind)} against {cost}: {named}.", f"{find(kind).title()} against {cost}"
    yield Plot(f"pareto_{kind}_{name}", title, alt, "pareto", (points, label, f"{in_words(kind)}, mean"))


def _curves(report: Report, palette: Mapping[str, Style]) -> Iterator[Plot]:
    for i, (row, lines) in enumerate(epoch_curves(report, palette)[:MAX_CURVES]):
        alt = "; ".join(
            f"{line.name}: " + ", ".join(f"{x:.0f}: {y.value:.1f}" for x, y in zip(line.xs, line.ys, strict=True))
            for line in lines
        )
        yield Plot(f"curve_{i + 1}", f"{row.task}, {row.metric}", alt, "curve", (lines, "epoch", row.metric))


def epoch_curves(report: Report, palette: Mapping[str, Style]) -> list[tuple[Row, tuple[Series, ...]]]:
    """Return the tasks for which several epochs of a run have numbers, with a line per run."""
    found = [(row, tuple(_lines(report, row, palette))) for row in report.comparison.rows]
    return [(row, lines) for row, lines in found if lines]


def _lines(report: Report, row: Row, palette: Mapping[str, Style]) -> list[Series]:
    cells = dict(zip(report.models, row.cells, strict=True))
    lines = []
    for run, models in runs(report.models).items():
        known = [(point.number, model) for model in models if cells[model].estimate and (point := epoch_of(model))]
        scores = [score for _, model in known if (score := score_of(cells[model].estimate, row.info)) is not None]
        if len(scores) < 2 or len(scores) < len(known):
            continue
        values = [score.value for score in scores]
        best = values.index(max(values) if row.info.higher_is_better else min(values))
        xs = tuple(float(number) for number, _ in known)
        lines.append(Series(run, xs, tuple(scores), palette[known[-1][1]], best))
    return lines


@dataclass(frozen=True)
class Plot:
    """A figure to draw by draw(*data), a function of ``figures``. name: the stem of its files. alt: alternative text.

    title: its caption on the page. inline: whether the page shows it (Figure 1 is an HTML table there).
    """

    name: str
    title: str
    alt: str
    draw: str
    data: tuple[Any, ...]
    inline: bool = True

    def hash(self) -> str:
        return digest(self.draw, json.loads(json.dumps(self.data)), self.alt, _code())


@cache
def _code() -> str:
    """Return a hash of the drawing code: the modules' text, the style, and matplotlib's version."""
    here = Path(__file__).parent
    sources = [(here / f"{name}.py").read_text(encoding="utf-8") for name in ("figures", "mixtures", "plots", "series")]
    return digest(*sources, str(STYLE), metadata.version("matplotlib"))


def draw_all(plots: Sequence[Plot], folder: Path) -> list[Path]:
    """Draw the figures that changed and return all files in order; files of obsolete figures are removed."""
    known = _manifest(folder)
    hashes = {plot.name: plot.hash() for plot in plots}
    stale = [p for p in plots if known.get(p.name) != hashes[p.name] or not all(f.is_file() for f in files(folder, p))]
    workers = min(len(stale), os.cpu_count() or 1)
    if len(stale) <= MAX_FIGURES_IN_PROCESS or workers < 2:
        for plot in stale:
            draw(plot, folder)
    else:
        with ProcessPoolExecutor(workers, get_context("spawn"), end_with_parent) as pool:
            list(pool.map(draw, stale, [folder] * len(stale)))
    for name in known.keys() - hashes.keys():
        for suffix in SUFFIXES:
            (folder / f"{name}{suffix}").unlink(missing_ok=True)
    if plots or known:
        write_atomically(folder / MANIFEST, lambda path: path.write_text(json.dumps(hashes, indent=1) + "\n"))
    return [path for plot in plots for path in files(folder, plot)]


def _manifest(folder: Path) -> dict[str, str]:
    try:
        found = parse_json(read_text(folder / MANIFEST))
    except (OSError, ValueError):
        return {}
    return {k: v for k, v in found.items() if re.fullmatch(r"[\w.-]+", k)} if isinstance(found, dict) else {}


def files(folder: Path, plot: Plot) -> list[Path]:
    return [folder / f"{plot.name}{suffix}" for suffix in SUFFIXES]


def draw(plot: Plot, folder: Path) -> None:
    """Draw one figure and write its files; the same data give the same bytes."""
    import matplotlib

    from cocabench.report import figures

    functions: dict[str, Callable[..., Figure]] = {
        f.__name__: f
        for f in (figures.scores, figures.differences, figures.pareto, figures.multiples, figures.curve, mixtures.line)
    }
    with matplotlib.rc_context(STYLE):
        figure = functions[plot.draw](*plot.data)
        _save(figure, folder / plot.name, plot.title)


def _save(figure: Figure, stem: Path, title: str) -> None:
    about = {
        ".svg": {"Date": None, "Creator": "cocabench", "Title": title},
        ".png": {"Software": "cocabench"},
        ".pdf": {"CreationDate": None, "Creator": "cocabench", "Producer": None},
    }
    for suffix, said in about.items():
        face = "none" if suffix == ".svg" else "white"

        def write(path: Path, suffix: str = suffix, said: Any = said, face: str = face) -> None:
            more: Any = {"pil_kwargs": {"optimize": True}} if suffix == ".png" else {}
            figure.savefig(path, format=suffix[1:], dpi=150, facecolor=face, metadata=said, **more)

        write_atomically(stem.with_name(stem.name + suffix), write)


def inline(plot: Plot, folder: Path) -> str:
    """Return a figure's SVG for the page: with the page's colours and font, and unique ids."""
    text = (folder / f"{plot.name}.svg").read_text(encoding="utf-8")
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'\bid="([^"]+)"', rf'id="{plot.name}-\1"', text)
    text = re.sub(r'(href="#|url\(#)', rf"\g<1>{plot.name}-", text)
    text = re.sub(
        r'^<svg [^>]*?viewBox="([^"]+)"[^>]*>',
        r'<svg viewBox="\1" aria-hidden="true" focusable="false">',
        text,
        flags=re.DOTALL,
    )
    return themed(text.replace("'DejaVu Sans'", "var(--sans)"))
