"""Render index.html: one self-contained file, by jinja2 with everything escaped. It reads without scripts."""

from __future__ import annotations

import base64
import hashlib
import re
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from functools import cache, cached_property
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from cocabench.core import __version__
from cocabench.core.formatting import plural
from cocabench.core.signature import digest, short
from cocabench.kinds import find
from cocabench.report import charts, differences, drawing, headline, methods, notes
from cocabench.report.charts import Chart, Dots, Forest
from cocabench.report.content import Report
from cocabench.report.differences import Differences, Subject
from cocabench.report.grid import Table
from cocabench.report.headline import Name, Strong
from cocabench.report.languages import LanguageHeat
from cocabench.report.leaderboard import Heat, Leaderboard
from cocabench.report.pictures import FIRST_CARDS, Thumbnail
from cocabench.report.sections import Section
from cocabench.report.skills import SkillCard
from cocabench.report.style import DARK, LIGHT
from cocabench.results import published as publications
from cocabench.results.records import published_by

DEFAULT_TITLE = "cocabench report"

LINE_BREAKS = re.compile(r"(?<=[-_/:])(?=[^-_/:\s])")
"""Positions at which a long name may be wrapped."""

MAX_UNBROKEN = 10
"""Letters of a name that is not wrapped."""

MAX_ROWS_UNSCROLLED = 20
"""Tables with more rows scroll in a box of their own."""

MAX_SIGNATURES = 200
"""More are in tables/signatures.csv alone."""

MAX_ALL_SHOWN = 4
"""With more models in colour, cards and lists show those chosen as A and B."""


@dataclass(frozen=True)
class Content:
    """What the page shows. tables: all by name. The charts are those of ``sections`` and ``mixtures``."""

    report: Report
    found: Differences
    board: Leaderboard
    heat: Heat | None
    languages: tuple[LanguageHeat, ...]
    sections: tuple[Section, ...]
    skills: tuple[SkillCard, ...]
    tables: Mapping[str, Table]
    cost_charts: tuple[Chart, ...]
    epoch_charts: tuple[Chart, ...]
    mixture_charts: tuple[Chart, ...]
    standing: Dots | None
    thumbnails: tuple[Thumbnail, ...]
    keys: Callable[[Section, str, str], str]
    figures: frozenset[str]

    @cached_property
    def pair(self) -> tuple[str, ...]:
        """A and B at first: the baseline or the first model, and the best of the others."""
        shown = self.found.shown
        first = next((m for m in shown if m in self.report.baseline), shown[0])
        others = [m for m in self.found.order(shown) if m != first]
        return (first, *others[:1])

    @cached_property
    def forests(self) -> list[Forest]:
        """A forest per model in colour, that of A first; none where nothing can be compared."""
        bases = [self.pair[0], *(m for m in self.found.shown if m != self.pair[0])]
        made = [charts.forest(base, self._groups, self.found.shown) for base in bases]
        return [one for one in made if one.parts] if len(bases) > 1 else []

    @cached_property
    def more_forests(self) -> list[Forest]:
        """A forest per model without a colour: those in colour compared with it."""
        others = [model for model in self.report.models if model not in self.found.shown]
        made = [charts.forest(base, self._groups, self.found.shown) for base in others]
        return [one for one in made if one.parts]

    @cached_property
    def _groups(self) -> list[tuple[str, list[Subject]]]:
        """The subjects of each kind of task under its title, a mean first."""
        return [
            (
                area.title,
                [*([subject] if (subject := self.found.of(area)) and subject.mean else []), *self.found.in_area(area)],
            )
            for area in self.report.areas
        ]


def render(content: Content) -> str:
    """Return the page."""
    report, found = content.report, content.found
    style, script = asset("style.css"), asset("page.js")
    first = headline.headline(report, found)
    noted = notes.notes(report, found)
    return (
        environment()
        .get_template("page.html")
        .render(
            content=content,
            report=report,
            found=found,
            title=report.title,
            default_title=DEFAULT_TITLE,
            page_title=headline.plain_text(first, report.names) if report.title == DEFAULT_TITLE else report.title,
            headline=first,
            findings=headline.findings(report, found),
            names=report.names,
            colours={model: i for i, model in enumerate(found.shown)},
            pair=content.pair,
            facts=_facts(report),
            skips=notes.skips(report),
            sources=publications.describe([r for r in report.records if published_by(r)]),
            absent=notes.absent(report),
            undecoded=notes.undecoded(report),
            noted=noted,
            sections=_navigation(content),
            tested=_tested(found),
            methods=methods.methods(report),
            rerun=rerun(report),
            cite=cite(report),
            version=__version__,
            max_rows=MAX_ROWS_UNSCROLLED,
            max_all=MAX_ALL_SHOWN,
            max_plain_label=drawing.MAX_PLAIN_LABEL,
            max_signatures=MAX_SIGNATURES,
            first_cards=FIRST_CARDS,
            style=Markup(f"{style}\n:root {{ {_colours(len(found.shown))} }}"),
            script=Markup(script),
            script_hash=hash_of(script),
            metric_label=_label,
            region_label=_region,
            BEST=differences.BEST,
            UNBEATEN=differences.UNBEATEN,
        )
    )


def _label(kind: str, column: str) -> str:
    """Return the heading of a table's column: a metric's label, or the words as a sentence begins."""
    metric = find(kind).metric(column) if kind else None
    if metric and metric.label:
        return metric.label
    return column[:1].upper() + column[1:] if re.fullmatch(r"[a-z][a-z ]*", column) else column


def _region(table: Table) -> str:
    """Return how a table that scrolls is announced: tables of several kinds of task have the same caption."""
    return f"{find(table.section).title()}: {table.caption}" if table.section else table.caption


