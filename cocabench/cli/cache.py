"""cocabench cache: what is cached of earlier runs, and how to remove it."""

from __future__ import annotations

import json
from datetime import datetime

import typer
from rich.markup import escape

from cocabench.cli.console import out, print_table
from cocabench.cli.options import Cache, Json
from cocabench.cli.usage import Commands
from cocabench.core.errors import ResultsError

app = typer.Typer(cls=Commands, help="What runs cache: features, captions, scores.", no_args_is_help=True)


@app.command()
def info(
    cache: Cache = None,
    as_json: Json = False,
) -> None:
    """Where the cache is, what it holds, and how large it is."""
    from cocabench.core.cache import DiskCache, size_limit, spaces_folder

    held = DiskCache(folder := spaces_folder(cache), size_limit()).usage()
    if as_json:
        table = {"folder": str(folder), "limit": size_limit(), "spaces": [one._asdict() for one in held]}
        print(json.dumps(table, ensure_ascii=False))
        return
    lines = [[escape(one.label), f"{one.entries:,}", _size(one.size), _date(one.used)] for one in held]
    if lines:
        print_table(["cached", "entries", "size", "last used"], lines)
    total = _size(sum(one.size for one in held))
    out.print(f"{escape(str(folder))}: {total} of at most {_size(size_limit())} (COCABENCH_CACHE_GB)", soft_wrap=True)


@app.command()
def clear(cache: Cache = None) -> None:
    """Remove everything that is cached. Results stay, and what `cocabench setup` fetched."""
    from cocabench.core.cache import DiskCache, size_limit, spaces_folder

    folder = spaces_folder(cache)
    try:
        freed = DiskCache(folder, size_limit()).clear()
    except OSError as error:
        raise ResultsError(str(error.filename), f"cannot be removed ({error.strerror})") from None
    out.print(f"{escape(str(folder))}: {_size(freed)} removed", soft_wrap=True)


def _size(n: float) -> str:
    return f"{n / 1e9:.1f} GB" if n >= 1e9 else f"{n / 1e6:.1f} MB"


def _date(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M")
