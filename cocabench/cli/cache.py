"""cocabench cache: what is kept of earlier runs, and how to be rid of it."""

from __future__ import annotations

import json
from datetime import datetime

import typer
from rich.markup import escape

from cocabench.cli.console import out, print_table
from cocabench.cli.options import Cache, Json
from cocabench.cli.usage import Commands
from cocabench.core.errors import ResultsError

app = typer.Typer(cls=Commands, help="The features and caption scores that runs keep.", no_args_is_help=True)


@app.command()
def info(
    cache: Cache = None,
    as_json: Json = False,
) -> None:
    """Where features and caption scores are kept, and how large they are."""
    from cocabench.core import cachedir
    from cocabench.core.cache import DiskCache, spaces_folder
    from cocabench.models.features import existing, folder

    where, cache_there = cachedir.location(), existing(folder())
    held = cache_there.usage() if cache_there else []
    spaces = DiskCache(spaces_folder(), cachedir.limit()).usage()
    if as_json:
        rows = [one._asdict() for one in held]
        table = {"folder": str(where), "limit": cachedir.limit(), "collections": rows}
        table |= {"spaces": [one._asdict() for one in spaces]}
        print(json.dumps(table, ensure_ascii=False))
        return
    lines = [[escape(one.label), f"{one.features:,}", _size(one.size), _date(one.used)] for one in held]
    lines += [[escape(one.label), f"{one.entries:,}", _size(one.size), _date(one.used)] for one in spaces]
    if lines:
        print_table(["kept", "entries", "size", "last used"], lines)
    total = _size(sum(one.size for one in held) + sum(one.size for one in spaces))
    out.print(
        f"{escape(str(where))}: {total} of at most {_size(cachedir.limit())} (COCABENCH_CACHE_GB)", soft_wrap=True
    )


@app.command()
def clear(cache: Cache = None) -> None:
    """Remove all features and caption scores that are kept. Results stay, and what `cocabench setup` fetched."""
    from cocabench.core import cachedir
    from cocabench.core.cache import DiskCache, spaces_folder
    from cocabench.models.features import clear as remove
    from cocabench.models.features import folder

    try:
        freed = remove(folder()) + DiskCache(spaces_folder(), cachedir.limit()).clear()
    except OSError as error:
        raise ResultsError(str(error.filename), f"cannot be removed ({error.strerror})") from None
    out.print(f"{escape(str(cachedir.location()))}: {_size(freed)} removed", soft_wrap=True)


def _size(n: float) -> str:
    return f"{n / 1e9:.1f} GB" if n >= 1e9 else f"{n / 1e6:.1f} MB"


def _date(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M")
