"""A site of many people's results: a page to search and filter, and the report of the same Records."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from markupsafe import Markup

from cocabench.core import __version__
from cocabench.core.errors import ResultsError
from cocabench.core.signature import short
from cocabench.core.types import Record
from cocabench.kinds import find
from cocabench.report.content import score_of
from cocabench.report.grid import of_estimate
from cocabench.report.page import asset, environment, hash_of
from cocabench.report.write import write_report
from cocabench.results import published as publications
from cocabench.results.compare import in_order
from cocabench.results.records import choose, joined, limit, published_by, read, standard
from cocabench.results.store import RecordSet, write_atomically
from cocabench.results.validation import problems
from cocabench.specs.registry import all_tasks

UNKNOWN = "not stated"


class Entry(NamedTuple):
    """A row of the site. size: millions of parameters, None if unknown. licence: of the data. source: its folder."""

    model: str
    kind: str
    task: str
    metric: str
    text: str
    half: str
    value: float | None
    n: int
    size: float | None
    licence: str
    date: str
    source: str
    signature: str


@dataclass(frozen=True)
class Choices:
    """The values to filter by, in the order of their menus."""

    kinds: tuple[str, ...]
    tasks: tuple[str, ...]
    licences: tuple[str, ...]
    sources: tuple[str, ...]


def check(folders: Sequence[Path]) -> None:
    """Raise ResultsError with every problem of the results folders, a line for each."""
    if found := [said for folder in folders for said in problems(folder)]:
        raise ResultsError("leaderboard", "\n  ".join(["Records that cannot be published:", *found]))


def write_site(folders: Sequence[Path], output: Path, *, published: Sequence[str] = (), title: str) -> list[Path]:
    """Validate results folders, one for each contributor, and write index.html and report/ to output.

    Raises ResultsError with all problems before anything is written. published: models NAME:TAG whose published
    numbers to show beside them.
    """
    check(folders)
    found = joined(
        [
            read(*folders),
            RecordSet(made := tuple(publications.as_records(published) if published else ()), (None,) * len(made)),
        ]
    )
    whole = [i for i, r in enumerate(found.records) if published_by(r) or (limit(r) is None and standard(r))]
    sources = {
        r.model: "published" if published_by(r) else _source(found.paths[i], folders) for i, r in enumerate(found)
    }
    kept = choose(found.records[i] for i in whole).records
    if not kept:
        raise ResultsError("leaderboard", "no whole result of a standard protocol", fix="run without --limit")
    entries = [_entry(record, sources[record.model]) for record in kept]
    report = write_report(
        RecordSet(tuple(found.records[i] for i in whole), tuple(found.paths[i] for i in whole)),
        output / "report",
        title=title,
        figures=False,
    )
    page = output / "index.html"
    text = render(entries, _choices(kept, entries), title)
    write_atomically(page, lambda path: path.write_text(text, encoding="utf-8"))
    return [page, *report]


def _source(path: Path | None, folders: Collection[Path]) -> str:
    """Return the name of the folder that a Record came from."""
    return next((folder.resolve().name for folder in folders if path and path.is_relative_to(folder)), UNKNOWN)


def _entry(record: Record, source: str) -> Entry:
    tasks = all_tasks()
    info, estimate = record.definitions[record.primary], record.metrics[record.primary]
    shown, score = of_estimate(estimate, info), score_of(estimate, info)
    size = sum(record.parameters.values()) / 1e6 if record.parameters else None
    licence = tasks[record.task].spec.licence if record.task in tasks else ""
    return Entry(
        record.model.removesuffix(publications.SUFFIX),
        find(record.evaluator).title(),
        record.task,
        record.primary,
        shown.text,
        shown.spread,
        score.value if score else None,
        estimate.n,
        size,
        licence or UNKNOWN,
        record.created[:10],
        source,
        short(record.signature),
    )


def _choices(records: Sequence[Record], entries: Sequence[Entry]) -> Choices:
    kinds = [find(kind).title() for kind in in_order(dict.fromkeys(r.evaluator for r in records))]
    licences, sources = ({getattr(entry, name) for entry in entries} for name in ("licence", "source"))
    tasks = dict.fromkeys(entry.task for kind in kinds for entry in entries if entry.kind == kind)
    return Choices(tuple(kinds), tuple(tasks), tuple(sorted(licences)), tuple(sorted(sources)))


def render(entries: Sequence[Entry], choices: Choices, title: str) -> str:
    """Return the page: one file, everything escaped, best first within a task; it reads without its script."""
    script, order = asset("site.js"), {task: place for place, task in enumerate(choices.tasks)}
    rows = sorted(entries, key=lambda e: (order[e.task], -(e.value if e.value is not None else -1e9), e.model))
    return (
        environment()
        .get_template("site.html")
        .render(
            entries=rows,
            choices=choices,
            page_title=title,
            version=__version__,
            style=Markup(asset("style.css")),
            script=Markup(script),
            script_hash=hash_of(script),
        )
    )
