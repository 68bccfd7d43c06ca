"""Checkpoints of one training on the command line: evaluated as they come, and the best of them named."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import typer
from rich.markup import escape

from cocabench.cli.console import err, out
from cocabench.core.errors import UsageError
from cocabench.core.types import Record


def follow(
    folder: Path, models: Sequence[str], evaluate: Callable[[str], None], output: Path, *, timeout: float | None
) -> None:
    """Evaluate each checkpoint of a folder as it comes, then name the best. A checkpoint that fails stops no other.

    Exits with 1 where one failed, and with 130 after Ctrl-C.
    """
    from cocabench.train.checkpoints import arrivals

    if len(models) != 1 or any(mark in models[0] for mark in ",:"):
        raise UsageError("--watch", f"--model {','.join(models)}", wanted="the architecture alone: --model ViT-B-32")
    code = 0
    err.print(f"waiting for checkpoints in {escape(str(folder))}; Ctrl-C or a file 'stop' in it ends", soft_wrap=True)
    try:
        for path in arrivals(folder, timeout=timeout):
            code |= _code_of(evaluate, _model(models[0], path))
    except KeyboardInterrupt:
        code = 130
    _best_in(output, models[0], folder)
    if code:
        raise typer.Exit(code)


def _model(name: str, path: Path) -> str:
    return f'{name}:"{path}"' if "," in str(path) else f"{name}:{path}"


def _code_of(evaluate: Callable[[str], None], model: str) -> int:
    """Return the exit code that an evaluation ends with; an interruption ends the watching too."""
    try:
        evaluate(model)
    except typer.Exit as ended:
        if ended.exit_code == 130:
            raise KeyboardInterrupt from None
        return int(ended.exit_code != 0)
    return 0


def _best_in(output: Path, name: str, folder: Path) -> None:
    from cocabench.results.epochs import epoch_of
    from cocabench.results.store import load

    run = epoch_of(f"{name}:{folder}/epoch_0.pt")
    records = load(output).records if output.is_dir() else ()
    print_best([r for r in records if (point := epoch_of(r.model)) and run and point.run == run.run])


def print_best(records: Iterable[Record]) -> None:
    """Print the best epoch of each run, task and metric of quality, with its interval."""
    from cocabench.core.formatting import number
    from cocabench.results.epochs import best_epochs

    for best in best_epochs(records):
        if best.info.kind == "quality":
            where = f"{best.epoch.run}, {best.task}, {best.metric}"
            value = (
                f"best at {best.epoch.unit} {best.epoch.number} of {best.n_epochs}: {number(best.estimate, best.info)}"
            )
            out.print(escape(f"{where}: {value}"), soft_wrap=True)
