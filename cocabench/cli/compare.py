"""cocabench compare and gate: compare models, and check results against a baseline. They load no model."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from cocabench.cli import names
from cocabench.cli.console import dim, err, labelled, print_json, print_table, say
from cocabench.cli.options import PRINTED, Json, flag, option
from cocabench.cli.tables import print_results
from cocabench.specs.spec import split_models

if TYPE_CHECKING:
    from cocabench.core.types import Verdict
    from cocabench.results.changes import Change, Changes
    from cocabench.results.gate import Rules
    from cocabench.results.store import RecordSet

IMAGES = "Images behind a difference"
MAX_IMAGES_LISTED = 12
"""Each way, without --all-samples."""

DEFAULT_RULES = Path("results/gates.toml")
COLOURS = {"regressed": "red", "missing": "red", "incomparable": "red", "cannot tell": "yellow", "improved": "green"}


class Form(StrEnum):
    TABLE = "table"
    MARKDOWN = "markdown"
    CSV = "csv"


NO_CSV = {"--published": (Form.CSV, Form.MARKDOWN), "--overlap": (Form.CSV,)}
"""Views that have no such forms."""

OnlyModels = Annotated[
    str, option("MODEL", "Only these models, in this order, comma-separated.", autocompletion=names.stored_models)
]
Against = Annotated[
    str,
    option(
        "GROUP",
        "Compare two groups of checkpoints that differ in their seeds: results folders, or models in RESULTS; "
        "patterns (*) or names in --recipes, comma-separated.",
        autocompletion=names.stored_models,
    ),
]
Prompts = Annotated[
    bool, flag("--prompts", "Compare prompts instead of models: what `run --templates A,B --classnames A,B` measured.")
]
OverlapFile = Annotated[
    Path | None,
    option("FILE", "Each metric without the images that `data overlap` found in the training data.", "--overlap"),
]
RecipesFile = Annotated[Path | None, option("FILE", "TOML with [recipes]: NAME = [PATTERN, …] of models.", "--recipes")]
FigureFolder = Annotated[
    Path | None,
    option("DIR", "With --against, --prompts or --overlap: draw them as SVG, PNG and PDF.", "--figure"),
]
Published = Annotated[
    bool, flag("--published", "Where each model stands among the published ones: percentiles, neighbours, robustness.")
]
AllMetrics = Annotated[bool, flag("--all-metrics", "All metrics, not only the primary one of each task.")]
Samples = Annotated[
    str,
    option(
        "TASK",
        "List the images of this task on which two models differ.",
        panel=IMAGES,
        autocompletion=names.stored_tasks,
    ),
]
Metric = Annotated[
    str,
    option(
        "METRIC",
        "Compare images by this metric.",
        panel=IMAGES,
        autocompletion=names.stored_metrics,
        show_default="the primary one",
    ),
]
AllSamples = Annotated[
    bool, flag("--all-samples", f"List all images, not only {MAX_IMAGES_LISTED} each way.", panel=IMAGES)
]
FormOption = Annotated[Form, option("FORM", f"{', '.join(Form)}.", "--format", panel=PRINTED)]


def compare(
    results: Annotated[
        list[str], typer.Argument(help="Results folders, Record files, or published:NAME:TAG.", metavar="RESULTS")
    ],
    models: OnlyModels = "",
    against: Against = "",
    recipes: RecipesFile = None,
    figure: FigureFolder = None,
    published: Published = False,
    prompts: Prompts = False,
    overlap: OverlapFile = None,
    all_metrics: AllMetrics = False,
    samples: Samples = "",
    metric: Metric = "",
    all_samples: AllSamples = False,
    form: FormOption = Form.TABLE,
    as_json: Json = False,
) -> None:
    """Compare models: a table of tasks with paired tests of the differences from the first model.

    Example: cocabench compare results/ --models coca_ViT-L-14,ViT-L-14
    """
    views = {"--against": bool(against), "--published": published, "--samples": bool(samples), "--prompts": prompts}
    views["--overlap"] = overlap is not None
    _check_flags([name for name, given in views.items() if given], recipes, figure, form)
    if against:
        sides = split_models(models), split_models(against)
        _compare_recipes(results, *sides, recipes, all_metrics, form, as_json, figure)
        return
    from cocabench.results import tables
    from cocabench.results.compare import compare_models, of_measured, ranked
    from cocabench.results.records import read

    found = read(*results)
    if published:
        _print_standings(found, split_models(models), as_json)
        return
    if prompts:
        _compare_prompts(found, split_models(models), form, as_json, figure)
        return
    if overlap is not None:
        _compare_parts(found, split_models(models), overlap, all_metrics, form, as_json, figure)
        return
    if samples:
        changes = _changes(found, samples, split_models(models), metric)
        if as_json:
            print_json(asdict(changes) | {"info": changes.info.model_dump()})
        else:
            _print_changes(changes, None if all_samples else MAX_IMAGES_LISTED)
        return
    comparison = of_measured(compare_models(found, models=split_models(models), all_metrics=all_metrics))
    if len(comparison.models) == 2:
        comparison = ranked(comparison)
    if as_json:
        print_json(tables.lines(comparison))
    elif form is Form.TABLE:
        print_results(found, comparison)
    else:
        print(tables.to_markdown(comparison) if form is Form.MARKDOWN else tables.to_csv(comparison), end="")


def _check_flags(views: Sequence[str], recipes: Path | None, figure: Path | None, form: Form) -> None:
    """Raise UsageError for flags that would have no effect. views: the flags given that choose what is compared."""
    from cocabench.core.errors import UsageError

    if len(views) > 1:
        raise UsageError("compare", f"{' and '.join(views)} together", wanted="one of them")
    if recipes and "--against" not in views:
        raise UsageError("--recipes", "given without --against", fix="name the other group with --against")
    if figure and not {"--against", "--prompts", "--overlap"} & {*views}:
        raise UsageError("--figure", "given without --against, --prompts or --overlap", wanted="one of them")
    if without := [view for view, forms in NO_CSV.items() if view in views and form in forms]:
        raise UsageError("--format", f"{form} with {without[0]}", wanted="table, or --json")


def _compare_recipes(
    results: Sequence[str],
    models: Sequence[str],
    against: Sequence[str],
    file: Path | None,
    all_metrics: bool,
    form: Form,
    as_json: bool,
    figure: Path | None,
) -> None:
    """Print two groups of checkpoints side by side, tested over seeds and images."""
    from cocabench.results import recipes

    named = recipes.read_recipes(file) if file else {}
    first, second, evidence = recipes.sides(results, against, models=models, recipes=named)
    rows = recipes.compare_recipes(first, second, evidence, all_metrics=all_metrics)
    if figure is not None:
        from cocabench.report import compared

        err.print(f"figure: {compared.draw(compared.of_recipes(first, second, rows), figure)[0]}")
    if as_json:
        print_json({"first": first.models, "second": second.models, "rows": recipes.lines(rows)})
        return
    if form is Form.CSV:
        print(recipes.to_csv(rows), end="")
        return
    _print_rows(recipes.HEADER, [recipes.cells(row) for row in rows], form)
    for sentence in (f"first: {first.text}", f"second: {second.text}", *recipes.legend(rows)):
        dim(sentence)


def _compare_prompts(results: RecordSet, models: Sequence[str], form: Form, as_json: bool, figure: Path | None) -> None:
    """Print the results of one model and task with several prompts below each other, with paired differences."""
    from cocabench.results import prompts

    rows = prompts.prompt_rows(results, models)
    if figure is not None:
        from cocabench.report import compared

        err.print(f"figure: {compared.draw(compared.of_prompts(rows), figure)[0]}")
    if as_json:
        print_json(prompts.lines(rows))
    elif form is Form.CSV:
        print(prompts.to_csv(rows), end="")
    else:
        _print_rows(prompts.HEADER, [prompts.cells(row) for row in rows], form)
        for sentence in prompts.legend(rows):
            dim(sentence)


def _compare_parts(
    results: RecordSet,
    models: Sequence[str],
    file: Path,
    all_metrics: bool,
    form: Form,
    as_json: bool,
    figure: Path | None,
) -> None:
    """Print metrics on all images, on those that are not in the training data, and on the others."""
    from cocabench.results import overlap

    known = overlap.read_overlap(file)
    parts = overlap.parts(results, known, models, all_metrics=all_metrics)
    if figure is not None:
        from cocabench.report import compared

        err.print(f"figure: {compared.draw(compared.of_parts(parts), figure)[0]}")
    if as_json:
        print_json(overlap.lines(parts))
        return
    _print_rows(overlap.HEADER, [overlap.cells(part) for part in parts], form)
    for sentence in overlap.legend(known, parts):
        dim(sentence)


def _print_rows(header: Sequence[str], rows: Sequence[Sequence[str]], form: Form) -> None:
    from cocabench.core.formatting import escape, table

    if form is Form.MARKDOWN:
        print(table(header, [[escape(cell) for cell in row] for row in rows], left=2), end="")
    else:
        print_table(header, rows)


def _print_standings(results: RecordSet, models: Sequence[str], as_json: bool) -> None:
    """Print where each measured model stands among the published ones."""
    from cocabench.results import standing

    found = standing.standings(results, models)
    if as_json:
        print_json([standing.lines(one) for one in found])
        return
    for one in found:
        say(Text(one.model, "bold"))
        print_table(standing.HEADER, standing.cells(one))
        for sentence in standing.sentences(one):
            dim(sentence)
    for sentence in standing.legend(found):
        dim(sentence)


def _changes(results: RecordSet, task: str, models: list[str], metric: str) -> Changes:
    from cocabench.core.errors import UnknownNameError, UsageError
    from cocabench.core.formatting import plural
    from cocabench.results.changes import changes
    from cocabench.results.difference import Evidence
    from cocabench.results.records import choose

    records = choose(results).records
    of_task = {r.model: r for r in records if r.task == task}
    if not of_task:
        raise UnknownNameError("task", task, [r.task for r in records])
    for name in models:
        if name not in of_task:
            raise UnknownNameError("model", name, of_task)
    wanted = models or list(of_task)
    if len(wanted) != 2:
        got = f"{plural(len(wanted), 'model')} on {task} ({', '.join(wanted)})"
        raise UsageError("--samples", got, wanted="two", fix="name two with --models")
    first, second = (of_task[name] for name in wanted)
    return changes(first, second, Evidence(results), metric=metric)


def _print_changes(found: Changes, most: int | None) -> None:
    """Print the images on which the second model is worse, then those on which it is better."""
    from cocabench.core.formatting import plural

    for word, listed in (("worse", found.worse), ("better", found.better)):
        head = f"{found.models[1]} is {word} on {len(listed)} of {plural(found.images, 'image')}"
        say(Text.assemble((head, "bold"), f" ({found.task}, {found.metric})"))
        if listed:
            _print_listed(found, listed[:most])
        if most is not None and len(listed) > most:
            dim(f"{len(listed) - most} more; --all-samples lists them")


def _print_listed(found: Changes, listed: Sequence[Change]) -> None:
    """Print a row per image, without empty columns (answers in retrieval)."""
    from cocabench.core.formatting import printed

    columns = ["image", *found.models, "truth", *(f"answer of {name}" for name in found.models)]
    rows = [
        [one.image_id, *(printed(v, found.info) for v in (one.first, one.second)), one.truth, *one.answers]
        for one in listed
    ]
    kept = [i for i in range(len(columns)) if any(row[i] for row in rows)]
    print_table([columns[i] for i in kept], [[row[i] for i in kept] for row in rows])


def gate(
    baseline: Annotated[str, option("RESULTS", "Baseline results: a folder, or published:NAME:TAG.")],
    current: Annotated[Path, option("DIR", "Results to check.")],
    rules: Annotated[
        Path | None,
        option("FILE", "Tolerances in TOML.", show_default="results/gates.toml if it exists, else 0.2 points"),
    ] = None,
    junit: Annotated[Path | None, option("FILE", "Write a JUnit XML file.")] = None,
    update: Annotated[
        bool, flag("--update", "Print the differences, then make the current results the baseline.")
    ] = False,
) -> None:
    """Check results against a baseline. Exit codes: 0 passed, 1 regressed or missing, 2 incomparable or an error.

    Example: cocabench gate --baseline results/baselines --current results
    """
    from cocabench.results import gate as gating
    from cocabench.results.baseline import recover
    from cocabench.results.records import read
    from cocabench.results.store import write_atomically
    from cocabench.results.verdicts import exit_code, headline, to_junit, to_markdown

    recover(Path(baseline))
    now = read(current)
    held = None if update and not Path(baseline).exists() else read(baseline)
    verdicts = gating.gate(held, now, _rules(rules)) if held else []
    _print_verdicts(verdicts)
    if junit:
        write_atomically(junit, lambda path: path.write_text(to_junit(verdicts), encoding="utf-8"))
    if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        try:
            with Path(summary).open("a", encoding="utf-8") as file:
                file.write(to_markdown(verdicts))
        except OSError as error:
            labelled("note", f"GITHUB_STEP_SUMMARY: {summary}: cannot write ({error.strerror}); the verdicts stand")
    if update:
        _update(baseline, held, now)
        return
    err.print(headline(verdicts))
    raise typer.Exit(exit_code(verdicts))


def _rules(path: Path | None) -> Rules:
    from cocabench.results.gate import Rules, read_rules

    path = path or (DEFAULT_RULES if DEFAULT_RULES.is_file() else None)
    return read_rules(path) if path else Rules()


def _print_verdicts(verdicts: Sequence[Verdict]) -> None:
    from cocabench.results.verdicts import HEADER, legend, row, sorted_for_reading

    if verdicts:
        rows = [row(verdict) for verdict in sorted_for_reading(verdicts)]
        print_table(HEADER, [[Text(status, COLOURS.get(status, "")), *rest] for status, *rest in rows])
        for sentence in legend(verdicts):
            dim(sentence)


def _update(baseline: str, held: RecordSet | None, now: RecordSet) -> None:
    from cocabench.core.errors import UsageError
    from cocabench.core.formatting import plural
    from cocabench.results.baseline import planned, write
    from cocabench.results.records import PUBLISHED, choose

    if baseline.startswith(PUBLISHED) or Path(baseline).is_file():
        raise UsageError("--update", f"the baseline is {baseline}", wanted="a folder")
    change = planned(choose(held).records if held else (), now.records)
    for line in change.lines():
        say(line)
    write(Path(baseline), change, held, now)
    err.print(f"updated the baseline {baseline}: {plural(len(change.new), 'Record')} written, {len(change.kept)} kept")
