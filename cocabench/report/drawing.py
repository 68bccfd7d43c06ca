"""Figures on disk, in SVG, PNG and PDF: drawn by several processes, and only where their data changed."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cocabench.core.signature import digest
from cocabench.report.colours import themed
from cocabench.results.store import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SUFFIXES = (".svg", ".png", ".pdf")
MANIFEST = "manifest.json"
ALONE = 3
"""Up to this many figures are drawn without other processes, whose start costs as much."""

STYLE: Any = {
    "svg.hashsalt": "cocabench",
    "svg.fonttype": "none",
    "pdf.fonttype": 42,
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "text.parse_math": False,
    "axes.facecolor": "none",
}


@dataclass(frozen=True)
class Plot:
    """A figure to be drawn: draw(*data), a function of a module. name: the stem of its files. alt: its content.

    title: what stands above it on the page. inline: the page shows it (Figure 1 is a table of the page's own).
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
    """Return a hash of what draws: the modules' text, the style, and matplotlib's version."""
    here = Path(__file__).parent
    sources = [
        (here / f"{name}.py").read_text(encoding="utf-8") for name in ("charts", "colours", "drawing", "figures")
    ]
    return digest(*sources, str(STYLE), metadata.version("matplotlib"))


def draw_all(plots: Sequence[Plot], folder: Path) -> list[Path]:
    """Draw what changed and return the files of all, in order. Files of figures that are no more are removed."""
    known = _manifest(folder)
    hashes = {plot.name: plot.hash() for plot in plots}
    stale = [p for p in plots if known.get(p.name) != hashes[p.name] or not all(f.is_file() for f in files(folder, p))]
    workers = min(len(stale), os.cpu_count() or 1)
    if len(stale) <= ALONE or workers < 2:
        for plot in stale:
            draw(plot, folder)
    else:
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            list(pool.map(draw, stale, [folder] * len(stale)))
    for name in known.keys() - hashes.keys():
        for suffix in SUFFIXES:
            (folder / f"{name}{suffix}").unlink(missing_ok=True)
    if plots or known:
        write_atomically(folder / MANIFEST, lambda path: path.write_text(json.dumps(hashes, indent=1) + "\n"))
    return [path for plot in plots for path in files(folder, plot)]


def _manifest(folder: Path) -> dict[str, str]:
    try:
        found = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {k: v for k, v in found.items() if re.fullmatch(r"[\w.-]+", k)} if isinstance(found, dict) else {}


def files(folder: Path, plot: Plot) -> list[Path]:
    return [folder / f"{plot.name}{suffix}" for suffix in SUFFIXES]


def draw(plot: Plot, folder: Path) -> None:
    """Draw one figure and write its files; the same data give the same bytes."""
    import matplotlib

    from cocabench.report import charts, figures

    functions: dict[str, Callable[..., Figure]] = {
        f.__name__: f for f in (figures.scores, figures.differences, charts.pareto, charts.multiples, charts.curve)
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
    """Return a figure's SVG as a part of the page: in the page's colours and font, with ids of its own."""
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
