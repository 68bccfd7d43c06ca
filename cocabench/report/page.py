"""index.html: one file with everything in it, made by jinja2 with everything escaped."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from markupsafe import Markup

from cocabench import __version__
from cocabench.report import cards, curves, leaderboard, methods, tasks
from cocabench.report.colours import MARKS, Style, css
from cocabench.report.content import Report
from cocabench.report.drawing import Plot
from cocabench.report.grid import Table, by_task, notes_of
from cocabench.report.headline import headline
from cocabench.report.heat import heat
from cocabench.report.jinja import asset, environment, slug
from cocabench.report.layout import layout
from cocabench.report.looks import Look
from cocabench.report.pair import Pair
from cocabench.report.told import embedded, told
from cocabench.results.compare import published_by

SHOWN_AT_FIRST = 8
"""Models that are shown at first beside the leaderboard, its first ones; the others are chosen on the page."""

FEW = 2
"""Models up to which the tables of a kind of task have a line per task; of more, each task is a part of its own."""

TALL = 20
"""Lines beyond which a table scrolls in a box of its own."""


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
    notes = notes_of(list(tables.values()))
    order = leaderboard.ranking(tables["standings"])
    told_of, shown_cards = methods.methods(report), cards.cards(report)
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
            heat=heat(report, order),
            figures={name: (plot, Markup(svg)) for name, (plot, svg) in figures.items()},
            cards=shown_cards,
            methods=told_of,
            newest=max((r.created[:10] for r in report.by_key.values() if not published_by(r)), default=""),
            notes=notes,
            numbers={note: i for i, note in enumerate(notes, 1)},
            palette=palette,
            marks=MARKS,
            order=order,
            position={model: i for i, model in enumerate(report.models)},
            shown=set(order[:SHOWN_AT_FIRST]),
            most_shown=SHOWN_AT_FIRST,
            tall=TALL,
            pair=pairs[0] if pairs else None,
            pairs=pairs,
            looks=looks,
            layout=layout(pairs[0]) if pairs else None,
            sections=_sections(tables, kinds, pairs=bool(pairs), cards=bool(shown_cards), looks=bool(looks)),
            version=__version__,
            style=Markup(style + f":root {{ {css(palette)} }}"),
            script=Markup(script),
            script_hash=_hash(script),
            data=Markup(embedded(told(report, told_of.made, palette, pairs, images))),
        )
    )


class Kind(NamedTuple):
    """A kind of task with a section of its own: the section's id and heading."""

    id: str
    label: str
    tables: tuple[Table, ...]


def _kinds(report: Report, tables: Mapping[str, Table]) -> list[Kind]:
    """Return the sections of kinds of tasks, their tables by task where there are many models."""
    found: dict[str, list[Table]] = {}
    for table in tables.values():
        if table.section:
            found.setdefault(table.section, []).append(by_task(table) if len(report.models) > FEW else table)
    return [Kind(slug(name), name.replace("_", " ").capitalize(), tuple(made)) for name, made in found.items()]


def _sections(
    tables: Mapping[str, Table], kinds: Sequence[Kind], *, pairs: bool, cards: bool, looks: bool
) -> list[tuple[str, str]]:
    """Return (id, name) of the sections that the page has."""
    there = [
        ("leaderboard", "Leaderboard", True),
        ("tasks", "Tasks", True),
        ("pair", "Two models", pairs),
        *((kind.id, kind.label, True) for kind in kinds),
        ("cost", "Cost", "costs" in tables),
        ("coca", "CoCa", cards),
        ("checkpoints", "Checkpoints", "epochs" in tables),
        ("closer", "Look closer", looks),
        ("methods", "Methods", True),
    ]
    return [(key, name) for key, name, found in there if found]


def _hash(script: str) -> str:
    """Return what the page's content security policy allows to run."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def tables_of(report: Report, more: Sequence[Table | None]) -> dict[str, Table]:
    """Return the page's tables by name, in its order, those that have nothing left out."""
    found = [
        leaderboard.standings(report),
        tasks.tasks(report),
        tasks.means(report),
        *more,
        curves.best(report),
    ]
    return {table.name: table for table in found if table is not None and table.lines}
