"""report.md and its figures, from Records and published numbers alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from cocabench import published as publications
from cocabench.compare import Comparison, choose, compare, legend, notes
from cocabench.errors import ResultsError, UnknownNameError
from cocabench.report import figures, sections
from cocabench.report.tables import body, left_out, to_csv
from cocabench.report.text import Footnotes, escape, plural
from cocabench.store import write_atomically
from cocabench.types import Record


def write_report(
    results: Iterable[Record],
    output: Path,
    *,
    published: Sequence[str] = (),
    pair: tuple[str, str] | None = None,
    title: str = "cocabench report",
) -> list[Path]:
    """Write output/report.md, its figures and its main table as CSV; return all paths, report.md first.

    published: models NAME:TAG whose published numbers stand beside the measured ones, or alone. pair: the two models
    of the figures; without it the first two by order, measured ones before published ones.
    """
    chosen, left_out = choose([*results, *publications.as_records(published)] if published else results)
    if not chosen:
        raise ResultsError("report", "no Records, and no published model named", fix="name a results folder")
    comparison = compare(chosen)
    comparison = Comparison(comparison.models, comparison.rows, left_out)
    drawn, why_not = _figures(chosen, _pair(comparison.models, pair), output / "figures")
    text = _markdown(title, chosen, comparison, drawn, why_not)
    report, sheet = output / "report.md", output / "tables" / "results.csv"
    write_atomically(report, lambda path: path.write_text(text, encoding="utf-8"))
    write_atomically(sheet, lambda path: path.write_text(to_csv(comparison), encoding="utf-8"))
    return [report, sheet, *drawn]


def _pair(models: Sequence[str], asked: tuple[str, str] | None) -> tuple[str, ...]:
    for name in asked or ():
        if name not in models:
            raise UnknownNameError("model", name, models)
    return asked or tuple(models[:2])


def _figures(records: Sequence[Record], pair: tuple[str, ...], folder: Path) -> tuple[list[Path], str]:
    """Draw the pair's classification tasks; return the files, or why there are none."""
    found = [r for r in records if r.evaluator == "classification" and r.model in pair]
    if len(pair) < 2 or len({r.model for r in found}) < 2:
        return [], "The figures need two models with classification results."
    comparison = compare(found, models=pair)
    rows = figures.drawable(comparison)
    if not rows:
        return [], f"No figure: no classification task of {pair[0]} and {pair[1]} can be compared (see the table)."
    palette = figures.colours(dict.fromkeys(r.model for r in records))
    tasks = plural(len(rows), "task")
    about = _about([r for r in found if any(row.task == r.task for row, _ in rows)])
    ahead, behind = (sum(1 for _, gap in rows if sign * gap.value >= 0.05) for sign in (1, -1))
    unit = "score, %" if all(row.metric == "acc1" for row, _ in rows) else "score, % (acc1 unless named)"
    a = figures.Words(f"Zero-shot classification: two models on {tasks}", about, unit)
    b = figures.Words(
        f"First model ahead on {ahead}, behind on {behind} of {len(rows)} classification tasks",
        about,
        "first model minus second, points",
    )
    return [
        *figures.save(figures.scores(comparison, a, palette), folder / "classification_scores"),
        *figures.save(figures.differences(comparison, b, palette), folder / "classification_differences"),
    ], ""


def _about(records: Sequence[Record]) -> str:
    """Return the line below a figure's title: whose numbers, what the bars are, and whether there are warnings."""
    said = [publications.describe(records)]
    if any(e.low is not None for r in records for e in r.metrics.values()):
        said.append("lines are 95 % intervals (of differences: unpaired)")
    if any(notes(r) for r in records):
        said.append("some numbers carry warnings, see report.md")
    return "; ".join(part for part in said if part)


def _markdown(
    title: str, records: Sequence[Record], comparison: Comparison, drawn: Sequence[Path], why_not: str
) -> str:
    evaluators = {r.task: r.evaluator for r in records}
    tasks = {kind: {task for task, k in evaluators.items() if k == kind} for kind in ("retrieval", "captioning")}
    everything, footnotes = compare(records, all_metrics=True), Footnotes()
    pictures = "\n\n".join(f"![{_alt(p)}](figures/{p.name})" for p in drawn if p.suffix == ".svg") or escape(why_not)
    parts = {
        "Results": f"{' '.join(map(escape, legend(comparison)))}\n\n{body(comparison, footnotes)}",
        "Figures": pictures,
        "Retrieval": sections.retrieval(everything, footnotes),
        "Captioning": sections.captioning(everything, tasks["captioning"], footnotes),
        "Notes": footnotes.markdown() + left_out(comparison),
        "Parameters per tower, in millions": sections.parameters(records),
        "How the numbers were made": sections.methods(records),
    }
    chapters = [f"## {name}\n\n{text}" for name, text in parts.items() if text]
    first = f"# {escape(title)}\n\n**{escape(sections.headline(comparison, evaluators))}**\n"
    return "\n".join([first, *(part.rstrip() + "\n" for part in chapters)])


def _alt(path: Path) -> str:
    return {
        "classification_scores": "Scores of two models on every classification task, sorted; the table has the numbers",
        "classification_differences": "Their differences, sorted; the table has the numbers",
    }[path.stem]
