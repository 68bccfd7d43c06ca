"""cocabench list"""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.markup import escape

from cocabench.cli import names
from cocabench.cli.console import print_table
from cocabench.cli.options import Json
from cocabench.cli.usage import Commands

app = typer.Typer(cls=Commands, help="List tasks, models and metrics.", no_args_is_help=True)
Wanted = Annotated[
    list[str] | None,
    typer.Argument(metavar="NAME…", autocompletion=names.tasks, help="Only these tasks and groups."),
]


def _show(header: list[str], rows: list[list[str]], as_json: bool) -> None:
    if as_json:
        print(json.dumps([dict(zip(header, row, strict=True)) for row in rows], ensure_ascii=False))
    else:
        print_table(header, [[escape(cell) for cell in row] for row in rows])


@app.command()
def tasks(wanted: Wanted = None, as_json: Json = False) -> None:
    """The tasks that --tasks takes, with their groups."""
    from cocabench.specs.registry import all_tasks, find_tasks

    specs = [task.spec for task in (find_tasks(wanted) if wanted else all_tasks().values())]
    rows = [[spec.name, spec.evaluator, spec.primary, ", ".join(spec.groups), spec.summary] for spec in specs]
    _show(["task", "evaluator", "primary", "groups", "summary"], rows, as_json)


@app.command()
def models(as_json: Json = False) -> None:
    """The architectures that --model takes, with the default tag and the other published ones."""
    import open_clip

    from cocabench.demo import MODELS
    from cocabench.models.open_clip.blueprint import default_tag

    rows = [[f"demo/{name}", "", "comes with cocabench"] for name in MODELS]
    for name in open_clip.list_models():
        tags = open_clip.list_pretrained_tags_by_model(name)
        rows.append([name, default_tag(name, tags), ", ".join(tags)])
    _show(["model", "default", "tags"], rows, as_json)


@app.command()
def metrics(as_json: Json = False) -> None:
    """The metrics, with what they mean."""
    from cocabench.kinds import every

    known = [metric for kind in every() for metric in kind.listed()]
    rows = [[m.name, m.unit, "higher" if m.higher_is_better else "lower", m.summary] for m in known]
    _show(["metric", "unit", "better", "summary"], rows, as_json)
