"""Usage errors of typer in the format of our errors: where, got, wanted, what to do."""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
from typing import Any

import typer
from pydantic import ValidationError
from typer.core import TyperArgument, TyperGroup, TyperOption

from cocabench.core.errors import CocabenchError, UnknownNameError, UsageError
from cocabench.specs.spec import wanted


class Commands(TyperGroup):
    """A group of commands: errors offer the closest name, and Ctrl-C prints one line and exits with 130."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the command that the first word names."""
        completing = ctx.resilient_parsing
        if args and args[0] not in self.commands and not (completing or args[0].startswith("-")):
            raise UnknownNameError("command", args[0], self.commands, fix=_help(ctx))
        name, command, rest = super().resolve_command(ctx, args)
        if command is not None:
            _hide_types(command.get_params(ctx))
        return name, command, rest

    def get_params(self, ctx: Any) -> Any:
        """Return the options of the group."""
        return _hide_types(super().get_params(ctx))

    def invoke(self, ctx: Any) -> Any:
        """Run the command; turn Ctrl-C into one line and exit code 130."""
        from cocabench.cli.console import err

        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            err.print("\nstopped")
            raise typer.Exit(130) from None
        except OSError as error:  # typer ends without a word where a pipe is closed
            if (known := of_stdout(error)) is None:
                raise
            raise known from None


def end_at_once_on_ctrl_c() -> None:
    """Let Ctrl-C end the process without a word from now on: where Python ends, it would print a traceback."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, lambda *_: os._exit(130))


UNWRITABLE = (errno.EPIPE, errno.ENOSPC, errno.EIO, errno.EBADF)
"""What the system says of a stream that is closed or full."""


def of_stdout(error: OSError) -> CocabenchError | None:
    """Return an error of stdout as one of ours; None for a file's. Nothing is written there from then on.

    SystemExit with 141, without a word, where its reader has read enough.
    """
    if error.filename is not None or error.errno not in UNWRITABLE:
        return None
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # Python flushes once more at its end
    if error.errno == errno.EPIPE:  # as `cocabench … | head` ends: what a shell says of a program that SIGPIPE ended
        raise SystemExit(141)
    return CocabenchError("stdout", f"cannot be written to ({error.strerror})", fix="what was stored is kept")


def _hide_types(params: Any) -> Any:
    """Return params whose Python types are not on help pages: typer prints those of arguments and of its own flags."""
    for param in params:
        if isinstance(param, TyperArgument):
            param.display_type_rich = lambda ctx: None  # type: ignore[method-assign]
        elif param.metavar is None:
            param.metavar = ""
    return params


def as_usage_error(error: typer.TyperException) -> UsageError | None:
    """Return an error of typer as one of ours; None if typer has printed the help."""
    context = getattr(error, "ctx", None)
    fix = _help(context)
    if isinstance(error, typer.BadParameter) and error.param is not None:
        return _of_value(error, fix)
    if option := getattr(error, "option_name", ""):
        if not hasattr(error, "possibilities"):
            return UsageError(option, "no value", fix=fix)
        return UnknownNameError(_path(context), option, _options(context), fix=fix)
    message = error.format_message().strip().rstrip(".")
    return UsageError(_path(context), message[:1].lower() + message[1:], fix=fix) if message else None


def _path(context: typer.Context | None) -> str:
    if context:
        return str(context.command_path)
    return " ".join(["cocabench", *(word for word in sys.argv[1:2] if not word.startswith("-"))])


def _help(context: typer.Context | None) -> str:
    return f"see `{_path(context)} --help`"


def _options(context: typer.Context | None) -> list[str]:
    params = context.command.params if context else []
    return [name for param in params if isinstance(param, TyperOption) for name in (*param.opts, *param.secondary_opts)]


def _of_value(error: typer.BadParameter, fix: str) -> UsageError:
    """Return the error for an option or argument that is missing or has an invalid value."""
    param: Any = error.param
    where = param.opts[0] if isinstance(param, TyperOption) else (param.metavar or param.name.upper())
    if not error.message:
        asked = (param.help or "").rstrip(".").replace("\\[", "[")
        return UsageError(where, "missing", wanted=_uncapitalised(asked), fix=fix)
    if not isinstance(error.__cause__, ValidationError):
        return UsageError(where, error.message, fix=fix)
    item = error.__cause__.errors()[0]
    if choices := param.type_descriptor.choices:
        return UsageError(where, f"got {item['input']!r}", wanted=" or ".join(map(str, choices)))
    if "\0" in str(item["input"]):
        return UsageError(where, f"got {item['input']!r}", wanted="a path without a NUL character")
    text, bounds = wanted(item).removeprefix("wanted "), _bounds(param)
    kind = [text] if not bounds or "number" in text else []
    return UsageError(where, f"got {item['input']!r}", wanted=", ".join((*kind, *bounds)))


def _uncapitalised(sentence: str) -> str:
    """Return a sentence with a lower-case first letter, unless it starts with a capitalised NAME."""
    return sentence[:1].lower() + sentence[1:] if sentence[1:2].islower() else sentence


def _bounds(param: Any) -> list[str]:
    if param.min is None:
        return []
    return [f"{param.min} or more" if param.max is None else f"{param.min} to {param.max}"]
