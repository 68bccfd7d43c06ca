"""cocabench compare: tables of results, and the images behind a difference. It needs no model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from cocabench.cli import names
from cocabench.cli.console import out, print_table
from cocabench.cli.options import PRINTED, Json, flag, names_of, option

if TYPE_CHECKING:
    from cocabench.compare import Cell, Change, Changes, Comparison, Difference, Row
    from cocabench.store import Results
    from cocabench.text import Footnotes

SHOWN = 12
"""Images listed each way by --samples where --all-samples is not given."""

IMAGES = "The images behind a difference"

STYLES = {"▲": "green", "▼": "red"}


class Form(StrEnum):
    TABLE = "table"
    MARKDOWN = "markdown"
    CSV = "csv"


def print_results(results: Results, comparison: Comparison) -> None:
    """Print the table of a Comparison of results, and what its models cost where that was measured."""
    from cocabench import compare as comparing
    from cocabench.cli.costs import print_costs, without_costs

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
    from cocabench.compare import legend
    from cocabench.report.tables import header
    from cocabench.text import Footnotes

    footnotes = Footnotes()
    rows = [_line(row, footnotes, two=len(comparison.models) == 2) for row in comparison.rows]
    print_table([escape(column) for column in header(comparison)], rows, numbers_from=2)
    if len(comparison.models) > 1:
        _print_totals(comparison)
    for i, note in enumerate(footnotes.notes, 1):
        _dim(f"[{i}] {note}")
    for sentence in legend(comparison):
        _dim(sentence)
    if len(comparison.models) > 2:
        _dim(f"▲ ▼ better, worse than {comparison.models[0]}")
    for phrase in comparison.left_out:
        _dim(f"left out: {phrase}")


def _dim(text: str) -> None:
    out.print(f"[dim]{escape(text)}[/dim]", soft_wrap=True)


def _line(row: Row, footnotes: Footnotes, *, two: bool) -> list[str]:
    from cocabench.compare import remarks

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
    from cocabench.compare import MEANS, averages, tallies

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
        _dim(MEANS)


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
    from cocabench import compare as comparing
    from cocabench.report import tables

    found = comparing.read(*results)
    if samples:
        changes = _changes(found, samples, names_of(models), metric)
        if as_json:
            told = asdict(changes) | {"info": changes.info.model_dump()}
            print(json.dumps(told, ensure_ascii=False, allow_nan=False))
        else:
            _print_changes(changes, None if all_samples else SHOWN)
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


def _changes(results: Results, task: str, models: list[str], metric: str) -> Changes:
    from cocabench import compare as comparing
    from cocabench.errors import UnknownNameError, UsageError
    from cocabench.text import plural

    records = comparing.choose(results).records
    of_task = {r.model: r for r in records if r.task == task}
    if not of_task:
        raise UnknownNameError("task", task, [r.task for r in records])
    for name in models:
        if name not in of_task:
            raise UnknownNameError("model", name, of_task)
    wanted = models or list(of_task)
    if len(wanted) != 2:
        fix = "name two with --models"
        raise UsageError(
            "--samples", f"{plural(len(wanted), 'model')} on {task} ({', '.join(wanted)})", wanted="two", fix=fix
        )
    first, second = (of_task[name] for name in wanted)
    return comparing.changes(first, second, comparing.Evidence(results), metric=metric)


def _print_changes(found: Changes, most: int | None) -> None:
    """Print ``B broke 12 of 270 images …`` with the images, then what B mended."""
    second = found.models[1]
    for verb, listed in (("broke", found.broken), ("mended", found.mended)):
        out.print(
            f"[bold]{escape(second)} {verb} {len(listed)} of {found.images} images[/bold] "
            f"({escape(found.task)}, {escape(found.metric)})",
            soft_wrap=True,
        )
        if listed:
            _print_listed(found, listed[:most])
        if most is not None and len(listed) > most:
            _dim(f"{len(listed) - most} more; --all-samples lists them")


def _print_listed(found: Changes, listed: Sequence[Change]) -> None:
    """Print a row per image. What models say is left out where no sample tells, as in retrieval."""
    columns = ["image", *found.models, "truth", *(f"{name} says" for name in found.models)]
    if not any(any(change.said) for change in listed):
        columns = columns[:-2]
    rows = [_change(found, change)[: len(columns)] for change in listed]
    print_table([escape(c) for c in columns], [[escape(cell) for cell in row] for row in rows])


def _change(found: Changes, change: Change) -> list[str]:
    from cocabench.text import points

    first, second = (f"{points(value, found.info):.1f}" for value in (change.first, change.second))
    return [change.image_id, first, second, change.truth, *change.said]
