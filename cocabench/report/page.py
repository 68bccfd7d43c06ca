"""Render index.html: one self-contained file, rendered by jinja2 with everything escaped."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from cocabench.core import __version__
from cocabench.core.formatting import signed
from cocabench.kinds import find
from cocabench.report import cards, leaderboard, methods
from cocabench.report.content import Report
from cocabench.report.grid import Table, by_task, notes_of
from cocabench.report.headline import headline
from cocabench.report.methods import RecordRow
from cocabench.report.pair import Pair, PairRow, layout
from cocabench.report.plots import Plot
from cocabench.report.samples import TaskGalleries
from cocabench.report.series import MARKS, Style, css
from cocabench.results.difference import Difference, Finding
from cocabench.results.records import published_by

FINDINGS = [f"{Difference(0.0, finding=one).mark} {one}".strip() for one in list(Finding)[:3]]
"""The findings as text: first better, second better, not significant."""

MODELS_SHOWN_BY_DEFAULT = 8
"""Number of models, in leaderboard order, that the page shows by default; users can choose others."""


MAX_MODELS_IN_ROWS = 2
"""Up to this many models, the tables of a kind have a row per task and model; beyond, a part per task."""


MAX_ROWS_UNSCROLLED = 20
"""Tables with more rows scroll in a box of their own."""


LINE_BREAKS = re.compile(r"(?<=[-_/:])(?=[^-_/:\s])")
"""Positions at which a long name may be wrapped."""


def render(
    report: Report,
    tables: Mapping[str, Table],
    figures: Mapping[str, tuple[Plot, str]],
    palette: Mapping[str, Style],
    pairs: Sequence[Pair],
    galleries: Sequence[TaskGalleries],
    images: Mapping[str, str],
) -> str:
    """Return the page. figures: {name: the figure and its inline SVG}. images: {key: data URL}."""
    notes = notes_of(list(tables.values()))
    order = leaderboard.ranking(tables["standings"])
    appendix, shown_cards = methods.methods(report), cards.cards(report)
    style, script = asset("style.css"), asset("page.js")
    kinds = _kinds(report, tables)
    return (
        environment()
        .get_template("page.html")
        .render(
            report=report,
            headline=headline(report.comparison),
            tables=tables,
            kinds=kinds,
            groups=leaderboard.groups(report.comparison.rows),
            heat=leaderboard.heat(report, order),
            figures={name: (plot, Markup(svg)) for name, (plot, svg) in figures.items()},
            cards=shown_cards,
            methods=appendix,
            newest=max((r.created[:10] for r in report.by_key.values() if not published_by(r)), default=""),
            notes=notes,
            numbers={note: i for i, note in enumerate(notes, 1)},
            palette=palette,
            marks=MARKS,
            order=order,
            position={model: i for i, model in enumerate(report.models)},
            shown=set(order[:MODELS_SHOWN_BY_DEFAULT]),
            max_shown=MODELS_SHOWN_BY_DEFAULT,
            max_rows_unscrolled=MAX_ROWS_UNSCROLLED,
            pair=pairs[0] if pairs else None,
            pairs=pairs,
            galleries=galleries,
            layout=layout(pairs[0]) if pairs else None,
            sections=_sections(tables, kinds, pairs=bool(pairs), cards=bool(shown_cards), galleries=bool(galleries)),
            version=__version__,
            style=Markup(style + f":root {{ {css(palette)} }}"),
            script=Markup(script),
            script_hash=_hash(script),
            data=Markup(embedded(page_data(report, appendix.made, palette, pairs, images))),
        )
    )


class Section(NamedTuple):
    """The section of a kind of task: id, heading and tables."""

    id: str
    label: str
    tables: tuple[Table, ...]


def _kinds(report: Report, tables: Mapping[str, Table]) -> list[Section]:
    """Return the sections of the kinds of task; with many models their tables have a part per task."""
    found: dict[str, list[Table]] = {}
    for table in tables.values():
        if table.section:
            found.setdefault(table.section, []).append(
                by_task(table) if len(report.models) > MAX_MODELS_IN_ROWS else table
            )
    return [Section(slug(name), find(name).title(), tuple(made)) for name, made in found.items()]


def _sections(
    tables: Mapping[str, Table], kinds: Sequence[Section], *, pairs: bool, cards: bool, galleries: bool
) -> list[tuple[str, str]]:
    """Return (id, name) of the page's sections."""
    there = [
        ("leaderboard", "Leaderboard", True),
        ("tasks", "Tasks", True),
        ("pair", "Two models", pairs),
        *((kind.id, kind.label, True) for kind in kinds),
        ("cost", "Cost", "costs" in tables),
        ("coca", "CoCa", cards),
        ("checkpoints", "Checkpoints", "epochs" in tables),
        ("samples", "Samples", galleries),
        ("methods", "Methods", True),
    ]
    return [(key, name) for key, name, found in there if found]


