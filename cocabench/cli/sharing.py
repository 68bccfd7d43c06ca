"""cocabench export and push: results for other programs and for the Hugging Face Hub."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cocabench.cli import names
from cocabench.cli.console import by_reason, err, say
from cocabench.cli.options import flag, option

if TYPE_CHECKING:
    from cocabench.core.types import Record


class Format(StrEnum):
    CLIP_BENCHMARK = "clip_benchmark"
    CSV = "csv"
    MODEL_INDEX = "model-index"
    EVAL_RESULTS = "eval-results"
    CARD = "card"


ResultsOf = Annotated[list[str], typer.Argument(help="Results folders or Record files.", metavar="RESULTS")]
OneModel = Annotated[
    str, option("MODEL", "The model, if there are results of several.", "--model", autocompletion=names.stored_models)
]


def export(
    results: ResultsOf,
    form: Annotated[Format, option("FORM", f"{', '.join(Format)}.", "--format")] = Format.CLIP_BENCHMARK,
    model: OneModel = "",
    output: Annotated[Path | None, option("FILE", "File to write.", show_default="stdout")] = None,
) -> None:
    """Export results: for CLIP_benchmark's scripts, as a plain table, or for a model's page on the Hugging Face Hub.

    clip_benchmark is the CSV of `clip_benchmark build`; csv has a row per metric, with its interval. Of one model:
    model-index is metadata of a model card, card a section of it, eval-results a file for `.eval_results/`.

    Example: cocabench export results/ --output benchmark.csv
    """
    from cocabench.results.store import write_atomically

    text = _exported(_chosen(results, model), form)
    if output is None:
        print(text, end="")
    else:
        write_atomically(output, lambda path: path.write_text(text, encoding="utf-8"))


def _chosen(results: Sequence[str], model: str) -> tuple[Record, ...]:
    """Return one Record per model and task, of one model if it is named; print what is left out."""
    from cocabench.core.errors import UnknownNameError
    from cocabench.results.records import choose, read

    found = list(read(*results))
    if model and model not in (known := list(dict.fromkeys(record.model for record in found))):
        raise UnknownNameError("model", model, known)
    chosen = choose(record for record in found if model in ("", record.model))
    _print_left_out(chosen.left_out)
    return chosen.records


def _print_left_out(phrases: Iterable[str]) -> None:
    for phrase in phrases:
        err.print(f"left out: {phrase}", markup=False, soft_wrap=True)


def _exported(records: Sequence[Record], form: Format) -> str:
    from cocabench.results import hub, interop

    writers: dict[Format, Callable[[Sequence[Record]], str]] = {
        Format.CLIP_BENCHMARK: interop.to_csv,
        Format.CSV: interop.to_table,
        Format.MODEL_INDEX: hub.to_model_index,
        Format.CARD: hub.to_card,
    }
    if form in writers:
        return writers[form](records)
    found = hub.entries(records)
    _print_left_out(by_reason(found.left_out))
    return hub.to_yaml(found.entries)


def push(
    results: ResultsOf,
    repo: Annotated[str, option("ORG/NAME", "The model's repository on the hub.", "--repo")],
    model: OneModel = "",
    pull_request: Annotated[bool, flag("--pull-request", "Open a pull request instead of committing.")] = False,
    yes: Annotated[bool, flag("--yes", "Send it. Without this, only show what would change.")] = False,
) -> None:
    """Show what a model's repository on the Hugging Face Hub would get, and send it with --yes.

    README.md gets the results in its metadata and a section between two marks; `.eval_results/cocabench.yaml` gets
    those on data sets of the hub. The address and token are huggingface_hub's: HF_ENDPOINT, HF_TOKEN, `hf auth login`.

    Example: cocabench push results/ --model my-coca --repo ORG/NAME
    """
    from cocabench.results import hub

    records = hub.of_one_model(_chosen(results, model))
    made = hub.changes(repo, records)
    _print_left_out(by_reason(hub.entries(records).left_out))
    for change in made:
        print(change.diff)
    if not made:
        err.print(f"{repo} has these results already")
    elif yes:
        say(hub.push(repo, made, pull_request=pull_request))
    else:
        err.print("nothing was sent; to send it, add --yes")
