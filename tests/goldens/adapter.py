"""All that the goldens know of cocabench's inside: how a command is called in this process, and where the demo lies."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import tarfile
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

from PIL import Image

import cocabench
from cocabench.cli import main


class Outcome(NamedTuple):
    """What a command left: its exit code, and what it printed on stdout and stderr."""

    code: int
    out: str
    err: str


def call(*words: str, env: Mapping[str, str] | None = None) -> Outcome:
    """Run ``cocabench WORDS`` in this process, in the current folder."""
    out, err = io.StringIO(), io.StringIO()
    code: object = 0
    of_pytest = signal.getsignal(signal.SIGINT)
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.dict(os.environ, {"NO_COLOR": "1", **(env or {})}))
        stack.enter_context(mock.patch("sys.argv", ["cocabench", *words]))
        stack.enter_context(contextlib.redirect_stdout(out))
        stack.enter_context(contextlib.redirect_stderr(err))
        try:
            main()
        except SystemExit as end:
            code = end.code
        finally:
            signal.signal(signal.SIGINT, of_pytest)
    return Outcome(code if isinstance(code, int) else 0 if code is None else 1, out.getvalue(), err.getvalue())


class Emoji(NamedTuple):
    """One of the demo's drawings: what is known of it ("id", "name", "captions", "subgroup" …), and the picture."""

    info: dict[str, Any]
    picture: Image.Image


@cache
def emoji() -> tuple[Emoji, ...]:
    """Return the drawings of the demo's first shard, on white, in its order."""
    (shard,) = Path(cocabench.__file__).parent.rglob("emoji-00000.tar*")
    return tuple(_read(shard))


def _read(shard: Path) -> Iterator[Emoji]:
    with tarfile.open(shard) as tar:
        content = {m.name: file.read() for m in tar if (file := tar.extractfile(m)) is not None}
    for name in sorted(content):
        if name.endswith(".json"):
            drawing = Image.open(io.BytesIO(content[name.removesuffix("json") + "png"])).convert("RGBA")
            white = Image.new("RGBA", drawing.size, "white")
            yield Emoji(json.loads(content[name]), Image.alpha_composite(white, drawing).convert("RGB"))
