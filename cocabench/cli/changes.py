"""The images behind a difference, as ``compare --samples`` lists them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.markup import escape

from cocabench.cli.console import dim, out, print_table

if TYPE_CHECKING:
    from cocabench.results.compare import Change, Changes
    from cocabench.results.store import RecordSet

SHOWN = 12
"""Images listed each way where not all are asked for."""


def changes_of(results: RecordSet, task: str, models: list[str], metric: str) -> Changes:
    from cocabench.core.errors import UnknownNameError, UsageError
    from cocabench.core.formatting import plural
    from cocabench.results import compare as comparing

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


def print_changes(found: Changes, most: int | None) -> None:
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
            dim(f"{len(listed) - most} more; --all-samples lists them")


def _print_listed(found: Changes, listed: Sequence[Change]) -> None:
    """Print a row per image, without the columns of which no sample tells anything (what is said, in retrieval)."""
    columns = ["image", *found.models, "truth", *(f"{name} says" for name in found.models)]
    rows = [_change(found, change) for change in listed]
    kept = [i for i in range(len(columns)) if any(row[i] for row in rows)]
    print_table([escape(columns[i]) for i in kept], [[escape(row[i]) for i in kept] for row in rows])


def _change(found: Changes, change: Change) -> list[str]:
    from cocabench.core.formatting import points

    first, second = (f"{points(value, found.info):.1f}" for value in (change.first, change.second))
    return [change.image_id, first, second, change.truth, *change.said]
