"""cocabench compare: tables of results, and the images behind a difference. It needs no model."""

from __future__ import annotations

import json
from dataclasses import asdict
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from cocabench.cli import names
from cocabench.cli.changes import SHOWN, changes_of, print_changes
from cocabench.cli.console import dim, out, print_table
from cocabench.cli.options import PRINTED, Json, flag, names_of, option

if TYPE_CHECKING:
    from cocabench.core.formatting import Footnotes
    from cocabench.results.compare import Cell, Comparison, Difference, Row
    from cocabench.results.store import RecordSet

IMAGES = "The images behind a difference"

STYLES = {"▲": "green", "▼": "red"}


class Form(StrEnum):
    TABLE = "table"
    MARKDOWN = "markdown"
    CSV = "csv"


def print_results(results: RecordSet, comparison: Comparison) -> None:
    """Print the table of a Comparison of results, and what its models cost where that was measured."""
    from cocabench.cli.costs import print_costs, without_costs
    from cocabench.results import compare as comparing

    scores = without_costs(comparison)
    if scores.rows:
        print_comparison(scores)
    if scores.rows and len(scores.rows) < len(comparison.rows):
        out.print()
    if len(scores.rows) < len(comparison.rows):
        chosen = comparing.choose(results).records
        print_costs(comparing.compare(results, models=comparison.models, all_metrics=True), chosen)


def print_comparison(comparison: Comparison) -> None:
    """Print the table of a Comparison, best values bold, findings marked, notes and totals below."""
    from cocabench.core.formatting import Footnotes
    from cocabench.report.tables import header
    from cocabench.results.compare import legend

    footnotes = Footnotes()
    rows = [_line(row, footnotes, two=len(comparison.models) == 2) for row in comparison.rows]
    print_table([escape(column) for column in header(comparison)], rows, numbers_from=2)
    if len(comparison.models) > 1:
        _print_totals(comparison)
    for i, note in enumerate(footnotes.notes, 1):
        dim(f"[{i}] {note}")
    for sentence in legend(comparison):
        dim(sentence)
    if len(comparison.models) > 2:
        dim(f"▲ ▼ better, worse than {comparison.models[0]}")
    for phrase in comparison.left_out:
        dim(f"left out: {phrase}")


def _line(row: Row, footnotes: Footnotes, *, two: bool) -> list[str]:
    from cocabench.results.compare import remarks

    def cell(cell: Cell, gap: Difference | None) -> str:
        text = ("[bold]{}[/bold]" if cell.best else "{}").format(escape(cell.text))
        mark = {"▲": " [red]▼[/red]", "▼": " [green]▲[/green]"}.get(gap.mark, "") if gap and not two else ""
        return text + mark + escape(footnotes.mark(remarks(cell, apart=not two)).replace("\\", ""))

    cells = [cell(found, gap) for found, gap in zip(row.cells, row.differences, strict=True)]
    tail = [escape(row.difference_text), _styled(row.verdict)] if two else []
    return [escape(row.task), escape(row.metric), *cells, *tail]


def _styled(verdict: str) -> str:
    style = STYLES.get(verdict[:1], "")
    return f"[{style}]{escape(verdict)}[/{style}]" if style else escape(verdict)


def _print_totals(comparison: Comparison) -> None:
    """Print wins, ties and losses per kind of task, and the means over groups."""
    from cocabench.results.compare import MEANS, averages, tallies

    for t in (tally for tally in tallies(comparison) if tally.tested):
        untested = f", {t.untested} not tested" if t.untested else ""
        said = f"{t.group}: {t.first} against {t.second}: {t.wins} better, {t.ties} no difference, {t.losses} worse"
        out.print(escape(said + untested), soft_wrap=True)
    means = averages(comparison)
    for mean in means:
        values = ", ".join(f"{value:.1f}" for value in mean.values)
        gaps = [f"{gap}{', unpaired' if gap.unpaired else ''}; {gap.verdict}" for gap in mean.differences if gap]
        said = f"mean over {len(mean.tasks)} tasks of {mean.group}: {values}"
        out.print(escape(" | ".join([said, *gaps])), soft_wrap=True)
    if any(gap and gap.p_value is not None for mean in means for gap in mean.differences):
        dim(MEANS)


OnlyModels = Annotated[
    str,
    option(metavar="MODEL", autocompletion=names.stored_models, help="Only these, in this order, comma-separated."),
]
AllMetrics = Annotated[bool, flag("--all-metrics", help="Every metric, not the primary one of each task.")]
Samples = Annotated[
    str,
    option(
        metavar="TASK",
        panel=IMAGES,
        autocompletion=names.stored_tasks,
        help="List the images of this task on which two models differ.",
    ),
]
Metric = Annotated[
    str,
    option(
        metavar="METRIC",
        panel=IMAGES,
        autocompletion=names.stored_metrics,
        help="By this metric.",
        show_default="the primary one",
    ),
]
AllSamples = Annotated[bool, flag("--all-samples", panel=IMAGES, help=f"More than {SHOWN} each way.")]
FormOption = Annotated[Form, option("--format", metavar="FORM", panel=PRINTED, help=f"{', '.join(Form)}.")]


def compare(
    results: Annotated[
        list[str],
        typer.Argument(help="Results folders, Record files, or published:NAME:TAG.", metavar="RESULTS…"),
    ],
    models: OnlyModels = "",
    all_metrics: AllMetrics = False,
    samples: Samples = "",
    metric: Metric = "",
    all_samples: AllSamples = False,
    form: FormOption = Form.TABLE,
    as_json: Json = False,
) -> None:
    """Compare results: tasks and models in a table, paired differences from the first model, what they show."""
    from cocabench.report import tables
    from cocabench.results import compare as comparing

    found = comparing.read(*results)
    if samples:
        changes = changes_of(found, samples, names_of(models), metric)
        if as_json:
            told = asdict(changes) | {"info": changes.info.model_dump()}
            print(json.dumps(told, ensure_ascii=False, allow_nan=False))
        else:
            print_changes(changes, None if all_samples else SHOWN)
        return
    comparison = comparing.compare(found, models=names_of(models), all_metrics=all_metrics)
    if len(comparison.models) == 2:
        comparison = comparing.ranked(comparison)
    if as_json:
        print(json.dumps(tables.lines(comparison), ensure_ascii=False, allow_nan=False))
    elif form is Form.TABLE:
        print_results(found, comparison)
    else:
        print(tables.to_markdown(comparison) if form is Form.MARKDOWN else tables.to_csv(comparison), end="")
