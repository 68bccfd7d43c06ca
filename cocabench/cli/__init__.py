"""The command line: the only place that prints or exits."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable
from functools import cache
from inspect import getdoc
from typing import Annotated, Any, NoReturn

import typer

from cocabench.cli import captions, compare, machine, many, play, results, run, sharing, train
from cocabench.cli.console import escape_what_streams_cannot_hold, labelled
from cocabench.cli.options import current_name, flag
from cocabench.cli.usage import Commands, as_usage_error, end_at_once_on_ctrl_c, of_stdout
from cocabench.core import __version__
from cocabench.core.errors import CocabenchError, IgnoredRecordWarning, UsageError

app = typer.Typer(
    cls=Commands,
    help="Benchmark CoCa and CLIP checkpoints.\n\nExample: cocabench run --model demo --tasks demo",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
EVALUATION, RESULTS, TRAINING, MACHINE = "Evaluation", "Results", "Training", "Names and this machine"
COMMANDS: dict[str, dict[str, Callable[..., None] | typer.Typer]] = {
    EVALUATION: {
        "run": run.run,
        "submit": many.submit,
        "status": many.status,
        "caption": captions.caption,
        "score": captions.score,
        "play": play.play,
    },
    RESULTS: {
        "compare": compare.compare,
        "report": results.report,
        "serve": results.serve,
        "leaderboard": results.leaderboard,
        "gate": compare.gate,
        "show": results.show,
        "import": results.import_,
        "export": sharing.export,
        "push": sharing.push,
    },
    TRAINING: {"data": train.data, "train": train.train},
    MACHINE: {"list": machine.lists, "doctor": machine.doctor, "setup": machine.setup, "cache": machine.cache},
}
for panel, commands in COMMANDS.items():
    for name, command in commands.items():
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name, rich_help_panel=panel)
        else:
            app.command(name, rich_help_panel=panel, context_settings={"token_normalize_func": current_name})(command)


def _show_brackets(commands: typer.Typer) -> None:
    """Escape brackets in help texts, as options do: rich takes the end of 'cocabench[play]' for a style."""
    for command in commands.registered_commands:
        command.help = (getdoc(command.callback) or "").replace("[", "\\[")
    for group in commands.registered_groups:
        if group.typer_instance is not None:
            _show_brackets(group.typer_instance)


_show_brackets(app)


def _version(asked: bool) -> None:
    if asked:
        print(f"cocabench {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[bool, flag("--version", "Print the version.", callback=_version, is_eager=True)] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line. An expected error is one line on stderr and an exit code, never a traceback."""
    escape_what_streams_cannot_hold()
    try:
        os.getcwd()
    except FileNotFoundError:
        _fail(UsageError("the current folder", "it was removed", fix="change to another"))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always", IgnoredRecordWarning)
            warnings.showwarning = _note(warnings.showwarning)
            code = _command().main(prog_name="cocabench", standalone_mode=False)
        if sys.stdout is not None:
            sys.stdout.flush()
        sys.exit(code)
    except typer.TyperException as error:
        if (wrong := as_usage_error(error)) is not None:
            _fail(wrong)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:  # once more, while the first was handled
        sys.exit(130)
    except Exception as error:  # noqa: BLE001 — a file, a plugin or a bug may raise anything
        from cocabench.specs.surprise import surprise

        known = of_stdout(error) if isinstance(error, OSError) else None
        _fail(known or surprise(f"cocabench {' '.join(sys.argv[1:2])}", error))
    finally:
        end_at_once_on_ctrl_c()


@cache
def _command() -> Any:
    """Return the command; made once a process, since it takes 80 ms."""
    return typer.main.get_command(app)


def _note(otherwise: Callable[..., None]) -> Callable[..., None]:
    """Return a function that prints our warnings as a note of one line, and others as Python does."""

    def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
        if issubclass(category, IgnoredRecordWarning):
            labelled("note", str(message))
        else:
            otherwise(message, category, *where, **more)

    return show


def _fail(error: CocabenchError) -> NoReturn:
    labelled("error", str(error), colour="red")
    sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
