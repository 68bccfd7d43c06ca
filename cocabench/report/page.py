"""index.html: one file with everything in it, made by jinja2 with everything escaped."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from cocabench import __version__
from cocabench.compare import published_by
from cocabench.report import cards, curves, leaderboard, methods
from cocabench.report.colours import Style, css
from cocabench.report.content import Report
from cocabench.report.drawing import Plot
from cocabench.report.grid import Table, notes_of
from cocabench.report.headline import headline
from cocabench.report.layout import layout
from cocabench.report.looks import Look
from cocabench.report.pair import Pair
from cocabench.text import signed

SHOWN_AT_FIRST = 8
"""Models whose columns are shown at first; the others are chosen on the page."""


def render(
    report: Report,
    tables: Mapping[str, Table],
    figures: Mapping[str, tuple[Plot, str]],
    palette: Mapping[str, Style],
    pairs: Sequence[Pair],
    looks: Sequence[Look],
    images: Mapping[str, str],
) -> str:
    """Return the page. figures: {name: the figure and its SVG as ``drawing.inline`` returns it}. images: data URLs."""
    templates = environment()
    notes = notes_of(list(tables.values()))
    told = {
        "models": _models(report, palette),
        "records": _records(report),
        "pairs": _pairs(report, pairs),
        "images": images,
    }
    shown_cards = cards.cards(report)
    style, script = _asset("style.css"), _asset("page.js")
    return templates.get_template("page.html").render(
        report=report,
        headline=headline(report.comparison),
        tables=tables,
        groups=leaderboard.groups(report.comparison.rows),
        figures={name: (plot, Markup(svg)) for name, (plot, svg) in figures.items()},
        cards=shown_cards,
        methods=methods.methods(report),
        newest=max((r.created[:10] for r in report.by_key.values() if not published_by(r)), default=""),
        notes=notes,
        numbers={note: i for i, note in enumerate(notes, 1)},
        palette=palette,
        pair=pairs[0] if pairs else None,
        pairs=pairs,
        shown=set(report.models[:SHOWN_AT_FIRST]),
        looks=looks,
        layout=layout(pairs[0]) if pairs else None,
        sections=_sections(tables, pairs, bool(shown_cards), bool(looks)),
        version=__version__,
        style=Markup(style + f":root {{ {css(palette)} }}"),
        script=Markup(script),
        script_hash=_hash(script),
        data=Markup(embedded(told)),
    )


def _sections(
    tables: Mapping[str, Table], pairs: Sequence[Pair], with_cards: bool, looks: bool
) -> list[tuple[str, str]]:
    """Return (id, name) of the sections that the page has."""
    there = {
        "leaderboard": True,
        "tasks": True,
        "pair": bool(pairs),
        "retrieval": any(name.startswith("retrieval") for name in tables),
        "captioning": "captioning" in tables,
        "cost": "costs" in tables,
        "coca": with_cards,
        "checkpoints": "epochs" in tables,
        "closer": looks,
        "methods": True,
    }
    names = {"closer": "Look closer", "pair": "Two models", "coca": "CoCa"}
    return [(key, names.get(key, key.capitalize())) for key, found in there.items() if found]


@cache
def environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("cocabench.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"signed": signed, "capitalised": lambda text: text[:1].upper() + text[1:]}
    return environment


def _asset(name: str) -> str:
    return (resources.files("cocabench.report") / "templates" / name).read_text(encoding="utf-8")


def _hash(script: str) -> str:
    """Return what the page's content security policy allows to run."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def embedded(value: object) -> str:
    """Return JSON that is safe inside <script>: no ``<``, ``>`` or ``&`` is left in it."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for letter in "<>&\u2028\u2029":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return text


def _models(report: Report, palette: Mapping[str, Style]) -> list[dict[str, Any]]:
    return [{"name": model, "colour": palette[model].colour, "mark": palette[model].mark} for model in report.models]


def _records(report: Report) -> dict[str, Any]:
    """Return what the page says of a number when it is pointed at."""
    return {
        made.key: {
            "task": made.record.task,
            "model": made.record.model,
            "kind": made.record.evaluator,
            "primary": made.record.primary,
            "protocol": made.protocol,
            "signature": made.signature,
            "created": made.record.created[:10],
            "warnings": made.record.warnings,
            "metrics": {
                name: [e.value, e.low, e.high, e.n, made.record.definitions[name].unit]
                for name, e in made.record.metrics.items()
                if name in made.record.definitions
            },
        }
        for made in methods.methods(report).made
    }


def _pairs(report: Report, pairs: Sequence[Pair]) -> dict[str, Any]:
    """Return the rows of Figure 1 for every pair, by the models' positions."""
    position = {model: i for i, model in enumerate(report.models)}
    return {
        f"{position[pair.first]}-{position[pair.second]}": {
            "kind": pair.kind,
            "about": pair.about,
            "rows": [[row.label, *map(_rounded, (row.first, row.second, row.gap)), row.finding] for row in pair.rows],
        }
        for pair in pairs
    }


def _rounded(numbers: Sequence[float | None]) -> list[float | None]:
    return [None if number is None else round(number, 3) for number in numbers]


def tables_of(report: Report, more: Sequence[Table | None]) -> dict[str, Table]:
    """Return the page's tables by name, in its order, those that have nothing left out."""
    found = [
        leaderboard.standings(report),
        leaderboard.tasks(report),
        leaderboard.means(report),
        *more,
        curves.best(report),
    ]
    return {table.name: table for table in found if table is not None and table.lines}
