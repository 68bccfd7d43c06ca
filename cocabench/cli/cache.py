"""cocabench cache: what is kept of earlier runs, and how to be rid of it."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Annotated

import typer
from rich.markup import escape

from cocabench.cli.console import out, print_table
from cocabench.cli.options import Cache
from cocabench.cli.usage import Commands

app = typer.Typer(cls=Commands, help="The features that runs keep.", no_args_is_help=True)


@app.command()
def info(
    cache: Cache = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object.")] = False,
) -> None:
    """Where features are kept, of which models, and how large they are."""
    from cocabench.models.features import existing, folder, limit

    where, cache_there = folder(), existing(folder())
    held = cache_there.usage() if cache_there else []
    if as_json:
        rows = [one._asdict() for one in held]
        print(json.dumps({"folder": str(where), "limit": limit(), "collections": rows}, ensure_ascii=False))
        return
    if held:
        table = [[escape(one.label), f"{one.features:,}", _size(one.size), _date(one.used)] for one in held]
        print_table(["model", "features", "size", "last used"], table)
    total = _size(sum(one.size for one in held))
    out.print(f"{escape(str(where))}: {total} of at most {_size(limit())} (COCABENCH_CACHE_GB)", soft_wrap=True)


@app.command()
def clear(cache: Cache = None) -> None:
    """Remove all features that are kept. Results and caption scores stay."""
    from cocabench.models.features import clear as remove
    from cocabench.models.features import folder

    freed = remove(folder())
    out.print(f"{escape(str(folder()))}: {_size(freed)} removed", soft_wrap=True)


def _size(n: float) -> str:
    return f"{n / 1e9:.1f} GB" if n >= 1e9 else f"{n / 1e6:.1f} MB"


def _date(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M")
