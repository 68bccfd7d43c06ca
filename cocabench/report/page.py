"""index.html: one file with everything in it, made by jinja2 with everything escaped."""

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
from cocabench.report.methods import Made
from cocabench.report.pair import Pair, PairRow, layout
from cocabench.report.plots import Plot
from cocabench.report.samples import Look
from cocabench.report.series import MARKS, Style, css
from cocabench.results.difference import Difference, Finding
from cocabench.results.records import published_by

FINDINGS = [f"{Difference(0.0, finding=one).mark} {one}".strip() for one in list(Finding)[:3]]
"""What the test of two models says in words: the first is better, the second, no difference found."""

MODELS_SHOWN_AT_FIRST = 8
"""Models that are shown at first beside the leaderboard, its first ones; the others are chosen on the page."""


MAX_MODELS_IN_LINES = 2
"""Models up to which the tables of a kind of task have a line per task; of more, each task is a part of its own."""


MAX_LINES_UNSCROLLED = 20
"""Lines beyond which a table scrolls in a box of its own."""


SEAM = re.compile(r"(?<=[-_/:])(?=[^-_/:\s])")
"""Where a long name may be broken."""


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
            heat=leaderboard.heat(report, order),
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
            shown=set(order[:MODELS_SHOWN_AT_FIRST]),
            most_shown=MODELS_SHOWN_AT_FIRST,
            tall=MAX_LINES_UNSCROLLED,
            pair=pairs[0] if pairs else None,
            pairs=pairs,
            looks=looks,
            layout=layout(pairs[0]) if pairs else None,
            sections=_sections(tables, kinds, pairs=bool(pairs), cards=bool(shown_cards), looks=bool(looks)),
            version=__version__,
            style=Markup(style + f":root {{ {css(palette)} }}"),
            script=Markup(script),
            script_hash=_hash(script),
            data=Markup(embedded(page_data(report, told_of.made, palette, pairs, images))),
        )
    )


class Section(NamedTuple):
    """A kind of task with a section of its own: the section's id and heading."""

    id: str
    label: str
    tables: tuple[Table, ...]


def _kinds(report: Report, tables: Mapping[str, Table]) -> list[Section]:
    """Return the sections of kinds of tasks, their tables by task where there are many models."""
    found: dict[str, list[Table]] = {}
    for table in tables.values():
        if table.section:
            found.setdefault(table.section, []).append(
                by_task(table) if len(report.models) > MAX_MODELS_IN_LINES else table
            )
    return [Section(slug(name), find(name).title(), tuple(made)) for name, made in found.items()]


def _sections(
    tables: Mapping[str, Table], kinds: Sequence[Section], *, pairs: bool, cards: bool, looks: bool
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
        leaderboard.tasks(report),
        leaderboard.means(report),
        *more,
        leaderboard.best_checkpoints(report),
    ]
    return {table.name: table for table in found if table is not None and table.lines}


def page_data(
    report: Report, made: Sequence[Made], palette: Mapping[str, Style], pairs: Sequence[Pair], images: Mapping[str, str]
) -> dict[str, Any]:
    """Return the data of the page. made: a line per Record. images: data URLs."""
    return {
        "models": _models(report, palette),
        "records": _records(made),
        "kinds": _figure_flags(report),
        "findings": FINDINGS,
        "pairs": _pairs(report, pairs),
        "images": images,
    }


def embedded(value: object) -> str:
    """Return JSON that is safe inside <script>: no ``<``, ``>`` or ``&`` is left in it."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for letter in "<>&\u2028\u2029":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return text


def _models(report: Report, palette: Mapping[str, Style]) -> list[dict[str, Any]]:
    return [{"name": model, "colour": palette[model].colour, "mark": palette[model].mark} for model in report.models]


def _records(made: Sequence[Made]) -> dict[str, Any]:
    """Return what the page says of a number when it is pointed at."""
    return {
        one.key: {
            "task": one.record.task,
            "model": one.record.model,
            "kind": one.record.evaluator,
            "primary": one.record.primary,
            "protocol": one.protocol,
            "signature": one.signature,
            "created": one.record.created[:10],
            "warnings": [note.text for note in one.record.notes],
            "metrics": {
                name: [*(_short(v) for v in (e.value, e.low, e.high)), e.n, one.record.definitions[name].unit]
                for name, e in one.record.metrics.items()
                if name in one.record.definitions
            },
        }
        for one in made
    }


def _figure_flags(report: Report) -> dict[str, Any]:
    """Return {kind of task: how it stands in Figure 1, null where it does not}, for pairs that the script makes."""
    names = dict.fromkeys(r.evaluator for r in report.records)
    return {name: asdict(figure) if (figure := find(name).shown.figure) else None for name in names}


def _short(value: float | None) -> float | None:
    """Return a number with more digits than the page shows, and fewer than it would take."""
    return None if value is None else float(f"{value:.7g}")


def _pairs(report: Report, pairs: Sequence[Pair]) -> dict[str, Any]:
    """Return the rows of Figure 1 for every pair, by the models' positions."""
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
    """Return a row of Figure 1: label, scores, difference, which of FINDINGS, and what stands behind that (p = …)."""
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
    """Return a text that a browser may break after the signs that join names: ``-``, ``_``, ``/`` and ``:``."""
    return Markup("<wbr>").join(map(escape, SEAM.split(text)))


def parts(name: str) -> list[Markup]:
    """Return the parts of a model's name that a browser keeps whole where it can: architecture, tag or path."""
    return [breakable(part) for part in re.split(r"(?<=:)(?=.)", name)]


def slug(name: str) -> str:
    """Return a name as an id of the page: ``kind-linear-probe``."""
    return "kind-" + re.sub(r"[^a-z0-9]+", "-", name.lower())
