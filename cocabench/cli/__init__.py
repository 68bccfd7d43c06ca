"""The command line: the only place that prints or exits."""

from __future__ import annotations

import sys
from typing import Annotated, NoReturn

import typer
from rich.markup import escape

from cocabench import __version__
from cocabench.cli import (
    cache,
    captions,
    compare,
    data,
    doctor,
    gate,
    interop,
    lists,
    records,
    results,
    run,
    score,
    setup,
    train,
)
from cocabench.cli.console import err
from cocabench.cli.usage import Commands, in_words
from cocabench.errors import CocabenchError

app = typer.Typer(
    cls=Commands,
    help="Benchmarks for CoCa and CLIP checkpoints.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
for command in (
    run.run,
    compare.compare,
    results.report,
    results.serve,
    gate.gate,
    records.show,
    interop.export,
    captions.caption,
    score.score,
    train.train,
    doctor.doctor,
):
    app.command()(command)
app.command("import")(interop.import_)
app.add_typer(cache.app, name="cache")
app.add_typer(lists.app, name="list")
app.add_typer(data.app, name="data")
app.add_typer(setup.app, name="setup")


def _version(asked: bool) -> None:
    if asked:
        print(f"cocabench {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line. An expected error is one line on stderr and an exit code, never a traceback."""
    try:
        sys.exit(app(prog_name="cocabench", standalone_mode=False))
    except CocabenchError as error:
        _fail(error)
    except typer.TyperException as error:
        if (known := in_words(error)) is not None:
            _fail(known)
        sys.exit(error.exit_code)


def _fail(error: CocabenchError) -> NoReturn:
    err.print(f"[red]error[/red] {escape(str(error))}", soft_wrap=True)
    sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