def _hash(script: str) -> str:
    """Return the script's hash for the page's content security policy."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def tables_of(report: Report, more: Sequence[Table | None]) -> dict[str, Table]:
    """Return the page's non-empty tables by name, in page order."""
    found = [
        leaderboard.standings(report),
        leaderboard.tasks(report),
        leaderboard.means(report),
        *more,
        leaderboard.best_checkpoints(report),
    ]
    return {table.name: table for table in found if table is not None and table.lines}


def page_data(
    report: Report,
    made: Sequence[RecordRow],
    palette: Mapping[str, Style],
    pairs: Sequence[Pair],
    images: Mapping[str, str],
) -> dict[str, Any]:
    """Return the data for the page's script. made: a row per Record. images: {key: data URL}."""
    return {
        "models": _models(report, palette),
        "records": _records(made),
        "kinds": _figure_flags(report),
        "findings": FINDINGS,
        "pairs": _pairs(report, pairs),
        "images": images,
    }


def embedded(value: object) -> str:
    """Return JSON that is safe inside <script>: ``<``, ``>`` and ``&`` are escaped."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for letter in "<>&\u2028\u2029":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return text


def _models(report: Report, palette: Mapping[str, Style]) -> list[dict[str, Any]]:
    return [{"name": model, "colour": palette[model].colour, "mark": palette[model].mark} for model in report.models]


def _records(made: Sequence[RecordRow]) -> dict[str, Any]:
    """Return the data of the tooltips of numbers."""
    return {
        one.key: {
            "task": one.record.task,
            "model": one.record.model,
            "kind": one.record.evaluator,
            "primary": one.record.primary,
            "protocol": one.protocol,
            "signature": one.signature,
            "created": one.record.created[:10],
            "notes": [note.text for note in one.record.notes],
            "metrics": {
                name: [*(_short(v) for v in (e.value, e.low, e.high)), e.n, one.record.definitions[name].unit]
                for name, e in one.record.metrics.items()
                if name in one.record.definitions
            },
        }
        for one in made
    }


def _figure_flags(report: Report) -> dict[str, Any]:
    """Return {kind of task: its settings in Figure 1, null if it is not shown there}, for pairs drawn by the script."""
    names = dict.fromkeys(r.evaluator for r in report.records)
    return {name: asdict(figure) if (figure := find(name).shown.figure) else None for name in names}


def _short(value: float | None) -> float | None:
    """Return a number rounded to seven significant digits: more than the page shows."""
    return None if value is None else float(f"{value:.7g}")


def _pairs(report: Report, pairs: Sequence[Pair]) -> dict[str, Any]:
    """Return the rows of Figure 1 for every pair, keyed by the models' positions."""
    position = {model: i for i, model in enumerate(report.models)}
    return {
        f"{position[pair.first]}-{position[pair.second]}": {
            "kind": pair.kind,
            "about": pair.about,
            "rows": [_figure_row(row) for row in pair.rows],
        }
        for pair in pairs
    }


def _figure_row(row: PairRow) -> list[Any]:
    """Return a row of Figure 1: label, scores, difference, index into FINDINGS, and the details (p = …)."""
    said = FINDINGS[number] if (number := list(Finding).index(row.finding)) < len(FINDINGS) else ""
    return [row.label, *map(_rounded, (row.first, row.second, row.gap)), number, row.words.removeprefix(said)]


def _rounded(numbers: Sequence[float | None]) -> list[float | None]:
    return [None if number is None else round(number, 3) for number in numbers]


@cache
def environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("cocabench.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters: dict[str, Callable[..., object]] = {
        "signed": signed,
        "capitalised": lambda text: text[:1].upper() + text[1:],
        "breakable": breakable,
        "parts": parts,
    }
    environment.filters |= filters
    return environment


def asset(name: str) -> str:
    return (resources.files("cocabench.report") / "templates" / name).read_text(encoding="utf-8")


def breakable(text: str) -> Markup:
    """Return text with line breaks allowed after ``-``, ``_``, ``/`` and ``:``."""
    return Markup("<wbr>").join(map(escape, LINE_BREAKS.split(text)))


def parts(name: str) -> list[Markup]:
    """Return the parts of a model's name that are preferably not wrapped: architecture, and tag or path."""
    return [breakable(part) for part in re.split(r"(?<=:)(?=.)", name)]


def slug(name: str) -> str:
    """Return the HTML id of a kind of task: ``kind-linear-probe``."""
    return "kind-" + re.sub(r"[^a-z0-9]+", "-", name.lower())
