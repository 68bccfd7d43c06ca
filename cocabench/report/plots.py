"""The figures of a report as files in SVG, PNG and PDF. Only those that changed are drawn."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from importlib import metadata
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cocabench.core.files import parse_json, read_text
from cocabench.core.helpers import end_with_parent
from cocabench.core.signature import digest
from cocabench.report.charts import Chart, Dots, Forest
from cocabench.report.page import Content
from cocabench.results.store import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SUFFIXES = (".svg", ".png", ".pdf")
MANIFEST = "manifest.json"
DIFFERENCES = "differences"

MAX_FIGURES_IN_PROCESS = 3
"""Up to this many figures are drawn in this process, since starting others costs as much."""

STYLE: Any = {
    "svg.hashsalt": "cocabench",
    "svg.fonttype": "none",
    "pdf.fonttype": 42,
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "text.parse_math": False,
    "axes.facecolor": "none",
}


@dataclass(frozen=True)
class Plot:
    """A figure to draw. name: the stem of its files. styles: (model, its short name, the index of its colour)."""

    name: str
    title: str
    data: Forest | Dots | Chart
    styles: tuple[tuple[str, str, int], ...]

    def hash(self) -> str:
        return digest(repr(self), _code())


@cache
def _code() -> str:
    """Return a hash of the drawing code: the modules' text, the style, and matplotlib's version."""
    here = Path(__file__).parent
    sources = [(here / f"{name}.py").read_text(encoding="utf-8") for name in ("figures", "plots", "style")]
    return digest(*sources, str(STYLE), metadata.version("matplotlib"))


def plots(content: Content) -> list[Plot]:
    """Return the figures in the order of the page; their names are those of their data."""
    styles = tuple((model, content.report.names[model], i) for i, model in enumerate(content.found.shown))
    return [Plot(name, title, data, styles) for name, title, data in _figures(content)]


def _figures(content: Content) -> Iterator[tuple[str, str, Forest | Dots | Chart]]:
    names = content.report.names
    for forest in content.forests[:1]:
        yield DIFFERENCES, f"Paired differences from {names[forest.base]}", forest
    for section in content.sections:
        made: list[Dots | Chart] = [*([section.dots] if section.dots else []), *section.curves, *section.groups]
        for one in made:
            yield one.name, one.caption, one
    if content.standing:
        yield content.standing.name, content.standing.caption, content.standing
    for chart in (*content.epoch_charts, *content.mixture_charts, *content.cost_charts):
        yield chart.name, chart.caption, chart


def with_figures(content: Content) -> Content:
    """Return content that links to its figures."""
    return replace(content, figures=frozenset(plot.name for plot in plots(content)))


def draw_all(plots: Sequence[Plot], folder: Path, *, processes: int = 1) -> list[Path]:
    """Draw the figures that changed and return all files in order; files of obsolete figures are removed.

    processes: more than one starts others, which import the caller's main module: it needs a main guard.
    """
    known = _manifest(folder)
    hashes = {plot.name: plot.hash() for plot in plots}
    stale = [p for p in plots if known.get(p.name) != hashes[p.name] or not all(f.is_file() for f in files(folder, p))]
    workers = min(len(stale), processes)
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

    functions: dict[type, Callable[..., Figure]] = {Forest: figures.forest, Dots: figures.dots, Chart: figures.chart}
    with matplotlib.rc_context(STYLE):
        figure = functions[type(plot.data)](plot.data, {model: (name, i) for model, name, i in plot.styles})
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
            figure.savefig(path, format=suffix[1:], dpi=150, facecolor=face, metadata=said)

        write_atomically(stem.with_name(stem.name + suffix), write)
