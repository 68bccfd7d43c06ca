"""The tables of each kind of task, the blog's among them: a line per task and model, a column per metric."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from cocabench.report.content import Report
from cocabench.report.grid import Entry, Line, Table, of_cell
from cocabench.results import published as publications
from cocabench.results.compare import Comparison, Row, choose, compare

CAPTION_METRICS = ("BLEU@1", "BLEU@2", "BLEU@3", "BLEU@4", "METEOR", "ROUGE-L", "CIDEr", "SPICE")
DIRECTIONS = {
    "t2i": "Text to image: captions that find their image among the first K",
    "i2t": "Image to text: images that find one of their captions among the first K",
}
SHOWN_OTHERWISE = ("classification", "retrieval", "captioning")
PUBLISHED = "published elsewhere, set apart: another protocol or other weights"


def pivots(report: Report) -> list[Table]:
    """Return the tables of every kind of task that has metrics to show beside its primary one."""
    return [*retrieval(report), *captioning(report), *others(report)]


def retrieval(report: Report) -> list[Table]:
    """Return recall@K, a table per direction, as Table 2 of the blog."""
    tables = []
    for direction, words in DIRECTIONS.items():
        rows = [row for row in report.everything.rows if row.metric.startswith(f"{direction}_")]
        recalls = {r.metric for r in rows if r.metric.startswith(f"{direction}_recall@")}
        names = sorted(recalls, key=lambda name: int(name.rpartition("@")[2]))
        names += [m for m in dict.fromkeys(row.metric for row in rows) if m not in recalls]
        if recalls:
            tables.append(_pivot(report, f"retrieval_{direction}", words, rows, names, "retrieval"))
    return tables


def captioning(report: Report) -> list[Table]:
    """Return the caption metrics, as Table 4 of the blog, with what was published on the same tasks set apart.

    SPICE's sub-scores and the captions' health follow in tables of their own.
    """
    every = [row for row in report.everything.rows if row.evaluator == "captioning"]
    rows = [row for row in every if row.info.kind == "quality"]
    if not rows:
        return []
    apart = _published(report, {row.task for row in rows})
    found = dict.fromkeys(row.metric for row in (*rows, *(apart.rows if apart else ())))
    names = [m for m in CAPTION_METRICS if m in found] + [m for m in found if m not in CAPTION_METRICS]
    main = [name for name in names if "-" not in name or name in CAPTION_METRICS]
    table = _pivot(report, "captioning", "Captions against people's references", rows, main, "captioning")
    more = _lines(apart, apart.rows, main, {}, part=PUBLISHED) if apart else ()
    table = replace(table, lines=(*table.lines, *more))
    parts = [row for row in rows if row.metric not in main]
    health = [row for row in every if row.info.kind == "health"]
    further = (("spice", "SPICE by kind of tuple", parts), ("health", "Captions health, whatever they say", health))
    return [table, *(_further(report, *part) for part in further if part[-1])]


def _further(report: Report, name: str, caption: str, rows: Sequence[Row]) -> Table:
    metrics = list(dict.fromkeys(row.metric for row in rows))
    return _pivot(report, f"captioning_{name}", caption, rows, metrics, "captioning")


def others(report: Report) -> list[Table]:
    """Return a table for each further kind of task that has more than its primary metric, an evaluator's metrics."""
    rows = [row for row in report.everything.rows if row.evaluator not in SHOWN_OTHERWISE]
    tables = []
    for kind in dict.fromkeys(row.evaluator for row in rows):
        mine = [row for row in rows if row.evaluator == kind]
        metrics = list(dict.fromkeys(row.metric for row in sorted(mine, key=lambda row: not row.primary)))
        if len(metrics) > 1:
            tables.append(_pivot(report, kind, "Every metric", mine, metrics, kind))
    return tables


def _published(report: Report, tasks: set[str]) -> Comparison | None:
    """Return the published rows on these tasks, of models that are not in the report as published already."""
    table = publications.read()
    found = table[(table["evaluator"] == "captioning") & table["task"].isin(sorted(tasks))]
    specs = [spec for spec in dict.fromkeys(found["spec"]) if spec + publications.SUFFIX not in report.models]
    records = [r for r in publications.as_records(specs) if r.task in tasks] if specs else []
    return compare(choose(records).records, all_metrics=True) if records else None


def _pivot(report: Report, name: str, caption: str, rows: Sequence[Row], metrics: Sequence[str], section: str) -> Table:
    lines = tuple(_lines(report.everything, rows, metrics, report.keys))
    about = "Scores times 100, ranks as they are. Intervals are over images"
    about += ", for this set of candidates." if section == "retrieval" else "."
    return Table(name, caption, ("task", "model", *metrics), lines, heads=2, about=about, section=section)


def _lines(
    comparison: Comparison,
    rows: Sequence[Row],
    metrics: Sequence[str],
    keys: dict[tuple[str, str], str],
    part: str = "",
) -> Iterable[Line]:
    by_key = {(row.task, row.metric): row for row in rows}
    for task in dict.fromkeys(row.task for row in rows):
        for side, model in enumerate(comparison.models):
            found = [by_key.get((task, metric)) for metric in metrics]
            entries = [
                of_cell(row.cells[side], row.info, record=keys.get((model, task), ""), metric=row.metric)
                if row
                else Entry("")
                for row in found
            ]
            if any(entry.value is not None or entry.notes for entry in entries):
                yield Line((Entry(task), Entry(model, model=model), *entries), part=part)