def _facts(report: Report) -> list[str]:
    """Return ``14 tasks of 4 kinds``, the date and the version."""
    tasks, kinds = len(report.comparison.rows), len(report.areas)
    of_kinds = f" of {kinds} kinds" if kinds > 1 else f" of {report.areas[0].title.lower()}" if report.areas else ""
    found = [plural(tasks, "task") + of_kinds]
    if day := newest(report):
        found.append(day)
    return [*found, f"cocabench {__version__}"]


def newest(report: Report) -> str:
    """Return the day of the newest measured Record, ``30 November 2026``; '' if all are published."""
    days = [r.created[:10] for r in report.by_key.values() if not published_by(r)]
    if not days:
        return ""
    day = date.fromisoformat(max(days))
    return f"{day.day} {day:%B %Y}"


def _tested(found: Differences) -> dict[str, int]:
    """Return how many differences of tasks and of means have a p-value, for the sentence on the correction."""
    counts = {}
    for name, subjects in (("tasks", found.tasks), ("means", found.means)):
        counts[name] = sum(gap.p_value is not None for subject in subjects for gap in subject.gaps.values())
    return counts


def _navigation(content: Content) -> list[tuple[str, str]]:
    """Return (id, name) of the page's sections."""
    there = [
        ("pictures", "Pictures", any(section.strips for section in content.sections)),
        ("leaderboard", "Leaderboard", True),
        ("skills", "Skills", bool(content.skills)),
        *((section.id, section.area.title, True) for section in content.sections),
        ("datacomp", "DataComp", "datacomp" in content.tables),
        ("languages", "Languages", "languages" in content.tables),
        ("checkpoints", "Checkpoints", bool(content.epoch_charts)),
        ("mixtures", "Mixtures", bool(content.mixture_charts)),
        ("published", "Published models", content.standing is not None),
        ("cost", "Cost", bool(content.cost_charts) or "costs" in content.tables),
        ("notes", "Notes", True),
        ("methods", "Methods", True),
    ]
    return [(key, name) for key, name, found in there if found]


def rerun(report: Report) -> str:
    """Return the commands that measure again what the page shows; of published models the report alone."""
    measured = [r for r in report.by_key.values() if not published_by(r)]
    published = [m.removesuffix(" (published)") for m in (report.apart or report.models) if m.endswith(" (published)")]
    more = f" --published {','.join(published)}" if published else ""
    if not measured:
        return f"cocabench report{more}"
    models, tasks = (list(dict.fromkeys(getattr(r, name) for r in measured)) for name in ("model", "task"))
    quoted = [f"'{name}'" if re.search(r"[^\w./:@+-]", name) else name for name in models]
    return f"cocabench run --model {','.join(quoted)} --tasks {','.join(tasks)}\ncocabench report results{more}"


def cite(report: Report) -> str:
    """Return one line that names the version, the content by its hash, the day and the counts."""
    content = digest(
        [[r.model, r.task, short(r.signature), r.model_dump(mode="json")["metrics"]] for r in report.by_key.values()]
    )
    counts = [
        plural(len(report.comparison.models), "model"),
        plural(len(report.comparison.rows), "task"),
        plural(len(report.by_key), "result"),
    ]
    parts = [f"cocabench {__version__}", f"report {content[:12]}", newest(report), ", ".join(counts)]
    return ", ".join(part for part in parts if part) + "."


def _colours(n: int) -> str:
    return " ".join(f"--c{i}: light-dark({LIGHT[i]}, {DARK[i]});" for i in range(n))


def hash_of(script: str) -> str:
    """Return the script's hash for the page's content security policy."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


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
        "breakable": breakable,
        "capitalised": lambda text: text[:1].upper() + text[1:],
        "commands": notes.with_commands,
        "drawn": drawing.drawn,
        "packed": packed,
        "percent": lambda share: f"{100 * share:.2f}".rstrip("0").rstrip(".") + "%",
        "plural": plural,
    }
    environment.filters |= filters
    environment.tests |= {"name": lambda part: isinstance(part, Name), "strong": lambda part: isinstance(part, Strong)}
    return environment


def packed(markup: str) -> str:
    """Return markup as base64 of a zlib stream, which the page's script unpacks: rows of one shape take a tenth."""
    return base64.b64encode(zlib.compress(markup.encode(), 9)).decode()


def asset(name: str) -> str:
    return (resources.files("cocabench.report") / "templates" / name).read_text(encoding="utf-8")


def breakable(text: str) -> Markup:
    """Return text with line breaks allowed after ``-``, ``_``, ``/`` and ``:``; short words stay whole."""
    if len(text) <= MAX_UNBROKEN:
        return escape(text)
    return Markup("<wbr>").join(map(escape, LINE_BREAKS.split(text)))


TESTED = ("value", "low", "high", "p_value", "adjusted", "detectable", "finding")


def jsonable(content: Content) -> dict[str, Any]:
    """Return what the page says and tests, for data.json."""
    report, found = content.report, content.found
    return {
        "headline": headline.plain_text(headline.headline(report, found), report.names),
        "findings": [
            {"kind": f.kind, "ranking": f.ranking, "text": headline.plain_text(f.text, report.names)}
            for f in headline.findings(report, found)
        ],
        "names": dict(report.names),
        "shown": found.shown,
        "unbeaten": {model: found.unbeaten(model) for model in report.models},
        "differences": [
            {
                "task": subject.key,
                "first": a,
                "second": b,
                **{
                    name: getattr(gap, name)
                    for name in ("value", "low", "high", "p_value", "adjusted", "detectable", "finding")
                },
            }
            for subject in (*found.means, *found.tasks)
            for (a, b), gap in subject.gaps.items()
        ],
    }
