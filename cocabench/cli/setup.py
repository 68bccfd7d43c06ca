"""cocabench setup: fetch what a metric needs and pip cannot bring."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cocabench.cli import names
from cocabench.cli.console import out
from cocabench.cli.options import option
from cocabench.cli.usage import Commands

app = typer.Typer(cls=Commands, help="Fetch what a metric needs beyond pip's packages.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    pass


@app.command()
def spice(
    corenlp: Annotated[Path | None, option(metavar="DIR", help="A folder that holds the CoreNLP 3.6.0 jars.")] = None,
) -> None:
    """Put SPICE's CoreNLP 3.6.0 jars into the cache: from a folder, by Maven, or from the Stanford site."""
    from cocabench.captioneval import corenlp as jars

    out.print(f"SPICE can run; CoreNLP 3.6.0 lies in {jars.setup(corenlp)}", soft_wrap=True)


@app.command()
def clipscore(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            autocompletion=names.models,
            help="The scorer, as after --model: ViT-B-32:openai is the published one.",
        ),
    ],
) -> None:
    """Fetch the weights of the model that CLIPScore scores with."""
    from cocabench.specs.registry import FailedSource, one_model

    plan = one_model(model, download=True)
    if isinstance(plan, FailedSource):
        raise plan.error
    out.print(f"CLIPScore can run with {plan.id}", soft_wrap=True)
